"""One process or thread at a time: the system's own lock on a file.

It ends with the process that holds it, however that ends, so none is ever left behind; the file stays.
"""

from __future__ import annotations

import contextlib
import logging
import math
import sys
import time
from collections.abc import Callable, Generator
from io import BufferedRandom
from pathlib import Path

log = logging.getLogger("rtface")


@contextlib.contextmanager
def turn(path: Path, waiting: Callable[[], None], patience: float = math.inf) -> Generator[None]:
    """Waits until nobody else is inside for the same file, which it makes; `waiting` is called once where that is not
    at once.

    After `patience` seconds, and where there can be no lock (a folder that cannot be written, some network file
    systems), nobody is waited for.
    """
    file: BufferedRandom | None = None
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("a+b")
            begun: float | None = None
            while not _lock(file):
                if begun is None:
                    begun = time.monotonic()
                    waiting()
                if time.monotonic() - begun > patience:
                    log.warning("another process has been at it for %.0f s; going on without waiting", patience)
                    break
                time.sleep(0.1)
        except OSError as error:
            log.debug("no lock on %s: %s", path, error)
        yield
    finally:
        if file is not None:
            file.close()  # and gives the lock back


def _lock(file: BufferedRandom) -> bool:
    """Takes the lock on an open file without waiting. Raises OSError where there are no locks."""
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
