"""A job changes whole frames as a plain run does: it enlarges them, and takes out fading by the curve of its plan."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rtface.config.options import Options
from rtface.frame import Face
from rtface.jobs.job import FilmJob
from rtface.pipeline.film import run_file
from rtface.protocols import View
from rtface.tracking import NoTracker
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


class Watching(NoTracker):
    """Notes red less blue of the frames in which faces are looked for."""

    def __init__(self) -> None:
        super().__init__()
        self.casts: list[float] = []

    def update(self, view: View, time: float, *, cut: bool = False) -> tuple[Face, ...]:
        red, _, blue = view.thumbnail(64)[0].mean((0, 1))
        self.casts.append(red - blue)
        return ()


@pytest.mark.slow
def test_named_faces_are_looked_for_without_fading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, tracker = old_film(tmp_path / "in.mkv"), Watching()
    run_file(source, tmp_path / "plain.mkv", Options.of(RESTORE))
    monkeypatch.setattr("rtface.jobs.face_numbers.open_tracker", lambda *_: tracker)
    job = FilmJob.open(source, tmp_path / "job.mkv", Options.of(RESTORE | {"faces": "1"}), length=films.LENGTH)
    assert isinstance(job, FilmJob)
    job.find_numbers()
    red, _, blue = np.mean(decoded(tmp_path / "plain.mkv", "rgb24"), axis=(0, 1, 2))
    assert len(tracker.casts) == 40 and abs(np.mean(tracker.casts) - (red - blue)) < 3
