"""Segments of a job on a worker of a Dask cluster.

A child process makes the segments, like a local worker. Within Dask's own process, a long hold of Python's lock would
make the worker seem lost, and a crash would end it. The child process stays for the next segment of the same job,
because loading Python and the engines takes seconds. After a crash or an error, the next segment gets a new process.
"""

from __future__ import annotations

import queue
import threading
from pathlib import Path
from typing import Literal

from rtface.concurrency.child_process import ChildProcess
from rtface.concurrency.threads import start_thread
from rtface.errors import InputError, MissingComponent, RtfaceError
from rtface.jobs.folder import JobFolder
from rtface.jobs.plan import JobPlan
from rtface.jobs.planning import WorkerRefused

Kind = Literal["done", "refused", "failed", "crashed", "stopped"]
Result = tuple[Kind, str]
"""The outcome, and one line for the user. "refused" concerns this worker, "failed" the job."""

_POLL_S = 0.25
# Seconds that a process waits for a segment before it ends, and seconds that it may take to end.
_IDLE_S, _END_S = 60.0, 5.0

_Key = tuple[str, Path, int]  # run, folder, threads
_lock = threading.Lock()
_stopped: set[str] = set()
_idle: dict[_Key, list[_SegmentProcess]] = {}


def make_segment(folder: JobFolder, plan: JobPlan, number: int, threads: int, run: str) -> Result:
    """Makes a segment. Repeating a segment is safe, even on several workers at the same time.

    Args:
        folder, plan: folder of the job as this machine sees it, and plan of the job.
        number: number of the segment.
        threads: CPU threads.
        run: identifies the call of ``rtface run``; see `stop`.
    """
    if not folder.planned:
        return "refused", f"{folder.path}: the folder of the job does not exist, or belongs to another account"
    key = run, folder.path, threads
    with _lock:
        idle = [process for process in _idle.pop(key, ()) if process.alive]
        process = idle.pop() if idle else None
        _idle[key] = idle
    try:
        process = process or _SegmentProcess(folder, plan, threads)
    except MissingComponent as error:
        return "refused", str(error)
    result = process.make(number, run)
    with _lock:
        keep = result[0] == "done" and run not in _stopped
        if keep:
            _idle.setdefault(key, []).append(process)
            process.end_later(key)
    if not keep:
        process.end()
    return result


def stop(run: str) -> None:
    """Ends segments and idle processes of one ``rtface run`` on this worker."""
    with _lock:
        _stopped.add(run)
        processes = [process for key in list(_idle) if key[0] == run for process in _idle.pop(key)]
    for process in processes:
        process.end()


class _SegmentProcess:
    """Runs one job's worker in a child process, for successive segments.

    Raises:
        MissingComponent: no process could be started.
    """

    def __init__(self, folder: JobFolder, plan: JobPlan, threads: int) -> None:
        self._results: queue.SimpleQueue[Result] = queue.SimpleQueue()
        self._asked, self._taken = False, threading.Event()
        self._child = ChildProcess(
            "rtface.jobs.local_workers:run_worker",
            (folder, plan, threads),
            name="segments",
            on_message=self._told,
            on_end=lambda reason: self._results.put(("crashed", reason or "its process ended")),
        )

    def _told(self, message: object) -> None:
        if message == (None,):  # the child asks for any segment: its last segment is finished
            self._results.put(("done", ""))
        elif isinstance(message, tuple):  # the child asks for the next segment, which belongs to another worker
            self._child.send((None,))
        elif isinstance(message, RtfaceError):  # if refused, another worker may be able to read the film
            refused = isinstance(message, WorkerRefused | InputError | MissingComponent)
            self._results.put(("refused" if refused else "failed", str(message)))

    @property
    def alive(self) -> bool:
        """True while the process runs."""
        return self._child.alive

    def make(self, number: int, run: str) -> Result:
        """Makes a segment."""
        self._taken.set()
        result = ("done", "") if self._asked else self._result(run)
        if result[0] == "done":
            self._asked = True
            self._child.send((number,))
            result = self._result(run)
        return result

    def _result(self, run: str) -> Result:
        while True:
            try:
                return self._results.get(timeout=_POLL_S)
            except queue.Empty:
                if run in _stopped:
                    return "stopped", ""

    def end_later(self, key: _Key) -> None:
        """Ends the process if it gets no segment within a minute."""
        self._taken = threading.Event()
        start_thread("segments-idle", self._end_idle, key, self._taken)

    def _end_idle(self, key: _Key, taken: threading.Event) -> None:
        if taken.wait(_IDLE_S):
            return
        with _lock:
            waits = self in _idle.get(key, ())
            if waits:
                _idle[key].remove(self)
        if waits:
            self.end()

    def end(self) -> None:
        """Ends the process."""
        self._child.kill(_END_S)
