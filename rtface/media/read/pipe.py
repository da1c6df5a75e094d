"""Reading a pipe in a way that can be stopped while nothing comes."""

from __future__ import annotations

import errno
import os
import select
import stat
import sys
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from threading import Event

from rtface.errors import InputMissing
from rtface.redaction import is_url

# How long a stop may go unnoticed, in milliseconds.
_LOOK_MS = 100
# Reads whose time is kept: what FFmpeg reads to know a stream, a frame each.
_CAME = 8192
# Seconds in which reads without a wait between them get what came together.
_TOGETHER_S = 0.1


def is_pipe(path: str | os.PathLike[str]) -> bool:
    """Whether a path names a pipe or FIFO (also ``/dev/stdin`` behind a pipe) that can be read with `PipeReader`."""
    if is_url(path) or sys.platform == "win32":
        return False
    try:
        return stat.S_ISFIFO(Path(path).stat().st_mode)
    except OSError:
        return False


def refuse_pipe(path: str | os.PathLike[str]) -> None:
    """Raises InputMissing for a pipe or device where a file is read more than once, or later."""
    if not is_url(path) and Path(path).exists() and not Path(path).is_file() and not Path(path).is_dir():
        raise InputMissing("{path}: is a pipe or device; write it to a file first", code="pipe_not_taken", path=path)


def _opened(path: str) -> int:
    if sys.platform == "win32":
        raise OSError(errno.ENOSYS, "pipes cannot be read by their names on Windows", path)
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK)


def _ready(pipe: int, milliseconds: int) -> bool:
    """Whether data or the end of a pipe is there within that time."""
    assert sys.platform != "win32"  # there, none is opened
    waiting = select.poll()
    waiting.register(pipe, select.POLLIN)
    return bool(waiting.poll(milliseconds))


class PipeReader:
    """A pipe for FFmpeg to read through Python: a read by FFmpeg itself could not be interrupted.

    Opening does not wait for a writer; the first `read` does.

    Args:
        path: the pipe.
        stop: once it is set, what has come is the whole input.

    Attributes:
        name: the path; FFmpeg goes by its extension where the content is unclear.
        stopped: whether the input ended because of `stop`, and not because its writer closed it.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str], stop: Event) -> None:
        self.name = os.fspath(path)
        self.stopped = False
        self._stop = stop
        self._pipe = _opened(self.name)
        self._bytes, self._came = 0, deque[tuple[int, float]](maxlen=_CAME)
        self._full, self._at = False, 0.0  # whether the last read left something, and when that had come

    def read(self, size: int) -> bytes:
        """Up to `size` bytes as soon as there are any; none at the end."""
        together = self._full and _ready(self._pipe, 0)
        while True:
            over = self._stop.is_set()
            if _ready(self._pipe, 0 if over else _LOOK_MS):
                with suppress(BlockingIOError):
                    data = os.read(self._pipe, size)
                    now, self._bytes, self._full = time.monotonic(), self._bytes + len(data), len(data) == size
                    self._at = self._at if together and now - self._at < _TOGETHER_S else now
                    self._came.append((self._bytes, self._at))
                    return data
            elif over:
                self.stopped = True
                return b""

    def arrival(self, end: int) -> float:
        """When the byte before `end` was there, on the clock of `time.monotonic`; each call asks for a later one."""
        while len(self._came) > 1 and self._came[0][0] < end:
            self._came.popleft()
        return self._came[0][1]

    def close(self) -> None:
        """Lets go of the pipe; safe to call twice."""
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1
