"""SIGINT, SIGTERM and SIGHUP: the first asks a command to stop, a second one ends the process."""

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
"""Exit codes of an interrupted command are this plus the number of the signal."""
# timeout(1), and a terminal that closes, signal a process twice: by itself and as one of its group.
_SAME_SIGNAL_S = 0.3


class StopRequest:
    """A request to stop, made by the first signal.

    Attributes:
        event: set by the signal; a run that is given it ends cleanly then.
        signum: number of the signal, None before there was one.
    """

    def __init__(self) -> None:
        self.event = threading.Event()
        self.signum: int | None = None


@contextmanager
def stop_on_signals() -> Generator[StopRequest]:
    """Turns the first SIGINT, SIGTERM or SIGHUP into `StopRequest.event`; a second one ends the process at once.

    A file that is being written stays readable up to there either way. Outside the main thread no signal is handled.
    SIGHUP stays ignored where it was (nohup).
    """
    stop = StopRequest()
    first = 0.0

    def handle(signum: int, frame: FrameType | None) -> None:
        nonlocal first
        # os.write, because the signal may have come in the middle of a print.
        if stop.event.is_set():
            if monotonic() - first < _SAME_SIGNAL_S:
                return
            _say("stopped at once; the next run to the same output names the part that was written")
            os._exit(INTERRUPTED + signum)
        stop.signum, first = signum, monotonic()
        stop.event.set()
        _say("stopping; once more to stop at once")

    with _handled(handle, signal.SIGINT, *_others()):
        yield stop


@contextmanager
def interrupted_by_signals() -> Generator[None]:
    """Makes SIGTERM and SIGHUP end the block as Ctrl-C does, with everything cleaned up.

    Outside the main thread no signal is handled; SIGHUP stays ignored where it was (nohup).
    """

    def end(number: int, frame: FrameType | None) -> None:
        raise Interrupted("stopped", code="stopped", signum=number)

    with _handled(end, *_others()):
        yield


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], None], *signals: signal.Signals) -> Generator[None]:
    on_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, handler) for number in signals if on_main}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def _others() -> list[signal.Signals]:
    """The signals besides SIGINT that ask a command to stop."""
    if sys.platform == "win32":
        return [signal.SIGTERM, signal.SIGBREAK]
    return [signal.SIGTERM] + [signal.SIGHUP] * (signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN)


def _say(text: str) -> None:
    with suppress(OSError):  # stderr is closed
        os.write(2, f"\nrtface: {text}\n".encode())
