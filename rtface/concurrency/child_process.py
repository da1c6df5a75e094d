"""Runs a function in a child process: one that blocks without end or crashes can be killed there without harm.

Not multiprocessing: its fresh processes import the main module of whoever uses this library again. Everything that the
function is given goes through a pipe, so that no URL shows in the process list.
"""

from __future__ import annotations

import logging
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from weakref import WeakSet

from rtface.concurrency import child_main
from rtface.concurrency.shared_frames import FrameRing
from rtface.concurrency.threads import start_thread
from rtface.errors import Message, MissingComponent, log

# Messages that may wait for the child to take them.
_BACKLOG = 256
# Seconds to see a killed process end; one that hangs in the kernel is left behind.
_KILLED = 0.3
KILLED = Message("was killed")
"""Why a process ended that `ChildProcess.kill` did not only ask to end."""


_running = WeakSet["ChildProcess"]()


def processor_seconds() -> float:
    """Processor time that this process and its children have used so far, in seconds. Of children that still run it is
    known on Linux only."""
    ended = os.times()
    total = time.process_time() + ended.children_user + ended.children_system
    if sys.platform == "linux":
        for child in list(_running):
            with suppress(OSError, IndexError):
                fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
                total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


class ChildProcess:
    """Runs ``function(parent: rtface.concurrency.child_main.ParentProcess, arguments)`` in another process.

    Args:
        target: "module:function".
        arguments: anything that can be pickled.
        name: for threads and messages.
        on_message: told of every message, on a thread of the child.
        on_end: told once when it has ended, after the last message, on the same thread: why in one line (a `Message`
            where it did not end by itself), "" where the function returned.
        frames: shared with it; the caller's to close.
        files: open files that it gets under the same numbers; where there are such, not on Windows.

    Raises:
        MissingComponent: there is no Python to run it with.
        TypeError, AttributeError, pickle.PicklingError: the arguments cannot be pickled.
    """

    def __init__(
        self,
        target: str,
        arguments: object,
        *,
        name: str,
        on_message: Callable[[Any], None],
        on_end: Callable[[str], None],
        frames: FrameRing | None = None,
        files: Sequence[int] = (),
    ) -> None:
        self._name, self._target = name, target
        self._on_message, self._on_end = on_message, on_end
        ring = [] if frames is None or sys.platform == "win32" else [int(frames.handle)]
        self._files = [*ring, *files]
        self._messages: queue.Queue[bytes | None] = queue.Queue(_BACKLOG)
        self._ended = threading.Event()
        self._ending = self._killed = False  # to end
        shared = None if frames is None else (frames.slots, frames.bytes, frames.handle)
        # The arguments are packed by themselves: the child has to know where modules are before it unpacks them.
        packed = pickle.dumps(arguments, pickle.HIGHEST_PROTOCOL)
        self._messages.put(pickle.dumps((sys.path, target, shared, packed), pickle.HIGHEST_PROTOCOL))
        started: queue.SimpleQueue[subprocess.Popen[bytes] | OSError] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, args=(started,), name=f"rtface-{name}", daemon=True)
        self._thread.start()
        process = started.get()
        if isinstance(process, OSError):
            raise MissingComponent(
                "{name}: no process could be started ({why}): {path}",
                code="process_failed",
                name=name,
                why=process.strerror,
                path=sys.executable,
            )
        self._process = process
        self.pid = process.pid
        _running.add(self)

    @property
    def alive(self) -> bool:
        """True if it still runs."""
        return not self._ended.is_set()

    def send(self, message: object) -> bool:
        """Hands a message to its `ParentProcess.receive`; never waits. False when it is gone or too far behind.

        Raises:
            TypeError, AttributeError, pickle.PicklingError: it cannot be pickled.
        """
        data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        if self._ending or self._ended.is_set():
            return False
        try:
            self._messages.put_nowait(data)
        except queue.Full:
            return False
        return True

    def kill(self, wait: float = 0.5) -> None:
        """Asks it to end, and ends it after `wait` seconds. Messages sent before still go to it, as far as it takes
        them in that time. Safe to call twice, and from `on_message`, where it does not wait."""
        self._ending = True
        with suppress(queue.Full):
            self._messages.put_nowait(None)
        here = threading.current_thread() is self._thread
        if here or not self._ended.wait(wait):
            self._killed = True
            self._process.kill()
            self._ended.wait(0 if here else _KILLED)

    def _run(self, started: queue.SimpleQueue[subprocess.Popen[bytes] | OSError]) -> None:
        """Starts it, and stays as long as it does: on Linux it ends with the thread that started it."""
        if sys.platform != "win32":
            # Inherited: the terminal's Ctrl-C must not end it before it can say that it does not mind.
            signal.pthread_sigmask(signal.SIG_BLOCK, child_main.SIGNALS)
        try:
            process = subprocess.Popen(
                [sys.executable, str(Path(child_main.__file__)), self._target, str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=None if log.isEnabledFor(logging.DEBUG) else subprocess.DEVNULL,
                pass_fds=self._files,
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
        except OSError as error:
            self._ended.set()
            started.put(error)
            return
        started.put(process)
        start_thread(f"{self._name}-to", self._write, process)
        reason: str | None = None
        assert process.stdout is not None
        while (data := child_main.read(process.stdout)) is not None:  # pyright: ignore[reportArgumentType]
            try:
                kind, message = pickle.loads(data)
            except Exception as error:  # noqa: BLE001 - of a plugin's own class, say
                why = type(error).__name__
                reason = Message("what it sent cannot be read ({why})", code="process_message", why=why)
                process.kill()
                break
            if kind == "end":
                reason = message
                continue
            try:
                self._on_message(message)
            except Exception:
                log.exception("%s: a message could not be handled", self._name)
        code = process.wait()
        process.stdout.close()
        _running.discard(self)
        self._ended.set()
        with suppress(queue.Full):
            self._messages.put_nowait(None)
        if reason is None:
            reason = (
                KILLED
                if self._killed
                else Message("its process ended by {signal}", code="process_killed", signal=_signal(code))
                if code < 0
                else Message("its process ended with code {exit}", code="process_ended", exit=code)
            )
        self._on_end(reason)

    def _write(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        with suppress(OSError, ValueError):
            while not self._ended.is_set() and (data := self._messages.get()) is not None:
                child_main.write(process.stdin, data)  # pyright: ignore[reportArgumentType]
        with suppress(OSError):
            process.stdin.close()


def _signal(code: int) -> str:
    try:
        return signal.Signals(-code).name
    except ValueError:  # a real-time signal
        return f"signal {-code}"
