"""Controls a live run by keyboard: enhancement on and off, strength, light, end."""

from __future__ import annotations

import importlib
import os
import select
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, TextIO

from rtface.concurrency.threads import start_thread
from rtface.errors import UsageError
from rtface.live.controls import LiveControls

if sys.platform != "win32":
    import termios
    import tty

HELP = "keys: space on/off, + - strength, l L light down/up, a all faces, q end, ? help"

# Interval in seconds at which keys, and the terminal's foreground process, are polled.
_WAIT_S = 0.1


class KeyBindings:
    """Maps keys to actions.

    Args:
        controls: settings to change.
        log: called with `HELP` on request, and with the reason why a setting cannot be changed.

    Attributes:
        closed: event that ends the reading of keys when set; reading also ends when the run stops.
    """

    def __init__(self, controls: LiveControls, log: Callable[[str], None]) -> None:
        self._log, self._stop, self.closed = log, controls.stop, threading.Event()
        nudge = controls.nudge
        self._actions: dict[str, Callable[[], None]] = {
            " ": controls.toggle,
            "a": partial(controls.toggle, "always"),
            "?": partial(log, HELP),
            "q": controls.stop.set,
            "l": partial(nudge, -1, "light"),
            "L": partial(nudge, 1, "light"),
            **dict.fromkeys("+=", partial(nudge, 1)),
            **dict.fromkeys("-_", partial(nudge, -1)),
        }

    @property
    def over(self) -> bool:
        return self.closed.is_set() or self._stop.is_set()

    def press(self, typed: str) -> None:
        """Runs the actions of the keys in `typed`."""
        for key in typed:
            try:
                self._actions.get(key, str)()
            except UsageError as error:  # a policy locks the setting
                self._log(str(error))


@contextmanager
def read_keys(controls: LiveControls, log: Callable[[str], None], stream: TextIO | None = None) -> Generator[None]:
    """Reads keys of a terminal on a thread while the block runs.

    Ctrl-C and Ctrl-Z keep their meaning. The terminal's settings are restored when the run stops (as the first signal
    requests), after the block, and after an exception.

    Args:
        controls: settings that the keys change.
        log: function that shows a line.
        stream: source of the keys; None for stdin. Nothing is read if it is not a terminal.
    """
    source: TextIO | None = sys.stdin if stream is None else stream  # None if a program has no console
    if source is None or source.closed or not source.isatty():
        yield
        return
    keys = KeyBindings(controls, log)
    if sys.platform == "win32":
        thread = start_thread("keyboard", read_windows, keys)
    else:
        thread = start_thread("keyboard", _read_terminal, keys, source.fileno())
    try:
        yield
    finally:
        keys.closed.set()
        thread.join(1.0)


def read_windows(keys: KeyBindings) -> None:
    """Reads the keys of a Windows console."""
    console: Any = importlib.import_module("msvcrt")
    while not keys.over:
        while console.kbhit():
            key = console.getwch()
            if key in ("\x00", "\xe0"):  # the first half of a function key
                console.getwch()
            keys.press(key)
        keys.closed.wait(_WAIT_S)


if sys.platform != "win32":

    def _read_terminal(keys: KeyBindings, fd: int) -> None:
        """Reads a terminal's keys, without Enter and echo, while in its foreground."""
        settings = termios.tcgetattr(fd)
        with suppress(OSError, ValueError, termios.error):  # the terminal was closed
            while not keys.over:
                if not _in_foreground(fd):
                    keys.closed.wait(_WAIT_S)
                    continue
                if termios.tcgetattr(fd)[3] & termios.ICANON:  # at first, and after a shell has reset it (fg)
                    tty.setcbreak(fd, termios.TCSANOW)
                if select.select([fd], [], [], _WAIT_S)[0] and _in_foreground(fd):
                    if not (data := os.read(fd, 256)):
                        break
                    keys.press(data.decode("latin-1"))
        with suppress(termios.error):  # the terminal is gone
            if _in_foreground(fd):
                termios.tcsetattr(fd, termios.TCSANOW, settings)

    def _in_foreground(fd: int) -> bool:
        """Tests for the foreground. Access from the background would stop the process (SIGTTIN, SIGTTOU)."""
        try:
            return os.tcgetpgrp(fd) == os.getpgrp()
        except OSError:  # not our controlling terminal, but a descriptor passed to us
            return True
