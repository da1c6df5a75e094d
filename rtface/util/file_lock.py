"""File lock: the operating system's lock on a file, held by one process or thread at a time.

The system frees it when the holding process ends, also by a crash; the file itself stays. The package filelock is not
used: where a file system has no locks it falls back to a marker file, which a crash leaves behind, and where the folder
cannot be written it raises, while a cache must work without a lock then.
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
    """Holds the lock on a file inside the block; makes the file.

    Args:
        path: the file.
        waiting: called once if another process or thread holds the lock.
        patience: seconds to wait for it; after that the block runs without the lock, as it does where there can be none
            (a folder that cannot be written, some network file systems).
    """
    file: BufferedRandom | None = None
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("a+b")
            begun: float | None = None
            while not try_lock(file):
                if begun is None:
                    begun = time.monotonic()
                    waiting()
                if time.monotonic() - begun > patience:
                    log.warning(
                        "another process has held the lock %s for %.0f s; continuing without it", path, patience
                    )
                    break
                time.sleep(0.1)
        except OSError as error:
            log.debug("no lock on %s: %s", path, error)
        yield
    finally:
        if file is not None:
            file.close()  # which frees the lock


def try_lock(file: BufferedRandom) -> bool:
    """Takes the lock on a file opened with mode "a+b" without waiting; closing the file frees it.

    Returns:
        Whether it was taken; False while another process or another open file of this one holds it.

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
