"""The whole report of a job is that of a run in one piece: figures, notes and warnings."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from rtface.config.options import Options
from rtface.errors import Interrupted
from rtface.jobs.job import FilmJob
from rtface.pipeline.film import run_file
from tests.jobs import films
from tests.media.test_combs import woven
from tests.pipeline.fakes import portrait
from tests.pipeline.run_media import write_film

LENGTH = Fraction(9, 25)
OTHER = {"seconds", "fps", "first_frame_s", "peak_rss_mb", "latency_ms", "stages_ms"}
"""Keys that the clock and the machine decide."""
UNASKED = ".rtface.json: what was done, where, and SHA-256 of the files"
"""The note that a job has and a run in one piece has not, unless it is asked for: on its sidecar."""
BORDERS = {"analysis"}
"""Means over the measurements of a track, which a job weighs by the frames of its segments."""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """0.96 s of a moving face, 160×96, with sound."""
    pictures = (portrait(160, 96, scale=0.6, blur=1.0, shift=(0.3 * t, 0.0))[0] for t in range(24))
    return write_film(tmp_path_factory.mktemp("film") / "in.mkv", pictures, options={"g": "1"}, sound=True)


def treatment(folder: Path, made_for: str) -> Path:
    path = folder / "treatment.json"
    path.write_text(
        json.dumps(
            {"version": 1, "input": made_for, "tracks": {number: {"on": True, "strength": 0.5} for number in (1, 7)}}
        )
    )
    return path


def shots(folder: Path) -> Path:
    path = folder / "shots.csv"
    path.write_text("start,end,strength,off\n0,0.3,0.5,\n0.3,0.6,,\n0.6,2,,1\n")
    return path


Case = Callable[[Path], dict[str, Any]]
CASES: dict[str, Case] = {
    "another film's treatment": lambda at: {"treatment": treatment(at, "elsewhere/another.mkv")},
    "treatment and pairs": lambda at: {
        "treatment": treatment(at, "in.mkv"),
        "compare": at / "pairs.mkv",
        "crf": 0,
        "grain": "none",
    },
    "shots, stage, pairs": lambda at: {
        "shots": shots(at),
        "stages": ("tests.stages.trial_stages.Bar",),
        "compare": at / "pairs.mkv",
        "sidecar": True,
    },
    "cut, without sound": lambda at: {"start": 0.2, "end": 0.8, "drop": ("audio",), "correct": "always"},
    "faces that never came": lambda at: {"faces": "1,5", "correct": "always", "timecode": "10:00:00:00"},
    "no face": lambda at: {"tracker": "none", "sidecar": True, "compare": at / "pairs.mkv"},
    "at most one face": lambda at: {
        "max_faces": 1,
        "strength": 0,
        "stages": ("tests.stages.trial_stages.Bar",),
        "timecode": "01:00:00:00",
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_the_report_of_a_job_is_that_of_one_piece(case: str, source: Path, tmp_path: Path) -> None:
    assert differences(source, tmp_path, CASES[case]) == {}


@pytest.mark.slow
def test_the_report_of_scans_is_that_of_one_piece(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "scans"
    folder.mkdir()
    with av.open(str(source)) as film:
        for number, frame in enumerate(film.decode(video=0)):
            if number != 11:
                frame.to_image().save(folder / f"{number:03}.png")
    (folder / "013.png").write_bytes(b"damaged")
    (folder / "notes.txt").touch()
    options = {"sequence": True, "fps": "25", "faces": "1", "correct": "always", "sidecar": True}
    assert differences(folder, tmp_path, lambda at: {**options, "shots": shots(at)}) == {}
    options["codec"] = "png"
    assert differences(folder, tmp_path / "stills", lambda at: options, "b/") == {}
    one, job = (films.files(tmp_path / "stills" / name / "b") for name in ("one", "job"))
    assert one == job and len(one) == 23 and one["013.png"] == b"damaged"


def differences(source: Path, tmp_path: Path, case: Case, output: str = "out.mkv") -> dict[str, tuple[Any, Any]]:
    """What a job reports otherwise than a run in one piece does."""
    said: list[dict[str, Any]] = []
    for name, run in ("one", run_file), ("job", as_job):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        options = Options.of({"codec": "ffv1", "overwrite": True, "report": folder / "report.json", **case(folder)})
        report = run(source, f"{folder}/{output}", options)
        for values in (report.to_dict(), json.loads((folder / "report.json").read_text())):
            text = json.dumps({key: value for key, value in values.items() if key not in OTHER})
            said.append(plain(json.loads(text.replace(str(folder), "")), sidecar=options.sidecar or name == "one"))
    pairs = zip(said[:2], said[2:], strict=True)
    return {key: (value, job[key]) for one, job in pairs for key, value in one.items() if value != job[key]}


def plain(report: dict[str, Any], *, sidecar: bool) -> dict[str, Any]:
    """A report without the named exceptions."""
    report["notes"] = [note for note in report["notes"] if sidecar or not note.endswith(UNASKED)]
    del report["frames_in"]  # one piece reads the frame behind its cut
    for track in report["tracks"]:
        for values in (track["factors"], track["verdict"]):  # means of segments were rounded
            values |= {name: round(value, 2) for name, value in values.items() if isinstance(value, float)}
        for values in (track, track["treatment"]):
            for key in BORDERS & values.keys():
                del values[key]
    return report


def as_job(input: Path, output: str, options: Options) -> Any:
    job = FilmJob.open(input, output, options, length=LENGTH)
    assert isinstance(job, FilmJob) and len(job.plan) > 1, job
    return job.run()


def test_a_job_says_the_share_of_combed_frames(tmp_path: Path) -> None:
    pictures = (np.repeat(woven(2 * t, 2 * t + 1, "tff")[..., None], 3, 2) for t in range(27))
    source = write_film(tmp_path / "in.mkv", pictures, codec="libx264", options={"crf": "20", "g": "9"})
    options = Options.of({"correct": "never", "tracker": "none"})
    one, job = run_file(source, tmp_path / "one.mkv", options), as_job(source, f"{tmp_path}/job.mkv", options)
    assert one.warnings == job.warnings and "100 % of its frames are combed" in job.warnings[0]


def test_a_job_joins_without_the_files_that_its_options_named(source: Path, tmp_path: Path) -> None:
    file = shots(tmp_path)
    job = FilmJob.open(source, tmp_path / "out.mkv", Options.of({"codec": "ffv1", "shots": file}), length=LENGTH)
    assert isinstance(job, FilmJob)
    report = job.run(progress=lambda _: file.unlink(missing_ok=True))
    assert not file.exists() and report.frames_out == 24


def test_who_stops_behind_the_join_learns_how_to_go_on(source: Path, tmp_path: Path) -> None:
    stop = threading.Event()
    job = FilmJob.open(source, tmp_path / "out.mkv", Options.of({"codec": "ffv1"}), length=LENGTH)
    assert isinstance(job, FilmJob)
    with pytest.raises(Interrupted, match="the same command continues"):
        job.run(stop=stop, building=lambda *_: stop.set())
    assert job.folder.path.exists() and (tmp_path / "out.mkv").exists()
    assert job.run().frames_out == 24
