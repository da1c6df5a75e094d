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
from rtface.errors import Interrupted, OutputError, UsageError
from rtface.jobs.job import FilmJob
from rtface.pipeline.film import run_file
from tests.jobs import films
from tests.pipeline.run_media import film

LENGTH = Fraction(12, 25)
"""Of a segment."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return film(tmp_path_factory.mktemp("film") / "in.mkv", frames=36, sound=True)


def options(pairs: Path, **more: object) -> Options:
    return Options.of({"codec": "ffv1", "correct": "always", "compare": pairs, "crf": 0, **more})


def planned(source: Path, folder: Path, name: str = "pairs.mkv", **more: object) -> FilmJob:
    job = FilmJob.open(source, folder / "out.mkv", options(folder / name, **more), length=LENGTH)
    assert isinstance(job, FilmJob), job
    return job


def test_a_stopped_jobs_comparison_is_joined(made: Path, tmp_path: Path) -> None:
    """Corrected faces may differ slightly where another run of the chain continued."""
    name, more = "pairs.mp4", {"codec": "libx264", "crf": 12, "start": 0.2}
    stop, one, place = threading.Event(), tmp_path / "one", tmp_path / "job"
    for folder in (one, place):
        folder.mkdir()
    run_file(made, one / "out.mkv", options(one / name, **more))
    with pytest.raises(Interrupted):
        planned(made, place, name, **more).run(stop=stop, progress=lambda p: stop.set() if p.frames == 20 else None)
    job = planned(made, place, name, **more)
    assert 0 < job.finished_earlier < len(job.plan)
    report = job.run()
    assert sorted(path.name for path in place.iterdir()) == ["out.mkv", "out.mkv.rtface.json", name]
    assert films.video_times(one / name) == films.video_times(place / name)
    assert all(a < b for a, b in pairwise(films.decoding_times(place / name)))
    with av.open(str(one / name)) as a, av.open(str(place / name)) as b:
        assert [s.type for s in a.streams] == [s.type for s in b.streams] == ["video"]
        assert a.metadata == b.metadata and "rtface_engine" in map(str.lower, a.metadata)  # corrected faces
        for x, y in zip(a.decode(video=0), b.decode(video=0), strict=True):
            assert (x.width, x.height, x.format.name) == (y.width, y.height, y.format.name)
            error = np.square(x.to_ndarray(format="gray").astype(float) - y.to_ndarray(format="gray")).mean()
            assert error <= 255**2 / 10**4  # 40 dB
    assert report.frames_corrected > 28


def test_the_comparison_is_checked_before_the_work(made: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"not a film container \(\.avi\)"):
        planned(made, tmp_path, "pairs.avi")
    pairs = tmp_path / "pairs.mkv"
    pairs.write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"--compare .* exists already"):
        planned(made, tmp_path)
    pairs.unlink()
    planned(made, tmp_path)
    with pytest.raises(UsageError, match=r"--compare was .*pairs\.mkv when the job began, and is .*other\.mkv now"):
        planned(made, tmp_path, "other.mkv")
