"""How far a job is: what is finished of it, and the progress of the call that works on it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from time import monotonic
from typing import Any

from rtface.errors import RtfaceError
from rtface.jobs.folder import JobFolder
from rtface.jobs.plan import JobPlan
from rtface.jobs.worker import Step
from rtface.pipeline.progress import Progress, Show

# Seconds between two looks at what is finished, with a mark of the speed; and the marks of the recent speed.
_LOOK_S, _RECENT = 1.0, 60


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A job.

    Attributes:
        state: "working", or without a process that works on it "waiting" (segments are missing) or "ready" (all are
            finished).
        input, output: paths.
        segments, finished: number of all and of the finished segments.
        duration_s, done_s: seconds of the film, and of its finished segments.
    """

    state: str
    input: str
    output: str
    segments: int
    finished: int
    duration_s: float
    done_s: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def read_status(folder: JobFolder) -> JobStatus:
    """The state of a job.

    Raises:
        InputError: there is no job, or it cannot be read.
    """
    plan = JobPlan.load(folder)
    finished = {number for number in folder.finished() if number < len(plan)}
    return JobStatus(
        "working" if folder.at_work else "ready" if len(finished) == len(plan) else "waiting",
        str(plan.source),
        str(plan.target),
        len(plan),
        len(finished),
        round(plan.duration_s, 3),
        round(sum(map(plan.seconds, finished)), 3),
    )


class JobProgress:
    """Progress of a job, from its workers and from what is finished.

    Args:
        folder, plan: of the job.
        show: called with each `Progress`; None shows nothing.
        clock: seconds, monotonic.

    Attributes:
        first_frame_s: seconds to the first frame of this call; None before it.
    """

    def __init__(
        self, folder: JobFolder, plan: JobPlan, show: Show | None, clock: Callable[[], float] = monotonic
    ) -> None:
        self._folder, self._plan, self._show, self._clock = folder, plan, show, clock
        self._finished = folder.finished()
        self._before = self._done_s = self._finished_s = sum(map(plan.seconds, self._finished))
        self._began = clock()
        self._looked_at, self._frames, self._fps = self._began - _LOOK_S, 0, 0.0
        self._first: tuple[float, float] | None = None  # when the first frame came, and seconds of the film by then
        self._marks: deque[tuple[float, float, int]] = deque(maxlen=_RECENT)  # the same of late, and frames
        self.first_frame_s: float | None = None

    def __call__(self, steps: Iterable[Step] = ()) -> None:
        """Shows where the workers are."""
        steps, now = list(steps), self._clock()
        if look := now - self._looked_at >= _LOOK_S:
            self._looked_at = now
            with suppress(RtfaceError):  # whoever writes a segment meets the same fault and says it
                self._finished = self._folder.finished()
                self._finished_s = sum(map(self._plan.seconds, self._finished))
        done = self._finished_s + sum(step.seconds for step in steps if step.segment not in self._finished)
        self._done_s = max(self._done_s, done)  # an encoder may still be ending the segment before
        if not steps:
            return
        self._frames = max(self._frames, sum(step.frames for step in steps))
        if self._first is None:
            self._first, self.first_frame_s = (now, self._done_s), round(now - self._began, 3)
        if look:
            if self._marks and now > self._marks[-1][0]:
                self._fps = (self._frames - self._marks[-1][2]) / (now - self._marks[-1][0])
            self._marks.append((now, self._done_s, self._frames))
        if self._show is not None:
            left, faces = self._left(now), max(step.faces for step in steps)
            self._show(
                Progress(
                    self._frames,
                    self._done_s,
                    self._plan.duration_s,
                    self._fps,
                    faces,
                    self._before,
                    left,
                )
            )

    def _left(self, now: float) -> float | None:
        """Seconds until the film is whole, by the speed of late; None in the first second of work."""
        if self._first is None or now - self._first[0] < _LOOK_S:
            return None
        since, done = self._marks[0][:2] if self._marks and now - self._marks[0][0] >= _LOOK_S else self._first
        speed = (self._done_s - done) / (now - since)
        return (self._plan.duration_s - self._done_s) / speed + self._plan.join_s if speed else None
