"""Provides operations that the standard library lacks: renaming without replacing, tolerant locks and fsync."""

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
"""Flags of `os.open` that create a file and fail if it exists."""


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
    if sys.platform == "win32" or source.is_dir():  # Windows never replaces; others replace only an empty folder
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
            if os.path.lexists(source):  # otherwise the file was renamed, and only the server's reply was lost
                target.unlink()
            raise
        return
    with contextlib.suppress(OSError):
        source.unlink()


def write_atomically(path: Path, data: bytes, *, private: bool = False) -> None:
    """Writes a file under a temporary name, then renames it. No process ever sees a half-written file.

    Creates missing folders. With `private`, only this user can read the file and a new folder. Raises OSError; no part
    of the file is then left.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700 if private else 0o777)
    # The name is random, because in containers every process may have the ID 1.
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
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sync_file(descriptor: int) -> None:
    """Syncs a file descriptor to disk. Does nothing on file systems without fsync."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise


def lock(descriptor: int) -> bool:
    """Locks an open file or folder without waiting. Returns False if its file system has no locks.

    Raises:
        BlockingIOError: another process holds the lock.
    """
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True


def now_in(folder: Path) -> float:
    """Returns the time of the machine that stores a folder. Reads it from a new file there; if none can be created,
    returns this machine's time."""
    try:
        with tempfile.TemporaryFile(dir=folder, prefix=".") as file:
            file.write(b"0")
            file.flush()
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        return time.time()
