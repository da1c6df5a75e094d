"""The state of a job in figures: what is finished, who works on what, and the time that is left."""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, cast

from rtface.errors import InputError
from rtface.jobs.faces_ahead import read_samples
from rtface.jobs.folder import JobFolder
from rtface.jobs.leases import STALE_S, Leases
from rtface.jobs.plan import JobPlan
from rtface.jobs.time_left import AtWork, Row, join_s, spread, time_left
from rtface.util.files import now_in
from rtface.util.foreign import Shape, count, none_or, number, row, text

# The part of a segment that is done is below 1 while it is in work.
_NEARLY = 0.999
_WORKER: Shape = {
    "host": text,
    "pid": count,
    "segment?": none_or(count),
    "seconds?": number,
    "speed?": none_or(number),
    "frames?": count,
    "pace?": [row(count, count, number)],
}

State = Literal["searching", "working", "joining", "waiting", "ready"]


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One worker.

    Attributes:
        id, host, pid: which process of which machine.
        segment: it works on; None between two.
        seconds: of that segment that are done.
        speed: seconds of the film a second, all segments of the worker together; None before the first frames.
        silent_s: seconds since it was last heard of.
        frames: it has made, all segments together.
    """

    id: str
    host: str
    pid: int
    segment: int | None
    seconds: float
    speed: float | None
    silent_s: float = 0.0
    frames: int = 0


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A job.

    Attributes:
        state: "searching" (for faces whose numbers or persons options name), "working", "joining", "waiting" (segments
            are missing, without a worker) or "ready" (all are finished).
        input, output: paths.
        segments, finished: number of all and of the finished segments.
        duration_s, done_s: seconds of the film, and of it that are done.
        time_left_s: until the film is whole; None before the workers that are there have made
            frames.
        time_left_range_s: least and most that it may be, by how much the speed of the workers has varied.
        speed: of all workers together, seconds of the film a second.
        workers: those that are there.
        silent: those that were not heard of for a minute: they count neither for the time left nor for the speed.
    """

    state: State
    input: str
    output: str
    segments: int
    finished: int
    duration_s: float
    done_s: float
    time_left_s: float | None
    time_left_range_s: tuple[float, float] | None
    speed: float | None
    workers: list[WorkerStatus] = field(default_factory=list[WorkerStatus])
    silent: list[WorkerStatus] = field(default_factory=list[WorkerStatus])

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def read_status(folder: JobFolder, plan: JobPlan | None = None, leases: Leases | None = None) -> JobStatus:
    """The state of a job.

    Args:
        folder: of the job.
        plan: of it, where it is known.
        leases: those that were asked before, which know the beats of workers on other machines.

    Raises:
        InputError: there is no job, or it cannot be read.
    """
    plan, leases = plan or JobPlan.look(folder)[0], leases or Leases(folder, "")
    finished = {n for n in folder.finished() if n < len(plan)}
    now = now_in(folder.path)
    held = {name: lease for name, lease in leases.held().items() if leases.silent_s(lease[1], now) < math.inf}
    # The last of a worker's is in work; of those before it all frames are made, and an encoder may still be ending.
    segments = {worker: int(name) for name, (_, worker) in sorted(held.items()) if name.isdigit()}
    made = finished | {int(n) for n, (_, worker) in held.items() if n.isdigit() and int(n) < segments[worker]}
    workers, silent, at_work = list[WorkerStatus](), list[WorkerStatus](), list[AtWork]()
    done = sum(plan.seconds(n) for n in made)
    for path in sorted(folder.workers.glob("*.json")):
        try:
            value = folder.read(path, _WORKER)
        except InputError:
            continue
        if value is None:
            continue
        value, quiet = cast("dict[str, Any]", value), leases.silent_s(path.stem, now)
        if not leases.alive(path.stem):
            if STALE_S <= quiet < math.inf:
                silent.append(
                    WorkerStatus(
                        path.stem, str(value.get("host")), value.get("pid", 0), None, 0.0, None, round(quiet, 1)
                    )
                )
            continue
        number, at = segments.get(path.stem), 0.0
        if number is not None and number not in finished and value.get("segment") == number:
            at = min(value.get("seconds", 0.0), plan.seconds(number))
        done += at
        place = None if number is None or number in finished else (number + min(at / plan.seconds(number), _NEARLY))
        at_work.append(AtWork(place, [Row(*row) for row in value.get("pace", ())]))
        workers.append(
            WorkerStatus(
                path.stem,
                value["host"],
                value["pid"],
                number,
                at,
                value.get("speed"),
                round(quiet, 1),
                value.get("frames", 0),
            )
        )
    speed = sum(worker.speed or 0.0 for worker in workers) or None
    left, (least, most) = _left(folder, plan, made, at_work), spread(at_work)
    state: State = (
        "joining"
        if "join" in held
        else "searching"
        if "numbers" in held
        else ("ready" if len(finished) == len(plan) else "working" if segments else "waiting")
    )
    return JobStatus(
        state,
        str(plan.source),
        str(plan.target),
        len(plan),
        len(finished),
        round(plan.duration_s, 3),
        round(done, 3),
        None if left is None else round(left, 1),
        None if left is None else (round(left * least, 1), round(left * most, 1)),
        None if speed is None else round(speed, 3),
        workers,
        silent,
    )


def _left(folder: JobFolder, plan: JobPlan, finished: Collection[int], workers: Sequence[AtWork]) -> float | None:
    """Seconds until the film is whole."""
    starts = [float(start) for start in plan.starts]
    samples: list[tuple[float, int]] = []
    for seconds, faces in read_samples(folder).get("samples", ()):
        number = max(0, bisect_right(starts, seconds) - 1)
        share = (seconds - starts[number]) / plan.seconds(number)
        samples.append((number + min(max(0.0, share), _NEARLY), faces))
    left = time_left(plan.frames, finished, workers, samples)
    return None if left is None else left + join_s(sum(plan.frames), plan.file["size"])


def write_progress(folder: JobFolder, plan: JobPlan, leases: Leases) -> JobStatus:
    """Writes the state to progress.json, for a page that shows it; returns it."""
    status = read_status(folder, plan, leases)
    folder.write(folder.progress, {**status.to_dict(), "written": time.strftime("%Y-%m-%dT%H:%M:%S%z")}, sync=False)
    return status
