"""Runs a child process: receives a job, runs it, reports the outcome.

This module starts as a script, not with ``-m``, so that it uses the parent's rtface in any folder. Only modules of the
standard library are imported before those of the target.
"""

from __future__ import annotations

import importlib
import os
import pickle
import queue
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from rtface.concurrency.shared_frames import FrameRing

# Seconds for the target function to finish after the parent has ended, or asked it to end; see `ParentProcess.grace`.
GRACE = 2.0
# A terminal, `timeout` and systemd send these signals to all processes of a run. Only the parent acts on them.
SIGNALS = [signal.SIGINT, signal.SIGTERM]
if sys.platform != "win32":
    SIGNALS.append(signal.SIGHUP)
_ENDED = object()


def write(file: BinaryIO, message: bytes) -> None:
    """Writes a message, preceded by its length, and flushes the file."""
    file.write(struct.pack("<I", len(message)) + message)
    file.flush()


def read(file: BinaryIO) -> bytes | None:
    """Reads the next message. Returns None at the end of the file."""
    head = file.read(4)
    if len(head) < 4:
        return None
    body = file.read(struct.unpack("<I", head)[0])
    return body if len(body) == struct.unpack("<I", head)[0] else None


class ParentProcess:
    """Represents the parent process for a function in the child.

    Attributes:
        gone: whether the parent has ended, or has asked this process to end.
        grace: seconds from then until this process exits by itself; the function may set a longer time.
        frames: frames that the two processes share; None if they share none.
    """

    def __init__(self, source: BinaryIO, sink: BinaryIO) -> None:
        self.gone, self.grace = False, GRACE
        self.frames: FrameRing | None = None
        self._source, self._sink = source, sink
        self._messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._lock = threading.Lock()

    def send(self, message: object) -> None:
        """Sends a message. Drops it if the parent has ended.

        Raises:
            TypeError, AttributeError, pickle.PicklingError: the message cannot be pickled.
        """
        self._write(("message", message))

    def receive(self, timeout: float | None = None) -> Any | None:
        """Returns the next message. Returns None after `timeout` seconds, or if `gone` is set."""
        if self.gone and self._messages.empty():
            return None
        try:
            message = self._messages.get(timeout=timeout)
        except queue.Empty:
            return None
        if message is _ENDED:
            self._messages.put(_ENDED)  # for the next call
            return None
        return message

    def _write(self, message: object) -> None:
        data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        with self._lock:
            try:
                write(self._sink, data)
            except (OSError, ValueError):
                self.gone = True

    def _listen(self) -> None:
        while (data := read(self._source)) is not None:
            self._messages.put(pickle.loads(data))
        self.gone = True
        self._messages.put(_ENDED)
        time.sleep(self.grace)
        os._exit(1)


def main() -> None:
    """Runs the target. Moves the pipes to other descriptors, so that a library cannot print into them."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    sys.setswitchinterval(0.0005)
    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    os.dup2(2, 1)
    parent = ParentProcess(source, sink)
    _die_with_parent()
    job = read(source)
    if job is None:
        return
    path, target, shared, arguments = pickle.loads(job)
    sys.path[:] = path
    arguments = pickle.loads(arguments)
    threading.Thread(target=parent._listen, name="rtface-parent", daemon=True).start()  # pyright: ignore
    reason = ""
    try:
        if shared is not None:
            from rtface.concurrency.shared_frames import FrameRing

            parent.frames = FrameRing(*shared)
        module, _, function = target.partition(":")
        run: Callable[[ParentProcess, object], None] = getattr(importlib.import_module(module), function)
        run(parent, arguments)
    except BaseException as error:  # noqa: BLE001 - reported to the parent
        reason = _reason(error)
    parent._write(("end", reason))  # pyright: ignore[reportPrivateUsage]
    os._exit(0)  # does not wait for threads that are stuck in a library


def _reason(error: BaseException) -> str:
    """Describes an error in one line, without secrets."""
    from rtface.errors import Message, RtfaceError, message_of, reason

    return message_of(error) if isinstance(error, RtfaceError) else Message(reason(error)).one_line()


def _die_with_parent() -> None:
    """Makes the kernel kill this process when its starting thread ends. `ChildProcess` keeps that thread alive.
    Does nothing on systems other than Linux."""
    if sys.platform != "linux":
        return
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
    if os.getppid() != int(sys.argv[2]):  # the parent ended before the call
        os._exit(1)


if __name__ == "__main__":
    # Replaces this script's folder, which Python puts first, by the folder that contains the parent's rtface.
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100, PTH120
    from rtface.concurrency import child_main

    child_main.main()
