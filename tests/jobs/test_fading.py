"""A job changes whole frames as a plain run does: it enlarges them, and takes out fading by the curve of its plan."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rtface.config.options import Options
from rtface.jobs.job import FilmJob
from rtface.pipeline.film import run_file
from rtface.trust.verify import verify
from tests.jobs import films
from tests.pipeline.fakes import portrait
from tests.pipeline.run_media import decoded, write_film

POWERS = np.array([0.4, 0.9, 0.9])
NOTHING = {"codec": "ffv1", "correct": "never"}
RESTORE = {**NOTHING, "colour": "restore"}


def old_film(path: Path) -> Path:
    pictures = (portrait(shift=(0.5 * t, 0.0), blur=1.0)[0] for t in range(40))
    return write_film(path, (np.rint(255 * (0.07 + 0.93 * one / 255) ** POWERS).astype(np.uint8) for one in pictures))


def small_film(path: Path) -> Path:
    return write_film(path, (portrait(160, 90, shift=(0.5 * t, 0.0))[0] for t in range(40)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("made", "options", "shape"),
    [(old_film, RESTORE, (270, 320)), (small_film, {**NOTHING, "scale": "180p"}, (270, 320))],
)
def test_a_job_makes_the_frames_of_a_plain_run(
    made: Callable[[Path], Path], options: dict[str, Any], shape: tuple[int, int], tmp_path: Path
) -> None:
    source = made(tmp_path / "in.mkv")
    run_file(source, tmp_path / "plain.mkv", Options.of(options))
    job = FilmJob.open(source, tmp_path / "job.mkv", Options.of(options), length=films.LENGTH)
    assert isinstance(job, FilmJob) and len(job.plan) > 1 and (job.plan.curve is not None) == (made is old_film)
    job.run()
    frames = decoded(tmp_path / "job.mkv", "yuv420p")
    assert frames[0].shape == shape and np.array_equal(frames, decoded(tmp_path / "plain.mkv", "yuv420p"))
    assert not verify(tmp_path / "job.mkv", input=source).problems
