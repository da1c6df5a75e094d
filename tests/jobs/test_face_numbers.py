"""A job whose options name tracks or persons makes the film of a run of one piece, with the same numbers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from rtface.config.options import Options
from rtface.engine import learned
from rtface.errors import UsageError
from rtface.frame import Face
from rtface.jobs.face_numbers import FaceNumbers, NumberedTracker
from rtface.jobs.folder import JobFolder
from rtface.jobs.job import FilmJob
from rtface.jobs.planning import names_faces
from rtface.pipeline.film import run_file
from rtface.tracking import NoTracker
from tests.jobs import films
from tests.jobs.test_joined import in_segments, same_film
from tests.persons.made import BEN, at, learnt
from tests.pipeline.fakes import FakeEngine, FakeEngines
from tests.pipeline.run_media import decoded, write_film
from tests.pipeline.test_persons import by_colour, tinted


@pytest.fixture(autouse=True)
def network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtface.persons.network.PersonNetwork", lambda: by_colour)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two people in turn over six cuts; segments of a second begin within shots."""

    def frames() -> Iterator[np.ndarray]:
        for shot in range(6):
            yield from (tinted(shot % 2, (60.0, -60.0)[shot % 2] + t) for t in range(8))

    return write_film(tmp_path_factory.mktemp("film") / "two.mkv", frames(), rate=10)


def named(kind: str, folder: Path) -> dict[str, Any]:
    """Options that name tracks or persons."""
    path = folder / "named"
    if kind == "treatment":
        path.write_text(
            json.dumps(
                {
                    "version": 1,
                    "tracks": {"3": {"on": False}, "4": {"strength": 0.5}},
                    "persons": {"P2": {"strength": 0.25}},
                }
            )
        )
        return {"treatment": path}
    path = path.with_suffix(".png")
    cv2.imwrite(str(path), tinted(1)[:, :, ::-1])
    return {"person": (f"anna={path}",), "faces": "anna"}


