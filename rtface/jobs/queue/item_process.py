"""Runs a queue item in its own process, and reports progress.

The process ends with its runner, so that an item never runs twice at the same time.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from rtface.concurrency.child_main import ParentProcess
from rtface.concurrency.threads import start_thread
from rtface.config.addresses import resolve_address
from rtface.config.options import Options
from rtface.errors import Interrupted, Message, RtfaceError, message_of, reason
from rtface.jobs.queue.item import PAUSE, RESUME, STOP, Ended, ItemProgress, Start
from rtface.jobs.run import Resumable, run_film
from rtface.pipeline.progress import Progress, eta, share
from rtface.redaction import redacted
from rtface.stats import Stats
from rtface.util.file_lock import file_lock
from rtface.util.text import counted, printable
from rtface.util.urls import place

_INTERVAL_S = 0.5
# Seconds that a process without a runner gets to end, on systems that do not end it at once.
_PATIENCE_S = 30.0


def run_item(parent: ParentProcess, start: Start) -> None:
    """Runs an item (a target of `rtface.concurrency.child_process.ChildProcess`)."""
    stop, go = threading.Event(), threading.Event()
    go.set()
    start_thread("queue-stop", _listen, parent, stop, go)
    with file_lock(start.log, lambda: None, _PATIENCE_S):
        _redirect_output(start.log)
        reporter = _Reporter(parent.send, go)
        ended = _enhance(start, stop, reporter)
        reporter.send_last()
        parent.send(ended)


def _listen(parent: ParentProcess, stop: threading.Event, go: threading.Event) -> None:
    while not (parent.gone or stop.is_set()):
        request = parent.receive()
        if request == STOP:
            stop.set()
        elif request == PAUSE:
            go.clear()
        elif request == RESUME:
            go.set()
    stop.set()
    go.set()


def _redirect_output(path: Path) -> None:
    """Redirects standard output, standard error and rtface's log to the log file."""
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
    """Sends progress to the runner, at most twice a second. A film halts here after a frame, until `go` is set."""

    def __init__(self, send: Callable[[ItemProgress], None], go: threading.Event) -> None:
        self._send, self._go = send, go
        self._started = time.monotonic()
        self._sent_at = -_INTERVAL_S
        self._last: Progress | None = None

    def __call__(self, progress: Progress) -> None:
        self._last = progress
        self._started = time.monotonic() if progress.frames <= 1 else self._started  # loading engines does not count
        if time.monotonic() - self._sent_at >= _INTERVAL_S:
            self.send_last()
        if not self._go.is_set():
            halted = time.monotonic()
            self._go.wait()
            self._started += time.monotonic() - halted

    def send_last(self) -> None:
        """Sends the newest progress, unless it was already sent."""
        last, self._last, self._sent_at = self._last, None, time.monotonic()
        if last is not None:
            self._send(ItemProgress(share(last), last.frames, last.fps, eta(last, self._sent_at - self._started)))


def _enhance(start: Start, stop: threading.Event, progress: Callable[[Progress], None]) -> Ended:
    plan = start.task.plan
    try:
        options = Options.of({"threads": start.threads} | plan["options"])
        report = run_film(
            place(resolve_address(plan["input"])),
            plan["output"],
            options,
            Resumable(**start.task.flags),
            stats=Stats(),
            progress=progress,
            stop=stop,
            notify=logging.getLogger("rtface").info,
        )
    except Interrupted as error:
        if error.partial is None:
            return Ended("interrupted", error.message.one_line())
        shutil.rmtree(error.partial, ignore_errors=True)  # later attempts do not continue from it
        with suppress(OSError):
            Path(error.partial).unlink()
        return Ended("interrupted", Message())
    except Exception as error:  # noqa: BLE001 - reported to the runner
        if not isinstance(error, RtfaceError):
            sys.stderr.write(redacted(traceback.format_exc()))
        return Ended("failed", _message(error, start.log))
    for note in report.notes:
        logging.getLogger("rtface").info("%s", note)
    done = Message(
        "{frames}, {faces} with faces, {corrected} corrected",
        code="ended_film",
        frames=counted(report.frames_out),
        count=report.frames_out,
        faces=report.frames_with_faces,
        corrected=report.frames_corrected,
    )
    for note in report.notes:
        if isinstance(note, Message) and note.code in ("person_missed", "person_nowhere", "person_partly"):
            done = done + "; " + note
    return Ended("done", done)


def _message(error: Exception, log: Path) -> Message:
    if isinstance(error, RtfaceError):
        return Message(error.message, code=error.code).one_line()  # the hint is for command lines
    if isinstance(error, MemoryError):
        return Message(
            "not enough memory; run fewer items at once (--at-once), or fewer {--threads}", code="items_memory"
        )
    if isinstance(error, OSError) and error.filename is not None:
        return message_of(error)
    return Message(f"this is a fault of rtface or a plugin ({reason(error)}); please report it with {log}").one_line()
