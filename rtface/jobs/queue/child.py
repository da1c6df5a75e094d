"""The process of an item: enhances one INPUT, and tells the runner its progress and how it ended.

It ends with its runner, so that an item is never run twice at the same time.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rtface.concurrency.child_main import ParentProcess
from rtface.concurrency.threads import start_thread
from rtface.errors import Interrupted, RtfaceError, reason
from rtface.jobs.queue.item import ItemProgress, Task
from rtface.pipeline.progress import Progress, share
from rtface.redaction import redacted
from rtface.util.file_lock import file_lock
from rtface.util.text import printable

STOP = "stop"
"""The message with which a runner asks for a clean end."""
_INTERVAL_S = 0.5
# Seconds in which a process that lost its runner ends by itself, where the system does not end it at once.
_PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Ended:
    """How an attempt ended; the last message of an item's process.

    Attributes:
        how: "interrupted" after `STOP`.
        message: one line without secrets.
    """

    how: Literal["done", "failed", "interrupted"]
    message: str


@dataclass(frozen=True, slots=True)
class Start:
    """What an item's process is given.

    Attributes:
        task: the item.
        log: file for warnings and for what libraries print; its lock is held while the process runs.
        threads: CPU threads, where the item's options do not say; None for all cores.
    """

    task: Task
    log: Path
    threads: int | None


def run_item(parent: ParentProcess, start: Start) -> None:
    """Runs an item (a target of `rtface.concurrency.child_process.ChildProcess`)."""
    stop = threading.Event()
    start_thread("queue-stop", _listen, parent, stop)
    with file_lock(start.log, lambda: None, _PATIENCE_S):
        _log_into(start.log)
        parent.send(_enhance(start, stop, _Reporter(parent.send)))


def _listen(parent: ParentProcess, stop: threading.Event) -> None:
    while not parent.gone:
        if parent.receive() == STOP:
            stop.set()
    stop.set()


def _log_into(path: Path) -> None:
    """Sends standard error and rtface's log to the item's log file."""
    with suppress(OSError):
        path.chmod(0o600)
        number = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(number, 2)
        os.dup2(number, 1)
        os.close(number)
    faulthandler.enable()
    handler = logging.StreamHandler()
    handler.setFormatter(_Format("%(asctime)s %(levelname)s: %(message)s"))
    logger = logging.getLogger("rtface")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


class _Format(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return redacted(printable(super().format(record), lines=True))


class _Reporter:
    """Sends progress to the runner, twice a second at most."""

    def __init__(self, send: Callable[[ItemProgress], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._send, self._clock = send, clock
        self._first: tuple[float, float] | None = None  # time and share of the first frame
        self._sent = -_INTERVAL_S

    def __call__(self, progress: Progress) -> None:
        now, done = self._clock(), share(progress)
        if self._first is None:
            self._first = now, done or 0.0
        if now - self._sent < _INTERVAL_S:
            return
        self._sent = now
        left = None
        began, before = self._first
        if done is not None and done > before:  # what an earlier attempt did took no time in this one
            left = (now - began) * (1 - done) / (done - before)
        self._send(ItemProgress(done, progress.frames, progress.fps, left))


def _enhance(start: Start, stop: threading.Event, progress: Callable[[Progress], None]) -> Ended:
    from rtface.live.addresses import resolve_address
    from rtface.options import Options
    from rtface.pipeline.film import run_file
    from rtface.util.urls import place

    task = start.task
    with suppress(OSError):  # only relative names of stages need it
        os.chdir(task.folder)
    try:
        options = Options.of({"threads": start.threads} | task.options)
        report = run_file(place(resolve_address(task.source)), task.output, options, progress=progress, stop=stop)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - told to the runner
        if not isinstance(error, (RtfaceError, Interrupted)):
            sys.stderr.write(redacted(traceback.format_exc()))
        how = "interrupted" if isinstance(error, (Interrupted, KeyboardInterrupt)) else "failed"
        return Ended(how, redacted(" ".join(_message(error, start.log).split())))
    for note in report.notes:
        logging.getLogger("rtface").info("%s", note)
    frames = "1 frame" if report.frames_out == 1 else f"{report.frames_out} frames"
    return Ended("done", f"{frames}, {report.frames_with_faces} with faces, {report.frames_corrected} corrected")


def _message(error: BaseException, log: Path) -> str:
    if isinstance(error, MemoryError) and not isinstance(error, RtfaceError):
        return "not enough memory; run fewer items at once (--at-once), or fewer --threads"
    if isinstance(error, (RtfaceError, Interrupted)):
        return str(error) or "interrupted"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return f"this is a fault of rtface ({reason(error)}); please report it with {log}"


def finished_before(task: Task) -> bool:
    """Whether an attempt that was cut short had finished: it had made sure that OUTPUT was free, and it is there now.
    With ``overwrite`` it is run again, as an older OUTPUT may be there."""
    output = Path(task.output)
    return task.began and not task.options.get("overwrite") and not task.output.endswith(("/", os.sep)) and (
        output.is_file())


