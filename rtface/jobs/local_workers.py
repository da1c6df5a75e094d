"""Runs a job's workers, and shows their progress.

Workers are this process, child processes, or a farm. Farms are plugins for workers on a cluster. The scheme of
``--farm``'s address selects the plugin.
"""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Any, Protocol, TypeAlias

from rtface.concurrency.child_main import ParentProcess
from rtface.concurrency.child_process import ChildProcess
from rtface.errors import Interrupted, OutputError, RtfaceError, UsageError, log
from rtface.jobs.folder import JobFolder
from rtface.jobs.hand_out import HandOut
from rtface.jobs.plan import JobPlan
from rtface.jobs.worker import Step, Worker
from rtface.pipeline.progress import Progress, Show
from rtface.pipeline.runtime import BuildProgress
from rtface.util import plugins
from rtface.util.install import plugin_line
from rtface.util.machine import cores, how_many

# Seconds between two checks of `stop` while workers send nothing.
_POLL_S = 0.5
# Seconds between two checks for finished segments. The speed is measured over this time.
_MEASURING_S = 1.0
# Memory of a worker without its frames: interpreter, libraries, networks.
_WORKER_BYTES = 900 << 20
# Seconds that a worker gets to remove its unfinished files when it is asked to end.
_GRACE_S = 5.0
# Frames that a chain and an encoder buffer.
_QUEUED_FRAMES = 90


def run_worker(parent: ParentProcess, task: tuple[JobFolder, JobPlan, int]) -> None:
    """Works on a job in a child process. The number in the task is the number of CPU threads."""
    folder, plan, threads = task
    stop, parent.grace = threading.Event(), _GRACE_S

    def step(at: Step) -> None:
        parent.send(at)
        if parent.gone:
            stop.set()

    def take(wanted: int | None) -> int | None:
        """Requests the segment `wanted`, or any if None. The parent answers with `HandOut.take`'s result in a tuple."""
        parent.send((wanted,))
        answer = parent.receive()
        if answer is None:  # the parent has ended
            raise Interrupted
        return answer[0]

    try:
        with Worker(folder, plan, threads=threads, stop=stop, on_step=step) as worker:
            worker.work(take)
    except Interrupted:
        return
    except RtfaceError as error:
        parent.send(error)


