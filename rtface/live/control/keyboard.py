"""Keyboard control of a live run: enhancement on and off, strength, light, end."""

from __future__ import annotations

import importlib
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType
from typing import Any, TextIO

from rtface.concurrency.threads import start_thread
from rtface.errors import UsageError
from rtface.live.controls import LiveControls

HELP = "keys: space on/off, + - strength, l L light down/up, a all faces, q end, ? this"

_UP, _DOWN = "\x1b[A", "\x1b[B"
_KEY = re.compile(r"\x1b[\[O][0-9;]*[A-Za-z~]|.", re.DOTALL)
_UNFINISHED = re.compile(r"\x1b([\[O][0-9;]*)?$")
# Seconds without another character after which Esc is a key, not the start of a sequence.
_ESCAPE_S = 0.05
# Seconds between checks of a background process for the terminal, and of Windows for a key.
_BACKGROUND_S = 0.3
_WINDOWS_S = 0.05
_WINDOWS_ARROWS = {"H": _UP, "P": _DOWN}


class KeyBindings:
    """The actions of the keys.

    Args:
        controls: what is changed.
        log: is given `HELP` when it is asked for, and why a setting cannot be changed.
    """

    def __init__(self, controls: LiveControls, log: Callable[[str], None]) -> None:
        self._log = log
        nudge = controls.nudge
        self._actions: dict[str, Callable[[], None]] = {
            " ": controls.toggle,
            "a": partial(controls.toggle, "always"),
            "?": partial(log, HELP),
            "q": controls.stop.set,
            "l": partial(nudge, -1, "light"),
            "L": partial(nudge, 1, "light"),
            **dict.fromkeys(("+", "=", _UP), partial(nudge, 1)),
            **dict.fromkeys(("-", "_", _DOWN), partial(nudge, -1)),
        }

    def press(self, typed: str) -> str:
        """Runs the actions of the keys in `typed`; returns an incomplete escape sequence."""
        unfinished = _UNFINISHED.search(typed)
        whole = typed[: unfinished.start()] if unfinished else typed
        for key in _KEY.findall(whole):
            action = self._actions.get(key.replace("\x1bO", "\x1b["))
            if action is not None:
                try:
                    action()
                except UsageError as error:  # a policy locks the setting
                    self._log(str(error))
        return unfinished[0] if unfinished else ""


@contextmanager
def read_keys(controls: LiveControls, log: Callable[[str], None], stream: TextIO | None = None) -> Generator[None]:
    """Reads keys on a thread while the block runs; does nothing where `stream` is no terminal.

    Ctrl-C and Ctrl-Z keep their meaning. The terminal has its earlier settings whenever this process does not read it:
    after the block, after an exception, after SIGTERM and the like, and while the process is stopped or in the
    background. Signal handlers that were installed before are still called; outside the main thread none is installed.

    Args:
        controls: what the keys change.
        log: shows a line.
        stream: None is stdin.
    """
    source: TextIO | None = sys.stdin if stream is None else stream  # None where a program has no console
    if source is None or source.closed or not source.isatty():
        yield
        return
    keys = KeyBindings(controls, log)
    terminal = WindowsTerminal(keys) if sys.platform == "win32" else _PosixTerminal(keys, source.fileno())
    try:
        yield
    finally:
        terminal.close()


