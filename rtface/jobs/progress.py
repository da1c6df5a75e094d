"""Shows the progress of a job in the process that coordinates it."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from time import monotonic

from rtface.errors import RtfaceError
from rtface.jobs.folder import JobFolder
from rtface.jobs.plan import JobPlan
from rtface.jobs.worker import Step
from rtface.pipeline.progress import Progress, Show

# Seconds between two checks for finished segments. The speed is measured over this time.
_POLL_S = 1.0


class JobProgress:
    """Computes a job's progress from its workers and finished segments.

    Args:
        folder, plan: folder and plan of the job.
        show: called with each `Progress`; if None, nothing is shown.

    Attributes:
        first_frame_s: seconds until the first frame of this call; None before that frame.
    """

    def __init__(self, folder: JobFolder, plan: JobPlan, show: Show | None) -> None:
        self._folder, self._plan, self._show = folder, plan, show
        self._finished = folder.finished()
        self._resumed_s = self._done_s = sum(map(plan.seconds, self._finished))
        self._started = self._polled = monotonic()
        self._frames = self._frames_before = 0
        self._fps = 0.0
        self.first_frame_s: float | None = None

    def __call__(self, steps: Iterable[Step]) -> None:
        """Shows the progress of the workers."""
        steps = list(steps)
        if not steps:
            return
        self._frames = max(self._frames, sum(step.frames for step in steps))
        now = monotonic()
        if self.first_frame_s is None:
            self.first_frame_s, self._polled = round(now - self._started, 3), now
        elif (elapsed := now - self._polled) >= _POLL_S:
            self._fps = (self._frames - self._frames_before) / elapsed
            self._polled, self._frames_before = now, self._frames
            with suppress(RtfaceError):  # the worker that writes a segment reports this
                self._finished = self._folder.finished()
        done_s = sum(map(self._plan.seconds, self._finished))
        done_s += sum(step.seconds for step in steps if step.segment not in self._finished)
        self._done_s = max(self._done_s, done_s)  # an encoder may still be finishing the previous segment
        if self._show is not None:
            faces = max(step.faces for step in steps)
            self._show(
                Progress(self._frames, self._done_s, self._plan.duration_s, self._fps, faces, resumed_s=self._resumed_s)
            )