class LocalWorkers:
    """Runs child processes that work on a job. A crashed worker is restarted if segments were finished since.

    Args:
        folder, plan: folder and plan of the job.
        count: number of processes.
        threads: CPU threads of all processes together; None for all cores.

    Attributes:
        steps: progress of each worker, by its number.
    """

    def __init__(self, folder: JobFolder, plan: JobPlan, count: int, threads: int | None) -> None:
        available = threads or cores()
        self._folder, self._segments = folder, HandOut(folder, len(plan))
        self._tasks = [(folder, plan, max(1, available // count + (k < available % count))) for k in range(count)]
        self._events: queue.SimpleQueue[tuple[int, object]] = queue.SimpleQueue()
        self.steps: dict[int, Step] = {}
        self._finished = dict[int, int]()  # by worker: finished segments of the job at its last crash
        self._children = {k: self._start(k) for k in range(count)}

    def _start(self, number: int) -> ChildProcess:
        return ChildProcess(
            "rtface.jobs.local_workers:run_worker",
            self._tasks[number],
            name=f"worker-{number}",
            on_message=lambda message: self._events.put((number, message)),
            on_end=lambda why: self._events.put((number, why)),
        )

    def wait(self, timeout: float) -> bool:
        """Handles the next message of a worker. Returns whether any worker is still running.

        Raises:
            RtfaceError: raised by a worker.
            OutputError: a worker crashed, and so did its replacement.
        """
        try:
            number, event = self._events.get(timeout=timeout)
        except queue.Empty:
            return bool(self._children)
        if isinstance(event, Step):
            self.steps[number] = event
        elif isinstance(event, tuple):
            self._children[number].send((self._segments.take(number, *event),))
        elif isinstance(event, RtfaceError):
            raise event
        else:
            self._handle_end(number, str(event))
        return bool(self._children)

    def _handle_end(self, number: int, why: str) -> None:
        """Returns the segments of an ended worker to the job. Restarts the worker after a crash."""
        del self._children[number]
        self.steps.pop(number, None)
        self._segments.give_back(number)
        if not why:
            return
        log.info("worker %d ended early: %s", number, why)
        finished = len(self._folder.finished())
        if finished <= self._finished.get(number, -1):
            raise OutputError(
                "{path}: a worker ended early ({why}), and so did its replacement; try fewer --workers; the same "
                "command continues",
                code="worker_ended",
                path=self._folder.path,
                why=why,
            )
        self._finished[number] = finished
        self._children[number] = self._start(number)

    def end(self) -> None:
        """Ends all remaining workers."""
        for child in self._children.values():
            child.kill(0)
        self._children.clear()


def count_workers(wanted: int | str, plan: JobPlan) -> int:
    """Returns the number of local workers. Raises the errors of `rtface.util.machine.how_many`."""
    video = plan.video or {}
    width, height = video.get("width", plan.size[0]), video.get("height", plan.size[1])
    count = how_many(wanted, "--workers", _WORKER_BYTES + _QUEUED_FRAMES * width * height * 3)
    return min(count, len(plan)) if wanted == "auto" else count


def make_segments(
    folder: JobFolder,
    plan: JobPlan,
    workers: int | str,
    farm: str | None,
    threads: int | None,
    show: JobProgress,
    *,
    stop: threading.Event,
    building: BuildProgress | None,
    notify: Callable[[str], object],
) -> None:
    """Makes segments until none is missing.

    Args:
        folder, plan: folder and plan of the job.
        workers, farm, stop, building, notify: see `rtface.jobs.job.FilmJob.run`.
        threads: CPU threads of all workers on this machine; None for all cores.
        show: called with the progress of the workers.

    Raises:
        Interrupted: `stop` was set.
        RtfaceError: raised by a worker.
    """
    if farm is not None:
        pool: Workers = farm_of(farm)(folder, plan, farm, notify)
    elif (count := count_workers(workers, plan)) > 1:
        pool = LocalWorkers(folder, plan, count, threads)
    else:
        with Worker(
            folder, plan, threads=threads, stop=stop, on_step=lambda step: show([step]), building=building
        ) as worker:
            worker.work(partial(HandOut(folder, len(plan)).take, ""))
        return
    try:
        while pool.wait(_POLL_S):
            if stop.is_set():
                raise Interrupted
            show(pool.steps.values())
    finally:
        pool.end()


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
        elif (elapsed := now - self._polled) >= _MEASURING_S:
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


class Workers(Protocol):
    """Represents the workers of a job in other processes."""

    @property
    def steps(self) -> Mapping[Any, Step]:
        """The progress of each worker."""
        ...

    def wait(self, timeout: float) -> bool:
        """Waits for results, at most `timeout` seconds. Returns whether any segment is missing."""
        ...

    def end(self) -> None:
        """Ends the work."""
        ...


Farm: TypeAlias = Callable[[JobFolder, JobPlan, str, Callable[[str], object]], Workers]
"""The entry point of a farm plugin: starts the workers at an address. Its `check` rejects invalid addresses."""


def farm_of(address: str) -> Farm:
    """Finds the farm plugin of an address, which validates the address.

    Raises:
        UsageError: no installed plugin supports this scheme, or the address is invalid.
    """
    name = re.split(r"\+|://", address)[0]
    if not plugins.exists("farm", name):
        raise UsageError(
            "--farm {address}: give the address of a cluster's scheduler, such as dask://host:8786; this needs "
            "rtface-farm; install it with: {repair}",
            code="farm_address",
            address=address,
            repair=plugin_line("rtface-farm"),
        )
    farm: Any = plugins.load("farm", name)
    farm.check(address)
    return farm
