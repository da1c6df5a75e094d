"""Locks a file for one process or thread, by the operating system.

The system releases the lock when its process ends, even by a crash; the file itself stays. The package filelock is not
used, because it falls back to a marker file if the file system has no locks, and a crash leaves that behind. It also
raises an error if the folder cannot be written, but a cache must then still work, without a lock.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable, Generator
from io import BufferedRandom
from pathlib import Path

from rtface.errors import log


@contextlib.contextmanager
def file_lock(path: Path, waiting: Callable[[], None], patience: float = math.inf) -> Generator[None]:
    """Locks a file inside the block; creates the file if necessary.

    Args:
        path: the file.
        waiting: called once if another process or thread holds the lock.
        patience: seconds to wait for the lock. After that, the block runs without the lock, as it does if no
            lock is possible (a folder that cannot be written, some network file systems).
    """
    with contextlib.ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(path.open("a+b"))
            deadline = time.monotonic() + patience
            if not try_lock(file):
                waiting()
                while not try_lock(file) and time.monotonic() < deadline:
                    time.sleep(0.1)
        except OSError as error:
            log.debug("no lock on %s: %s", path, error)
        yield


def try_lock(file: BufferedRandom) -> bool:
    """Tries to lock a file opened with mode "a+b", without waiting. Closing the file releases the lock.

    Returns:
        Whether this call acquired the lock; False if another process, or another open file of this one, has it.

    Raises:
        OSError: the file system has no locks.
    """
    if sys.platform == "win32":
        import msvcrt

        file.seek(0)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True
    import fcntl

    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
