"""Segments of a job on a worker of a Dask cluster.

A child process makes the segments, as for a local worker. In Dask's own process, code that held the GIL for long would
make the worker seem lost, and a crash would end the worker. The child process is kept for the next segment of the
same job, because loading Python and the engines takes seconds. After a failure, the next segment gets a new process.
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
"""The outcome, and one line for the user. "refused" excludes this worker; "failed" ends the job."""

_POLL_S = 0.25
# Seconds that a process waits for a segment before it is ended; seconds after which an ending process is killed.
_IDLE_S, _END_S = 60.0, 5.0

_Key = tuple[str, Path, int]  # run, folder, threads
_lock = threading.Lock()
_stopped_runs: set[str] = set()
_idle_processes: dict[_Key, list[_SegmentProcess]] = {}


def make_segment(folder: JobFolder, plan: JobPlan, number: int, threads: int, run: str) -> Result:
    """Makes a segment. Repeating a segment is safe, even on several workers at the same time.

    Args:
        folder: folder of the job, by its path on this machine.
        plan: plan of the job.
        number: number of the segment.
        threads: CPU threads.
        run: ID of the ``rtface run``; see `stop`.
    """
    if not folder.planned:
        return "refused", f"{folder.path}: the folder of the job does not exist, or belongs to another account"
    key = run, folder.path, threads
    with _lock:
        idle = [process for process in _idle_processes.pop(key, ()) if process.alive]
        process = idle.pop() if idle else None
        _idle_processes[key] = idle
    try:
        process = process or _SegmentProcess(folder, plan, threads)
    except MissingComponent as error:
        return "refused", str(error)
    result = process.make(number, run)
    with _lock:
        reusable = result[0] == "done" and run not in _stopped_runs
        if reusable:
            _idle_processes.setdefault(key, []).append(process)
            process.end_later(key)
    if not reusable:
        process.end()
    return result


def stop(run: str) -> None:
    """Ends the segments and idle processes of a run on this worker."""
    with _lock:
        _stopped_runs.add(run)
        processes = [process for key in list(_idle_processes) if key[0] == run for process in _idle_processes.pop(key)]
    for process in processes:
        process.end()


class _SegmentProcess:
    """Runs one job's worker in a child process, for successive segments.

    Raises:
        MissingComponent: no process could be started.
    """

    def __init__(self, folder: JobFolder, plan: JobPlan, threads: int) -> None:
        self._results: queue.SimpleQueue[Result] = queue.SimpleQueue()
        self._ready, self._reused = False, threading.Event()
        self._child = ChildProcess(
            "rtface.jobs.local_workers:run_worker",
            (folder, plan, threads),
            name="segments",
            on_message=self._handle_message,
            on_end=lambda reason: self._results.put(("crashed", reason or "its process ended")),
        )

    def _handle_message(self, message: object) -> None:
        if message == (None,):  # the child asks for any segment: it has just started, or finished its last one
            self._results.put(("done", ""))
        elif isinstance(message, tuple):  # it asks for the following segment, which may be another worker's
            self._child.send((None,))
        elif isinstance(message, RtfaceError):  # with these types, another worker may succeed
            refused = isinstance(message, WorkerRefused | InputError | MissingComponent)
            self._results.put(("refused" if refused else "failed", str(message)))

    @property
    def alive(self) -> bool:
        """True while the process runs."""
        return self._child.alive

    def make(self, number: int, run: str) -> Result:
        """Makes a segment. Returns early if the run is stopped."""
        self._reused.set()
        result = ("done", "") if self._ready else self._wait_for_result(run)
        if result[0] == "done":
            self._ready = True
            self._child.send((number,))
            result = self._wait_for_result(run)
        return result

    def _wait_for_result(self, run: str) -> Result:
        while True:
            try:
                return self._results.get(timeout=_POLL_S)
            except queue.Empty:
                if run in _stopped_runs:
                    return "stopped", ""

    def end_later(self, key: _Key) -> None:
        """Ends the process if it gets no segment within `_IDLE_S` seconds."""
        self._reused = threading.Event()
        start_thread("segments-idle", self._end_idle, key, self._reused)

    def _end_idle(self, key: _Key, reused: threading.Event) -> None:
        if reused.wait(_IDLE_S):
            return
        with _lock:
            still_idle = self in _idle_processes.get(key, ())
            if still_idle:
                _idle_processes[key].remove(self)
        if still_idle:
            self.end()

    def end(self) -> None:
        """Ends the process."""
        self._child.kill(_END_S)
