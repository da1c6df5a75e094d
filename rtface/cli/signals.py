"""Handles SIGINT, SIGTERM and SIGHUP: the first stops a command, a second one ends the process."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from time import monotonic
from types import FrameType

from rtface.errors import Interrupted

INTERRUPTED = 128
"""The exit code of an interrupted command is this plus the signal's number."""
# timeout(1) and closing terminals signal a process twice: directly and as part of its group. Within this time, both
# count as one.
_SAME_SIGNAL_S = 0.3


class StopRequest:
    """Holds the request to stop that the first signal sets.

    Attributes:
        event: set by the signal; a run to which it was passed then ends cleanly.
        signum: number of the signal; None before the signal.
    """

    def __init__(self) -> None:
        self.event = threading.Event()
        self.signum: int | None = None


@contextmanager
def stop_on_signals() -> Generator[StopRequest]:
    """Sets `StopRequest.event` on the first SIGINT, SIGTERM or SIGHUP. A second one ends the process at once.

    In both cases, the part of a file that was written so far stays readable. Outside the main thread no signal is
    handled. SIGHUP stays ignored if it was ignored before (nohup).
    """
    stop = StopRequest()
    first = 0.0

    def handle(signum: int, frame: FrameType | None) -> None:
        nonlocal first
        # os.write is used because the signal may interrupt a print.
        if stop.event.is_set():
            if monotonic() - first < _SAME_SIGNAL_S:
                return
            _write_line("stopped at once; the next run to the same output reports the part that was written")
            os._exit(INTERRUPTED + signum)
        stop.signum, first = signum, monotonic()
        stop.event.set()
        _write_line("stopping; repeat to stop at once")

    with _handle_signals(handle, signal.SIGINT, *_other_signals()):
        yield stop


@contextmanager
def interrupted_by_signals() -> Generator[None]:
    """Ends the block on SIGTERM and SIGHUP like Ctrl-C, with cleanup.

    Outside the main thread no signal is handled; SIGHUP stays ignored if it was ignored before (nohup).
    """

    def end(number: int, frame: FrameType | None) -> None:
        raise Interrupted("stopped", code="stopped", signum=number)

    with _handle_signals(end, *_other_signals()):
        yield


@contextmanager
def _handle_signals(handler: Callable[[int, FrameType | None], None], *signals: signal.Signals) -> Generator[None]:
    on_main = threading.current_thread() is threading.main_thread()
    previous_handlers = {number: signal.signal(number, handler) for number in signals if on_main}
    try:
        yield
    finally:
        for number, previous in previous_handlers.items():
            signal.signal(number, previous)


def _other_signals() -> list[signal.Signals]:
    """Returns the signals besides SIGINT that stop a command."""
    if sys.platform == "win32":
        return [signal.SIGTERM, signal.SIGBREAK]
    return [signal.SIGTERM] + [signal.SIGHUP] * (signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN)


def _write_line(text: str) -> None:
    with suppress(OSError):  # stderr may be closed
        os.write(2, f"\nrtface: {text}\n".encode())
