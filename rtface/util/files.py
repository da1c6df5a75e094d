"""Adds file operations to the standard library's: rename, locks, fsync. Renaming never replaces a file."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

if sys.platform != "win32":
    import fcntl

# Hard links, locks and fsync are missing from some file systems (FAT, some network shares).
_UNSUPPORTED = (
    errno.EPERM,
    errno.EACCES,
    errno.ENOSYS,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
    errno.EMLINK,
    errno.EINVAL,
    errno.EXDEV,
)
NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
"""Flags that open a new file only."""


def numbered(path: Path) -> Iterator[Path]:
    """Yields a path, then the same path with -2, -3, … endlessly."""
    yield path
    for number in itertools.count(2):
        yield path.with_stem(f"{path.stem}-{number}")


def rename_new(source: Path, target: Path) -> None:
    """Renames a file or folder without ever replacing another.

    Raises:
        FileExistsError: the target exists.
        OSError: the source cannot be renamed.
    """
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    if sys.platform == "win32" or source.is_dir():  # Windows replaces nothing, others only an empty folder
        source.rename(target)
        return
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        os.close(os.open(target, NEW, 0o600))  # an empty file claims the name
        try:
            source.replace(target)
        except OSError:
            if os.path.lexists(source):  # else the file was renamed, and only the server's reply was lost
                target.unlink()
            raise
        return
    with contextlib.suppress(OSError):
        source.unlink()


def write_atomically(path: Path, data: bytes, *, private: bool = False) -> None:
    """Writes a file under a temporary name, then renames it. No process ever sees a half-written file.

    Missing folders are made. With `private`, only this user can read the file and a new folder. Raises OSError, after
    which nothing of the file is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700 if private else 0o777)
    # The name is random, because in containers every process may have the number 1.
    work = path.with_name(f"{path.name}.{secrets.token_hex(6)}.part")
    try:
        with os.fdopen(os.open(work, NEW, 0o600 if private else 0o666), "wb") as file:
            file.write(data)
        work.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            work.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Syncs the names in a folder to disk, if the system can."""
    if sys.platform == "win32":
        return
    with contextlib.suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def sync_file(number: int) -> None:
    """Syncs a file descriptor to disk. Does nothing on file systems without fsync."""
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise


def lock(number: int) -> bool:
    """Locks an open file or folder without waiting. Returns False if its file system has no locks.

    Raises:
        BlockingIOError: another process holds the lock.
    """
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True


def now_in(folder: Path) -> float:
    """Returns the time of the machine that stores a folder. It is read from a new file there. If none can be made, this
    machine's time is returned."""
    try:
        with tempfile.TemporaryFile(dir=folder, prefix=".") as file:
            file.write(b"0")
            file.flush()
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        return time.time()
