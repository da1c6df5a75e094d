"""Runs a job's workers: this process, child processes, or a farm."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from rtface.concurrency.child_main import ParentProcess
from rtface.concurrency.child_process import ChildProcess
from rtface.errors import Interrupted, OutputError, RtfaceError, log
from rtface.jobs.folder import JobFolder
from rtface.jobs.hand_out import HandOut
from rtface.jobs.plan import JobPlan
from rtface.jobs.progress import JobProgress
from rtface.jobs.worker import Step, Worker
from rtface.pipeline.runtime import BuildProgress
from rtface.util.machine import cores, how_many

if TYPE_CHECKING:
    from rtface.jobs.farms import Workers

# Seconds between two checks of `stop` while workers send nothing.
_POLL_S = 0.5
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
        from rtface.jobs.farms import farm_of

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
