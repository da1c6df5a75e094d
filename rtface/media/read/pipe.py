"""Reads a pipe so that a wait for data can be interrupted."""

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

# Interval in milliseconds at which a waiting read checks for a stop.
_POLL_MS = 100
# Number of reads whose times are kept: enough for FFmpeg's probe with one frame per read.
_MAX_TIMES = 8192
# Seconds within which consecutive reads without a wait count as one arrival.
_BURST_S = 0.1


def is_pipe(path: str | os.PathLike[str]) -> bool:
    """Returns whether `PipeReader` can read a path: a FIFO or piped ``/dev/stdin``."""
    if is_url(path) or sys.platform == "win32":
        return False
    try:
        return stat.S_ISFIFO(Path(path).stat().st_mode)
    except OSError:
        return False


def refuse_pipe(path: str | os.PathLike[str]) -> None:
    """Raises InputMissing for a pipe or device, which cannot be read twice."""
    if not is_url(path) and Path(path).exists() and not Path(path).is_file() and not Path(path).is_dir():
        raise InputMissing("{path}: is a pipe or device; copy it to a file first", code="pipe_not_taken", path=path)


def _open(path: str) -> int:
    if sys.platform == "win32":
        raise OSError(errno.ENOSYS, "pipes cannot be read by their names on Windows", path)
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK)


def _wait_for_data(pipe: int, milliseconds: int) -> bool:
    """Waits for data or the pipe's end. Returns whether either came in time."""
    assert sys.platform != "win32"  # `_open` fails there
    poller = select.poll()
    poller.register(pipe, select.POLLIN)
    return bool(poller.poll(milliseconds))


class PipeReader:
    """Lets FFmpeg read a pipe through Python. FFmpeg's own reads cannot be interrupted.

    Opening does not wait for a writer; the first `read` does.

    Args:
        path: the pipe.
        stop: event that ends the input when it is set.

    Attributes:
        name: the path; FFmpeg uses its extension if the content is ambiguous.
        stopped: whether `stop`, not the writer, ended the input.

    Raises:
        OSError: the pipe cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str], stop: Event) -> None:
        self.name = os.fspath(path)
        self.stopped = False
        self._stop = stop
        self._pipe = _open(self.name)
        self._bytes, self._arrivals = 0, deque[tuple[int, float]](maxlen=_MAX_TIMES)
        self._more_pending, self._arrived = False, 0.0  # whether the last read may have left data, and its arrival time

    def read(self, size: int) -> bytes:
        """Reads up to `size` bytes as soon as there are any. Returns empty bytes at the end."""
        continues = self._more_pending and _wait_for_data(self._pipe, 0)
        while True:
            stopping = self._stop.is_set()
            if _wait_for_data(self._pipe, 0 if stopping else _POLL_MS):
                with suppress(BlockingIOError):
                    data = os.read(self._pipe, size)
                    now, self._bytes, self._more_pending = time.monotonic(), self._bytes + len(data), len(data) == size
                    self._arrived = self._arrived if continues and now - self._arrived < _BURST_S else now
                    self._arrivals.append((self._bytes, self._arrived))
                    return data
            elif stopping:
                self.stopped = True
                return b""

    def arrival(self, end: int) -> float:
        """Returns when the byte before offset `end` arrived (`time.monotonic`). `end` must never decrease."""
        while len(self._arrivals) > 1 and self._arrivals[0][0] < end:
            self._arrivals.popleft()
        return self._arrivals[0][1]

    def close(self) -> None:
        """Closes the pipe; safe to call twice."""
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1