class _Terminal:
    """A thread that reads keys until it is closed."""

    _thread: threading.Thread

    def __init__(self) -> None:
        self._closed = threading.Event()

    def _read(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self._closed.set()
        self._thread.join(1.0)


class WindowsTerminal(_Terminal):
    def __init__(self, keys: KeyBindings) -> None:
        super().__init__()
        self._keys = keys
        self._msvcrt: Any = importlib.import_module("msvcrt")
        self._thread = start_thread("keyboard", self._read)

    def _read(self) -> None:
        while not self._closed.wait(_WINDOWS_S):
            while self._msvcrt.kbhit():
                key = self._msvcrt.getwch()
                if key in ("\x00", "\xe0"):  # the first half of a function key
                    key = _WINDOWS_ARROWS.get(self._msvcrt.getwch(), "")
                self._keys.press(key)


if sys.platform != "win32":

    class _PosixTerminal(_Terminal):
        _SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")

        def __init__(self, keys: KeyBindings, fd: int) -> None:
            super().__init__()
            self._termios: Any = importlib.import_module("termios")
            self._keys, self._fd = keys, fd
            self._saved = self._termios.tcgetattr(fd)
            self._taken = False
            self._over = False  # or stopped: not to be taken again
            # Re-entrant: a signal may come while the main thread itself is giving the terminal back.
            self._lock = threading.RLock()
            self._wake_out, self._wake_in = os.pipe()
            self._before: dict[signal.Signals, Any] = {}
            if threading.current_thread() is threading.main_thread():
                for name in self._SIGNALS:
                    if signal.getsignal(signal.Signals[name]) != signal.SIG_IGN:  # as nohup does
                        self._before[signal.Signals[name]] = signal.signal(signal.Signals[name], self._leave)
                self._before[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, self._suspend)
                self._before[signal.SIGCONT] = signal.signal(signal.SIGCONT, self._resume)
            self._thread = start_thread("keyboard", self._read)

        def close(self) -> None:
            os.write(self._wake_in, b"x")
            super().close()
            self._over = True
            self._give_back()
            for number, handler in self._before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)
            os.close(self._wake_out)
            os.close(self._wake_in)

        def _in_front(self) -> bool:
            """True if this process is in the foreground; else SIGTTOU and SIGTTIN would stop it."""
            try:
                return os.tcgetpgrp(self._fd) == os.getpgrp()
            except OSError:  # no controlling terminal: one that was handed to us
                return True

        def _take(self) -> None:
            with self._lock:
                if self._taken or self._over:
                    return
                mode = self._termios.tcgetattr(self._fd)
                mode[3] &= ~(self._termios.ICANON | self._termios.ECHO)
                mode[6][self._termios.VMIN], mode[6][self._termios.VTIME] = 1, 0
                self._termios.tcsetattr(self._fd, self._termios.TCSANOW, mode)
                self._taken = True

        def _give_back(self) -> None:
            with self._lock:
                if self._taken and self._in_front():
                    with suppress(self._termios.error):  # the terminal is gone
                        self._termios.tcsetattr(self._fd, self._termios.TCSANOW, self._saved)
                self._taken = False

        def _read(self) -> None:
            import select

            typed = ""
            while not self._closed.is_set():
                try:
                    if self._over or not self._in_front():
                        select.select([self._wake_out], [], [], _BACKGROUND_S)
                        continue
                    self._take()
                    wait = _ESCAPE_S if typed else _BACKGROUND_S
                    ready, _, _ = select.select([self._fd, self._wake_out], [], [], wait)
                    if self._fd not in ready:
                        typed = ""
                    elif not self._over and self._in_front():
                        data = os.read(self._fd, 256)
                        if not data:
                            return
                        typed = self._keys.press(typed + data.decode("latin-1"))
                except (OSError, ValueError, self._termios.error):  # hung up
                    return

        def _leave(self, number: int, frame: FrameType | None) -> None:
            """Handles a fatal signal: restores the terminal, then calls the earlier handler."""
            self._over = True
            self._give_back()
            before = self._before[signal.Signals(number)]
            if callable(before):
                before(number, frame)
            else:
                signal.signal(number, signal.SIG_DFL)
                signal.raise_signal(number)

        def _suspend(self, number: int, frame: FrameType | None) -> None:
            over, self._over = self._over, True
            self._give_back()
            signal.signal(signal.SIGTSTP, signal.SIG_DFL)
            signal.raise_signal(signal.SIGTSTP)
            # Stopped here until SIGCONT; the thread takes the terminal again once this process is in front.
            signal.signal(signal.SIGTSTP, self._suspend)
            self._over = over

        def _resume(self, number: int, frame: FrameType | None) -> None:
            """Handles SIGCONT; after SIGSTOP the shell has set the terminal."""
            self._taken = False