@pytest.mark.parametrize(
    "kind",
    ["treatment", pytest.param("photo", marks=pytest.mark.slow)],
)
def test_the_film_is_that_of_one_piece(kind: str, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RTFACE_CONFIG_DIR", str(tmp_path))
    own = FakeEngine("fake@anna", amount=0.3)
    monkeypatch.setattr(FakeEngines, "of_person", lambda self, engine, person: own if person == "anna" else engine)
    options = Options(codec="ffv1", correct="always", **named(kind, tmp_path))
    one, other = tmp_path / "one.mkv", tmp_path / "other.mkv"
    job = FilmJob.open(film, other, options, length=films.LENGTH)
    assert isinstance(job, FilmJob)
    job.find_numbers()
    first, second = run_file(film, one, options), in_segments(film, other, options, stop_at=24)
    same_film(one, other)
    assert 0 < first.frames_corrected < 48 or kind == "treatment"
    restored = {t.person for t in second.tracks if t.treatment["engine"] == own.name}
    assert restored == ({"anna"} if kind == "photo" else set())
    assert [(t.id, t.person, t.frames_corrected) for t in first.tracks] == [
        (t.id, t.person, t.frames_corrected) for t in second.tracks
    ]


@pytest.mark.slow
def test_a_border_does_not_end_a_fade_of_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Anna is recognised in the midst of a shot, ten frames before a border at which the job is continued."""
    monkeypatch.setattr(films, "LENGTH", Fraction(12, 5))
    monkeypatch.setenv("RTFACE_CONFIG_DIR", str(tmp_path))
    learnt(learned.path_of("anna"), at(BEN, 0.05))
    own = FakeEngine("fake@anna", amount=0.1)
    monkeypatch.setattr(FakeEngines, "of_person", lambda self, engine, person: own if person == "anna" else engine)
    film = write_film(tmp_path / "in.mkv", (tinted(int(k > 24), 0.2 * k) for k in range(86)))
    options = Options(codec="ffv1", person=("anna",))
    one, other = tmp_path / "one.mkv", tmp_path / "other.mkv"
    job = FilmJob.open(film, other, options, length=films.LENGTH)
    assert isinstance(job, FilmJob)
    job.find_numbers()
    run_file(film, one, options)
    in_segments(film, other, options, stop_at=75)
    before, *shown = (np.array(decoded(path)) for path in (film, one, other))
    fade, joined = (np.abs(frames - before)[40:80, 40:140, 110:210].mean((1, 2)) for frames in shown)
    assert fade.max() - fade[-1] > 3.0 > 10 * np.abs(np.diff(fade)).max()
    assert np.abs(joined - fade).max() < 0.02


_KILLED = """
import sys
from pathlib import Path
from rtface.jobs.job import FilmJob
from rtface.config.options import Options
from rtface.persons import network
from rtface.pipeline import runtime
from tests.jobs import films, killed_process
from tests.pipeline.fakes import FakeEngine
from tests.pipeline.run_media import Engines
from tests.pipeline.test_persons import by_colour

network.PersonNetwork = lambda: by_colour
runtime.EngineSet = lambda *a, **k: Engines(FakeEngine(amount=0.15))
killed_process.die_at(int(sys.argv[3]))
job = FilmJob.open(Path(sys.argv[1]), Path(sys.argv[2]), Options(codec="ffv1", correct="always", faces="P2"),
                   length=films.LENGTH)
job.run()
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_killed_job_continues_with_its_numbers(film: Path, tmp_path: Path):
    options = Options(codec="ffv1", correct="always", faces="P2")
    one, other = tmp_path / "one.mkv", tmp_path / "other.mkv"
    run_file(film, one, options)
    for step in (11, 23):  # while it searches, and while it makes segments
        done = subprocess.run([sys.executable, "-c", _KILLED, film, other, str(step)], timeout=60, check=False)
        assert done.returncode == -9
        job = FilmJob.open(film, other, options, length=films.LENGTH)
        assert isinstance(job, FilmJob)
        searched = FaceNumbers(job.folder, job.plan).searched
        assert 0 < searched < len(job.plan) if step == 11 else searched == len(job.plan) > job.finished_earlier > 0
        state = job.folder.numbers / "state.json"
        assert bool(json.loads(state.read_bytes())["persons"]) == (step == 11), "embeddings are kept after the search"
        assert state.stat().st_mode & 0o077 == 0, "readable by others"
    job.run()
    same_film(one, other)


def test_a_changed_treatment_file_is_noticed(film: Path, tmp_path: Path):
    options = Options(codec="ffv1", **named("treatment", tmp_path))
    FilmJob.open(film, tmp_path / "out.mkv", options, length=films.LENGTH)
    (tmp_path / "named").write_text('{"version": 1, "tracks": {}}')
    with pytest.raises(UsageError, match=r"the file of --treatment was .* when the job began"):
        FilmJob.open(film, tmp_path / "out.mkv", options, length=films.LENGTH)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, False),
        ({"stages": ("blur:faces=2",)}, True),
        ({"stages": ("blur:faces=largest",)}, False),
        ({"stages": ("tag:name=1=Anna",)}, True),
        ({"stages": ("tag:name=Anna",)}, False),
    ],
)
def test_options_that_name_faces(options: dict[str, Any], names: bool):
    assert names_faces(Options(**options)) is names


class Seen(NoTracker):
    """Two faces, each some pixels right of the other, with the tracker's own numbers."""

    def update(self, view: object, time: float, *, cut: bool = False) -> tuple[Face, ...]:
        return tuple(Face(own, np.array([x, 0.0, x + 40, 40]), np.zeros((5, 2))) for own, x in ((5, 0.0), (6, 90.0)))


def test_faces_get_the_number_of_their_place(tmp_path: Path, film: Path):
    job = FilmJob.open(film, tmp_path / "out.mkv", Options(faces="1"), length=films.LENGTH)
    assert isinstance(job, FilmJob)
    folder = JobFolder(job.folder.path)
    numbers = FaceNumbers(folder, job.plan)
    numbers.add([[0.1, [[8, 91, 0, 131, 40, "P2"], [3, 500, 0, 540, 40, "P1"]]]], None)
    tracker = NumberedTracker(Seen(), FaceNumbers(folder, job.plan))
    for time in (0.1, 0.2):  # on the second frame the search saw nothing
        assert [(face.track_id, face.person) for face in tracker.update(None, time)] == [(9, ""), (8, "P2")]  # type: ignore
