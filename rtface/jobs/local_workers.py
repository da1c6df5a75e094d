"""Workers of a job on this machine: a process each, so that they share no interpreter."""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtface import errors
from rtface.concurrency.child_main import ParentProcess
from rtface.concurrency.child_process import ChildProcess
from rtface.errors import Interrupted, OutputError, RtfaceError, UsageError
from rtface.jobs.folder import JobFolder
from rtface.jobs.plan import JobPlan
from rtface.jobs.worker import Step, Worker
from rtface.util.machine import cores, free_memory

# Bytes of a worker without its frames: interpreter, libraries, networks.
_WORKER_BYTES = 900 << 20
# Free memory where the system does not say.
_UNKNOWN_BYTES = 8 << 30
# Frames that a chain and an encoder hold.
_FRAMES_HELD = 90


@dataclass(frozen=True, slots=True)
class WorkerTask:
    """What a child process is given: the job's folder with `JobFolder.agreed`, and its share of the threads."""

    folder: Path
    agreed: str
    threads: int


def run_worker(parent: ParentProcess, task: WorkerTask) -> None:
    """Works on a job in a child process, as long as a segment is free and the parent is there."""
    stop = threading.Event()

    def step(at: Step) -> None:
        parent.send(at)
        if parent.gone:
            stop.set()

    try:
        with Worker(JobFolder(task.folder, task.agreed), threads=task.threads, stop=stop, on_step=step) as worker:
            worker.work()
    except Interrupted:
        return
    except RtfaceError as error:
        parent.send((type(error).__name__, error.message))


class LocalWorkers:
    """Child processes that work on a job. One that crashes is started again as long as segments get finished.

    Args:
        folder: of the job.
        count: processes.
        threads: of all together, None for all cores.

    Attributes:
        steps: where each is, by number.
    """

    def __init__(self, folder: JobFolder, count: int, threads: int | None) -> None:
        available = threads or cores()
        self._folder = folder
        self._tasks = [
            WorkerTask(folder.path, folder.agreed, max(1, available // count + (k < available % count)))
            for k in range(count)
        ]
        self._ended: queue.SimpleQueue[tuple[int, str]] = queue.SimpleQueue()
        self._faults: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        self.steps: dict[int, Step] = {}
        self._finished = -1
        self._children = {k: self._start(k) for k in range(count)}

    def _start(self, number: int) -> ChildProcess:
        def message(value: Any) -> None:
            if isinstance(value, Step):
                self.steps[number] = value
            else:
                self._faults.put(value)

        return ChildProcess(
            "rtface.jobs.local_workers:run_worker",
            self._tasks[number],
            name=f"worker-{number}",
            on_message=message,
            on_end=lambda why: self._ended.put((number, why)),
        )

    def wait(self, timeout: float) -> bool:
        """Waits for a worker to end; whether any is left.

        Raises:
            RtfaceError: what a worker raised.
            OutputError: a worker crashed, and so did the one after it.
        """
        try:
            number, why = self._ended.get(timeout=timeout)
        except queue.Empty:
            return bool(self._children)
        del self._children[number]
        self.steps.pop(number, None)
        if not self._faults.empty():
            name, text = self._faults.get()
            kind = getattr(errors, name, OutputError)
            raise kind(text) if issubclass(kind, RtfaceError) else OutputError(text)
        if why:
            self._folder.log(f"worker {number} ended early: {why}")
            finished = len(self._folder.finished())
            if finished <= self._finished:
                raise OutputError(
                    "{path}: a worker ended early ({why}), and so did the one after it; try fewer --workers; the "
                    "same command continues",
                    code="worker_ended",
                    path=self._folder.path,
                    why=why,
                )
            self._finished = finished
            self._children[number] = self._start(number)
        return bool(self._children)

    def end(self) -> None:
        """Ends all that are left."""
        for child in self._children.values():
            child.kill(0)
        self._children.clear()


def count_workers(wanted: int | str, plan: JobPlan, threads: int | None) -> int:
    """The number of local workers: "auto" takes one for every four cores, and no more than memory holds.

    Raises:
        UsageError: it is no number and not "auto".
    """
    if wanted != "auto":
        try:
            count = int(wanted)
        except ValueError:
            raise UsageError(
                '--workers {value}: give a number from 1 on, or "auto"', code="workers_value", value=wanted
            ) from None
        if not 1 <= count <= 256:
            raise UsageError("--workers {value}: give a number from 1 to 256", code="workers_most", value=wanted)
        return count
    width, height = plan.written
    each = _WORKER_BYTES + _FRAMES_HELD * width * height * 3
    free = free_memory()
    return max(1, min((threads or cores()) // 4, (_UNKNOWN_BYTES if free is None else free) // each, len(plan)))
