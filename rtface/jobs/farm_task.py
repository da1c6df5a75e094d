"""One segment of a job on a worker of a Dask cluster.

The segment is made in another process: work that holds Python's lock for long would make Dask take its worker for
gone, and a crash would end it.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Literal

from rtface.concurrency.child_main import ParentProcess
from rtface.concurrency.child_process import ChildProcess
from rtface.concurrency.threads import start_thread
from rtface.errors import InputError, Interrupted, MissingComponent, RtfaceError

Kind = Literal["done", "busy", "refused", "failed", "crashed", "stopped"]
Result = tuple[Kind, str]
"""How it ended, and one line for the user. "refused" is about this worker, "failed" about the job."""

_POLL_S = 0.25
_STOP_S = 5.0
_stopped: set[str] = set()


def make_segment(folder: str, number: int, threads: int, run: str) -> Result:
    """Makes a segment; safe to call again, and on several workers at the same time.

    Args:
        folder: of the job, as this machine sees it.
        number: of the segment.
        threads: CPU threads.
        run: names the call of ``rtface run`` that wants it; see `stop`.
    """
    results: list[Result] = []
    ended = threading.Event()

    def end(reason: str) -> None:
        if not results:
            results.append(("crashed", reason or "its process ended"))
        ended.set()

    try:
        child = ChildProcess("rtface.jobs.farm_task:run_segment", (folder, number, threads),
                             name=f"segment-{number}", on_message=results.append, on_end=end)
    except MissingComponent as error:
        return "refused", str(error)
    while not ended.wait(_POLL_S):
        if run in _stopped:
            child.send("stop")
            if not ended.wait(_STOP_S):
                child.kill(0)
            return "stopped", ""
    return results[0]


def stop(run: str) -> None:
    """Ends the segments that a call of ``rtface run`` wanted on this worker."""
    _stopped.add(run)


def run_segment(parent: ParentProcess, task: tuple[str, int, int]) -> None:
    """The child process of `make_segment`."""
    from rtface.jobs.worker import Outcome, WorkerRefused, do_segment

    folder, number, threads = task
    over = threading.Event()
    start_thread("segment-stop", _listen, parent, over)
    result: Any
    try:
        outcome = do_segment(Path(folder), number, threads=threads, stop=over)
        result = ("busy" if outcome is Outcome.BUSY else "done", "")
    except (WorkerRefused, InputError, MissingComponent) as error:  # another worker may see the film
        result = ("refused", str(error))
    except Interrupted:
        result = ("stopped", "")
    except RtfaceError as error:
        result = ("failed", str(error))
    parent.send(result)


def _listen(parent: ParentProcess, over: threading.Event) -> None:
    while not parent.gone and parent.receive() != "stop":
        pass
    over.set()
