"""Runs functions that may block or crash in a child process.

multiprocessing is not used, because its spawned processes would import the main module of the calling program again.
All arguments go through a pipe, so that no URL appears in the process list.
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

# Maximum number of messages that wait for the child.
_BACKLOG = 256
# Seconds to wait for a killed process to end. A process that hangs in the kernel is left behind.
_KILL_WAIT_S = 0.3
KILLED = Message("was killed")
"""Reason passed to `on_end` if `ChildProcess.kill` had to kill the process."""


_running = WeakSet["ChildProcess"]()


def processor_seconds() -> float:
    """Returns the processor seconds of this process and its children. On systems other than Linux, children that are
    still running are not included."""
    times = os.times()
    total = time.process_time() + times.children_user + times.children_system
    if sys.platform == "linux":
        for child in list(_running):
            with suppress(OSError, IndexError):
                fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
                total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


class ChildProcess:
    """Runs ``function(parent: child_main.ParentProcess, arguments)`` in another process.

    Args:
        target: "module:function".
        arguments: anything that can be pickled.
        name: name in messages, and of threads.
        on_message: called with every message, on the thread that serves the child.
        on_end: called once, after the last message, on the same thread, with the reason for the end in one line: "" if
            the function returned, the text of its error, or a `Message` if the process crashed or was killed.
        frames: frames shared with the child; the caller closes them.
        files: open files that the child inherits under the same numbers; not on Windows.

    Raises:
        MissingComponent: the process cannot be started.
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
        self._end_requested = self._killed = False  # whether `kill` has asked the process to end; whether it killed it
        shared = None if frames is None else (frames.slots, frames.bytes, frames.handle)
        # The arguments are pickled separately: the child needs the module path before it unpickles them.
        pickled = pickle.dumps(arguments, pickle.HIGHEST_PROTOCOL)
        self._messages.put(pickle.dumps((sys.path, target, shared, pickled), pickle.HIGHEST_PROTOCOL))
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
        """True if the process still runs."""
        return not self._ended.is_set()

    def send(self, message: object) -> bool:
        """Sends a message to the child's `ParentProcess.receive`; never waits. False if the child has ended or has too
        many unread messages.

        Raises:
            TypeError, AttributeError, pickle.PicklingError: the message cannot be pickled.
        """
        data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        if self._end_requested or self._ended.is_set():
            return False
        try:
            self._messages.put_nowait(data)
        except queue.Full:
            return False
        return True

    def kill(self, wait: float = 0.5) -> None:
        """Asks the process to end, and kills it after `wait` seconds. Until then, it can read earlier messages. Safe to
        call twice, and from `on_message`; there, it kills the process at once."""
        self._end_requested = True
        with suppress(queue.Full):
            self._messages.put_nowait(None)
        own_thread = threading.current_thread() is self._thread
        if own_thread or not self._ended.wait(wait):
            self._killed = True
            self._process.kill()
            self._ended.wait(0 if own_thread else _KILL_WAIT_S)

    def _run(self, started: queue.SimpleQueue[subprocess.Popen[bytes] | OSError]) -> None:
        """Starts the process and receives its messages until it ends. Linux would kill it if this thread ended."""
        if sys.platform != "win32":
            # The child inherits this: Ctrl-C in the terminal must not end it before it can ignore the signal.
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
            except Exception as error:  # noqa: BLE001 - a plugin's class may raise anything
                why = type(error).__name__
                reason = Message("a message of its process cannot be read ({why})", code="process_message", why=why)
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
                else Message(
                    "its process was ended by {signal}", code="process_killed", signal=signal.Signals(-code).name
                )
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
