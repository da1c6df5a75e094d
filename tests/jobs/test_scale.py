"""A job enlarges its film as a plain run does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rtface.config.options import Options
from rtface.jobs.job import FilmJob
from rtface.pipeline.film import run_file
from rtface.trust.verify import verify
from tests.jobs import films
from tests.pipeline.fakes import portrait
from tests.pipeline.run_media import decoded, write_film


@pytest.mark.slow
def test_a_job_makes_the_frames_of_a_plain_run(tmp_path: Path) -> None:
    source = write_film(tmp_path / "in.mkv", (portrait(160, 90, shift=(0.5 * t, 0.0))[0] for t in range(40)))
    options = Options.of({"codec": "ffv1", "scale": "180p", "correct": "never"})
    run_file(source, tmp_path / "plain.mkv", options)
    job = FilmJob.open(source, tmp_path / "job.mkv", options, length=films.LENGTH)
    assert isinstance(job, FilmJob) and len(job.plan) > 1 and job.plan.size == (160, 90, "yuv420p")
    job.run()
    frames = decoded(tmp_path / "job.mkv", "yuv420p")
    assert frames[0].shape == (270, 320) and np.array_equal(frames, decoded(tmp_path / "plain.mkv", "yuv420p"))
    assert not verify(tmp_path / "job.mkv", input=source).problems
