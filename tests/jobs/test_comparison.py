"""A comparison that a job makes is that of one process."""

from __future__ import annotations

import threading
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from rtface.config.options import Options
from rtface.errors import Interrupted, UsageError
from rtface.jobs.job import FilmJob
from rtface.pipeline.film import run_file
from tests.jobs import films
from tests.pipeline.run_media import film

LENGTH = Fraction(12, 25)
"""Of a segment."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return film(tmp_path_factory.mktemp("film") / "in.mkv", frames=36, sound=True)


def planned(source: Path, folder: Path, name: str = "pairs.mkv", **more: object) -> FilmJob:
    options = Options.of({"codec": "ffv1", "correct": "always", "compare": folder / name, "crf": 0, **more})
    job = FilmJob.open(source, folder / "out.mkv", options, length=LENGTH)
    assert isinstance(job, FilmJob), job
    return job


def one_process(source: Path, folder: Path, name: str = "pairs.mkv", **more: object) -> Path:
    place = folder / "one"
    place.mkdir()
    run_file(
        source,
        place / "out.mkv",
        Options.of({"codec": "ffv1", "correct": "always", "compare": place / name, "crf": 0, **more}),
    )
    return place / name


def check_same(one: Path, other: Path, *, least_db: float) -> None:
    """Compares times, streams and frames."""
    assert films.video_times(one) == films.video_times(other)
    assert all(a < b for a, b in pairwise(films.decoding_times(other)))
    with av.open(str(one)) as a, av.open(str(other)) as b:
        assert [s.type for s in a.streams] == [s.type for s in b.streams] == ["video"]
        assert a.metadata == b.metadata and "rtface_engine" in map(str.lower, a.metadata)  # corrected faces
        for x, y in zip(a.decode(video=0), b.decode(video=0), strict=True):
            assert (x.width, x.height, x.format.name) == (y.width, y.height, y.format.name)
            error = np.square(x.to_ndarray(format="gray").astype(float) - y.to_ndarray(format="gray")).mean()
            assert error <= 255**2 / 10 ** (least_db / 10)


def test_a_stopped_jobs_comparison_is_joined(made: Path, tmp_path: Path) -> None:
    """Corrected faces may differ slightly where another run of the chain continued."""
    name, more = "pairs.mp4", {"codec": "libx264", "crf": 12, "start": 0.2}
    one, stop, place = one_process(made, tmp_path, name, **more), threading.Event(), tmp_path / "job"
    place.mkdir()
    with pytest.raises(Interrupted):
        planned(made, place, name, **more).run(stop=stop, progress=lambda p: stop.set() if p.frames == 20 else None)
    job = planned(made, place, name, **more)
    assert 0 < job.resumed < len(job.plan)
    report = job.run()
    assert sorted(path.name for path in place.iterdir()) == ["out.mkv", "out.mkv.rtface.json", name]
    check_same(one, place / name, least_db=40)
    assert report.frames_corrected > 28


@pytest.mark.slow
def test_segments_in_any_order_with_a_stage(made: Path, tmp_path: Path) -> None:
    """The left half is the input to the bit, and the right one the output."""
    job = planned(made, tmp_path, stages=("tests.stages.trial_stages.Bar",))
    for number in reversed(range(len(job.plan))):
        films.make_segment(job, number)
    job.run()
    with av.open(str(made)) as a, av.open(str(tmp_path / "pairs.mkv")) as b, av.open(str(tmp_path / "out.mkv")) as c:
        changed = 0
        for before, pair, after in zip(a.decode(video=0), b.decode(video=0), c.decode(video=0), strict=True):
            left, right = np.split(pair.to_ndarray()[: pair.height], 2, axis=1)
            source, output = (image.to_ndarray()[: image.height] for image in (before, after))
            assert np.array_equal(left, source) and np.array_equal(right, output)
            changed += not np.array_equal(left, right)
        assert changed > 30


@pytest.mark.slow
def test_a_damaged_comparison_is_made_again(made: Path, tmp_path: Path) -> None:
    job = planned(made, tmp_path)
    films.make_segment(job, 1)
    [path] = job.folder.segments.glob("*.comparison")
    path.unlink()
    said: list[str] = []
    job.run(notify=said.append)
    assert "1 segment has to be made again" in said[0]
    assert len(films.frame_hashes(tmp_path / "pairs.mkv")) == 36


def test_the_comparison_is_checked_before_the_work(made: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"avi names no film container"):
        planned(made, tmp_path, "pairs.avi")
    films.check_place(
        lambda path: planned(made, tmp_path, path.name), "--compare", tmp_path / "pairs.mkv", tmp_path / "other.mkv"
    )
