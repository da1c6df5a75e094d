"""The map of what was invented that a job makes is that of one process, also after an interruption."""

from __future__ import annotations

import threading
from pathlib import Path

import av
import numpy as np
import pytest

from rtface.config.options import Options
from rtface.errors import Interrupted
from rtface.jobs.job import FilmJob
from rtface.pipeline.film import run_file
from tests.jobs import films
from tests.pipeline.run_media import film


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return film(tmp_path_factory.mktemp("film") / "in.mkv", frames=60)


@pytest.fixture(scope="module")
def whole(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output and map of one process."""
    place = tmp_path_factory.mktemp("one")
    run_file(made, place / "out.mkv", options(place))
    return place


def options(folder: Path, **more: object) -> Options:
    return Options.of(
        {
            "codec": "ffv1",
            "correct": "always",
            "engine": "rtface-s",
            "device": "cpu",
            "invented": folder / "map.mkv",
            **more,
        }
    )


def planned(source: Path, folder: Path, **more: object) -> FilmJob:
    job = FilmJob.open(source, folder / "out.mkv", options(folder, **more), length=films.LENGTH)
    assert isinstance(job, FilmJob), job
    return job


def images(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as box:
        return [frame.to_ndarray(format="gray").astype(np.int16) for frame in box.decode(video=0)]


def check_same(one: Path, other: Path, *, most: float) -> None:
    """Compares times and samples; `most`: the mean difference of a frame's samples, of 255."""
    assert films.video_times(one) == films.video_times(other)
    for a, b in zip(images(one), images(other), strict=True):
        assert np.abs(a - b).mean() <= most


@pytest.mark.slow
def test_workers_continue_a_stopped_jobs_map(made: Path, whole: Path, tmp_path: Path) -> None:
    """Corrected faces may differ slightly where another run of the chain continued."""
    stop = threading.Event()
    with pytest.raises(Interrupted):
        planned(made, tmp_path).run(stop=stop, progress=lambda p: stop.set() if p.frames == 40 else None)
    job = planned(made, tmp_path)
    assert 0 < job.finished_earlier < len(job.plan)
    job.run(workers=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map.mkv", "out.mkv", "out.mkv.rtface.json"]
    for name in ("out.mkv", "map.mkv"):
        check_same(whole / name, tmp_path / name, most=0.2)
