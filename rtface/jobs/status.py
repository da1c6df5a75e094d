"""The state of a job in figures: what is finished, who works on what, and the time that is left."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from time import monotonic
from typing import Any

from rtface.errors import RtfaceError, log
from rtface.jobs.folder import JobFolder
from rtface.jobs.plan import JobPlan
from rtface.jobs.worker import Step
from rtface.pipeline.progress import PLAIN_INTERVAL, Progress, Show
from rtface.util.foreign import Shape, count, none_or, number, row

# Seconds between two looks at what is finished, with a mark of the speed; and the marks of the recent speed.
_LOOK_S, _RECENT = 1.0, 60
# Part of the time left by which it may be wrong at any time.
_LEAST_SPREAD = 0.1
_STATES = ("searching", "working", "joining")
_SHAPE: Shape = {
    "state": lambda state: state in _STATES,
    "done_s": number,
    **dict.fromkeys(("speed", "time_left_s"), none_or(number)),
    "time_left_range_s": none_or(row(number, number)),
    "workers": [{"segment": count, "seconds": number, "faces": count, "frames": count}],
}


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A job.

    Attributes:
        state: "searching" (for faces whose numbers or persons options name), "working", "joining", or without a process
            that works on it "waiting" (segments are missing) or "ready" (all are finished).
        input, output: paths.
        segments, finished: number of all and of the finished segments.
        duration_s, done_s: seconds of the film, and of it that are done.
        time_left_s: until the film is whole; None before that is known.
        time_left_range_s: least and most that it may be, by how much the speed has varied.
        speed: of all workers together, seconds of the film a second.
        workers: where each is.
    """

    state: str
    input: str
    output: str
    segments: int
    finished: int
    duration_s: float
    done_s: float
    time_left_s: float | None
    time_left_range_s: tuple[float, float] | None
    speed: float | None
    workers: list[Step]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def read_status(folder: JobFolder) -> JobStatus:
    """The state of a job, as the process that works on it wrote it last.

    Raises:
        InputError: there is no job, or it cannot be read.
    """
    plan = JobPlan.load(folder)
    finished = {n for n in folder.finished() if n < len(plan)}
    said: dict[str, Any] = (folder.read(folder.progress, _SHAPE) if folder.at_work else None) or {
        "state": "ready" if len(finished) == len(plan) else "waiting",
        "done_s": round(sum(map(plan.seconds, finished)), 3),
        **dict.fromkeys(("speed", "time_left_s", "time_left_range_s")),
        "workers": [],
    }
    return JobStatus(
        said["state"],
        str(plan.source),
        str(plan.target),
        len(plan),
        len(finished),
        round(plan.duration_s, 3),
        said["done_s"],
        said["time_left_s"],
        said["time_left_range_s"] and tuple(said["time_left_range_s"]),
        said["speed"],
        [Step(**at) for at in said["workers"]],
    )


class JobProgress:
    """Progress of a job, from its workers and from what is finished; written to progress.json, too.

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
        self._began = self._said_at = clock()
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
            self.write("working", steps)
        if len(steps) > 1 and now - self._said_at >= PLAIN_INTERVAL:
            self._said_at = now
            for at in steps:
                log.info("segment %d: %.0f s of it, %d frames so far", at.segment, at.seconds, at.frames)
        if self._show is not None:
            left, faces = self._left(self._speeds(now)), max(step.faces for step in steps)
            self._show(
                Progress(
                    self._frames,
                    self._done_s,
                    self._plan.duration_s,
                    self._fps,
                    faces,
                    self._before,
                    None if left is None else sum(left) / 2,
                )
            )

    def write(self, state: str, steps: Iterable[Step] = ()) -> None:
        """Writes the state to progress.json, for ``rtface status`` and a page that shows it."""
        speeds = self._speeds(self._clock())
        left = self._left(speeds)
        with suppress(RtfaceError):
            self._folder.write(
                self._folder.progress,
                {
                    "state": state,
                    "done_s": round(self._done_s, 3),
                    "speed": None if speeds is None else round(speeds[0], 3),
                    "time_left_s": None if left is None else round(sum(left) / 2, 1),
                    "time_left_range_s": None if left is None else [round(seconds, 1) for seconds in left],
                    "workers": [asdict(step) for step in steps],
                },
                sync=False,
            )

    def _speeds(self, now: float) -> tuple[float, float] | None:
        """Seconds of the film a second: of late, and since the first frame; None in the first second of work."""
        if self._first is None or now - self._first[0] < _LOOK_S:
            return None
        marks = self._first, self._marks[0][:2] if self._marks and now - self._marks[0][0] >= _LOOK_S else self._first
        whole, late = ((self._done_s - done) / (now - since) for since, done in marks)
        return late, whole

    def _left(self, speeds: tuple[float, float] | None) -> tuple[float, float] | None:
        """Seconds until the film is whole, at least and at most; None before that is known."""
        if speeds is None or min(speeds) <= 0:
            return None
        rest, join = self._plan.duration_s - self._done_s, self._plan.join_s
        return (
            join + rest / max(speeds) * (1 - _LEAST_SPREAD),
            join + rest / min(speeds) * (1 + _LEAST_SPREAD),
        )
