"""Progress of a job: frames of this call, and what all workers have finished."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from time import monotonic

from rtface.errors import RtfaceError, log
from rtface.jobs.folder import JobFolder
from rtface.jobs.leases import Leases
from rtface.jobs.plan import JobPlan
from rtface.jobs.status import write_progress
from rtface.jobs.worker import Step
from rtface.pipeline.progress import PLAIN_INTERVAL, Progress, Show


class JobProgress:
    """Progress of a job, from a worker in this process and from what all have finished.

    Args:
        folder, plan: of the job.
        show: called with each `Progress`; None shows nothing.

    Attributes:
        first_frame_s: seconds to the first frame of this call; None before it.
    """

    def __init__(self, folder: JobFolder, plan: JobPlan, show: Show | None) -> None:
        self._folder, self._plan, self._show = folder, plan, show
        self._leases = Leases(self._folder, "")
        self._finished = self._folder.finished()
        self._before = self._done_s = sum(map(self._plan.seconds, self._finished))
        self._began = monotonic()
        self._frames, self._last, self._most = 0, (0, self._began), 0.0
        self._written_at = self._began
        self.first_frame_s: float | None = None
        self._fps = 0.0
        self._left: tuple[float, float] | None = None  # seconds left, and when that was known

    def __call__(self, step: Step) -> None:
        """Tells of a frame of the worker in this process."""
        self._frames = step.frames
        self._write([step])

    def look(self, steps: Iterable[Step] = ()) -> None:
        """Sees what was finished, and tells of workers in other processes."""
        with suppress(RtfaceError):
            self._finished = self._folder.finished()
            self._done_s = sum(map(self._plan.seconds, self._finished))
            left = write_progress(self._folder, self._plan, self._leases).time_left_s
            self._left = None if left is None else (left, monotonic())
        if found := list(steps):
            self._frames = sum(step.frames for step in found)
            if (now := monotonic()) - self._written_at >= PLAIN_INTERVAL:
                self._written_at = now
                for number, step in enumerate(found):
                    log.info(
                        "worker %d: segment %d, %.0f s of it, %d frames so far",
                        number,
                        step.segment,
                        step.seconds,
                        step.frames,
                    )
            self._write(found)

    def _write(self, steps: list[Step]) -> None:
        if steps and self.first_frame_s is None:
            self.first_frame_s = round(monotonic() - self._began, 3)
        if self._show is None:
            return
        now, (count, since), left = monotonic(), self._last, self._left
        if now - since >= 1.0:
            self._fps, self._last = max(0, self._frames - count) / (now - since), (self._frames, now)
        done = self._done_s + sum(step.seconds for step in steps if step.segment not in self._finished)
        done = self._most = max(self._most, done)  # an encoder may still be ending the segment before
        faces = max((step.faces for step in steps), default=0)
        left_s = None if left is None else max(0.0, left[0] - (now - left[1]))
        self._show(Progress(self._frames, done, self._plan.duration_s, self._fps, faces, self._before, left_s))
