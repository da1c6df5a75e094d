"""Segments of a job on a worker of a Dask cluster.

Segments are made in another process: work that holds Python's lock for long would make Dask take
its worker for gone, and a crash would end it. Such a process stays for the next segment of the same
job, as loading Python and the engines takes seconds. After a crash or an error the next segment
has a new process.
"""

from __future__ import annotations

import queue
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

from rtface.concurrency.child_main import ParentProcess
from rtface.concurrency.child_process import ChildProcess
from rtface.concurrency.threads import start_thread
from rtface.errors import InputError, InputMissing, Interrupted, MissingComponent, RtfaceError
from rtface.jobs.folder import JobFolder
from rtface.jobs.plan import JobPlan

Kind = Literal["done", "refused", "failed", "crashed", "stopped"]
Result = tuple[Kind, str]
"""How it ended, and one line for the user. "refused" is about this worker, "failed" about the
job."""

_POLL_S = 0.25
_STOP_S = 5.0
# Seconds after which a process without a segment ends, and in which it ends when it is asked to.
_IDLE_S, _END_S = 60.0, 2.0
_ENDED: Result = ("crashed", "its process ended")

_Key = tuple[str, Path, int]  # run, folder, threads
_lock = threading.Lock()
_stopped: set[str] = set()
_idle: dict[_Key, list[_SegmentProcess]] = {}


def make_segment(folder: JobFolder, plan: JobPlan, number: int, threads: int, run: str) -> Result:
    """Makes a segment; safe to call again, and on several workers at the same time.

    Args:
        folder, plan: of the job; the folder as this machine sees it.
        number: of the segment.
        threads: CPU threads.
        run: names the call of ``rtface run`` that wants it; see `stop`.
    """
    key = run, folder.path, threads
    with _lock:
        idle = [process for process in _idle.pop(key, ()) if process.alive]
        process = idle.pop() if idle else None
        _idle[key] = idle
    result = process.make(number, run) if process is not None else _ENDED
    if result is _ENDED:  # there was none, or it ended for want of a segment
        try:
            process = _SegmentProcess(folder, plan, threads)
        except MissingComponent as error:
            return "refused", str(error)
        result = process.make(number, run)
    assert process is not None
    with _lock:
        keep = result[0] == "done" and run not in _stopped
        if keep:
            _idle.setdefault(key, []).append(process)
    if not keep:
        process.end()
    return result


def stop(run: str) -> None:
    """Ends the segments that a call of ``rtface run`` wanted on this worker, and the processes that
    wait for more of them."""
    with _lock:
        _stopped.add(run)
        processes = [process for key in list(_idle) if key[0] == run for process in _idle.pop(key)]
    for process in processes:
        process.end()


class _SegmentProcess:
    """A child process that makes segments of one job, one after the other.

    Raises:
        MissingComponent: no process could be started.
    """

    def __init__(self, folder: JobFolder, plan: JobPlan, threads: int) -> None:
        self._results: queue.SimpleQueue[Result] = queue.SimpleQueue()
        self._child = ChildProcess(
            "rtface_farm.task:run_segments",
            (folder, plan, threads),
            name="segments",
            on_message=self._results.put,
            on_end=self._ended,
        )

    def _ended(self, reason: str) -> None:
        self._results.put(("crashed", reason) if reason else _ENDED)

    @property
    def alive(self) -> bool:
        """True if it runs."""
        return self._child.alive

    def make(self, number: int, run: str) -> Result:
        """Makes a segment; `_ENDED` where the process ended before without a fault."""
        self._child.send(number)
        while True:
            try:
                return self._results.get(timeout=_POLL_S)
            except queue.Empty:
                if run not in _stopped:
                    continue
            self._child.send("stop")
            try:
                self._results.get(timeout=_STOP_S)
            except queue.Empty:
                self._child.kill(0)
            return "stopped", ""

    def end(self) -> None:
        """Ends the process."""
        self._child.kill(_END_S)


def run_segments(parent: ParentProcess, task: tuple[JobFolder, JobPlan, int]) -> None:
    """The child process of `make_segment`: receives numbers of segments, and sends a `Result`
    for each."""
    from rtface.jobs.planning import WorkerRefused
    from rtface.jobs.worker import Worker

    folder, plan, threads = task
    over = threading.Event()
    numbers: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    start_thread("segment-messages", _listen, parent, over, numbers)
    worker: Worker | None = None
    result: Any = ("done", "")
    with ExitStack() as stack:
        while result[0] == "done":
            try:
                number = numbers.get(timeout=_IDLE_S)
            except queue.Empty:
                return
            if number is None:
                return
            try:
                if not folder.planned:
                    raise InputMissing(
                        "{path}: the folder of the job is not there, or is another account's",
                        code="job_folder_missing",
                        path=folder.path,
                    )
                worker = worker or stack.enter_context(Worker(folder, plan, threads=threads, stop=over))
                worker.make(number)
            except (WorkerRefused, InputError, MissingComponent) as error:
                # Another worker may see the film.
                result = ("refused", str(error))
            except Interrupted:
                result = ("stopped", "")
            except RtfaceError as error:
                result = ("failed", str(error))
            parent.send(result)


def _listen(parent: ParentProcess, over: threading.Event, numbers: queue.SimpleQueue[int | None]) -> None:
    while not parent.gone:
        message = parent.receive()
        if isinstance(message, int):
            numbers.put(message)
        elif message == "stop":
            break
    over.set()
    numbers.put(None)
