"""Keeps the folder in which a person is learnt.

It stays when training is interrupted, or its time was too short, so that the same command continues there; at every
other end it is removed.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from io import BufferedRandom
from pathlib import Path

from rtface.engine import learned
from rtface.errors import Interrupted, OutputError, RtfaceError, UsageError
from rtface.util.file_lock import try_lock

_KEY, _LOCK, _SHEET, _SPENT = learned.KEY, "lock", "sheet", "spent"
STAYS_S, _BEGINS_S = 7 * 86_400.0, 10.0
"""Seconds for which an interrupted call is kept; in which a call takes the lock of the folder that it made."""


def remove(name: str) -> bool:
    """Removes what an interrupted call left; whether there was something. Raises UsageError as `work`."""
    folder = learned.unfinished() / name.lower()
    if folder.is_symlink():  # not made by rtface: what it leads to stays
        folder.unlink()
        return True
    if not folder.is_dir():
        return False
    with (folder / _LOCK).open("a+b") as lock:
        _take(lock, name)
        _delete(folder, lock)
    return True


def _delete(folder: Path, lock: BufferedRandom) -> None:
    """Deletes the folder while its lock is held, so that no call begins there in between; but Windows keeps a file that
    is open."""
    if os.name == "nt":
        lock.close()
    shutil.rmtree(folder)


def _take(lock: BufferedRandom, name: str) -> None:
    with suppress(OSError):  # a file system without locks
        if not try_lock(lock):
            raise UsageError(
                "another rtface learns {name} now; wait until it has ended, or end it", code="learn_twice", name=name
            )


def note(folder: Path, sheet: Path) -> None:
    """Notes in the folder that the sheet was written, so that the call which continues may replace it."""
    (folder / _SHEET).write_bytes(os.fsencode(sheet.resolve()))


def spent_s(folder: Path) -> float:
    """Reads the seconds of training that earlier calls had time for."""
    return float((folder / _SPENT).read_text()) if (folder / _SPENT).is_file() else 0.0


def stays(folder: Path, seconds: float) -> bool:
    """Keeps the folder after `seconds` of training in all; returns whether it can."""
    (folder / _SPENT).write_text(str(seconds))
    return learned.continues(folder)


def wrote(name: str, sheet: Path) -> bool:
    """True if an interrupted call for this person wrote the sheet."""
    with suppress(OSError):
        return (learned.unfinished() / name.lower() / _SHEET).read_bytes() == os.fsencode(sheet.resolve())
    return False


@contextmanager
def work(name: str, key: str, *, overwrite: bool = False) -> Generator[Path]:
    """The folder, readable by this user alone; empty but for what a call with the same key left.

    Args:
        name: of the person.
        key: the same only where what is prepared and trained is the same; "" where that is never so, and nothing is
            kept to continue with.
        overwrite: discard what a call with another key left.

    Raises:
        UsageError: another process learns this person now; a call with another key left something.
        OutputError: the folder cannot be made, or written to.
    """
    sweep()
    folder = learned.unfinished() / name.lower()
    try:
        for path in (learned.folder(), learned.unfinished(), folder):
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
        if folder.is_symlink():
            raise OSError(errno.ELOOP, "it is a link, and what lies in it would be deleted; remove it")
        held = (folder / _LOCK).open("a+b")
    except OSError as error:
        raise _cannot_write(folder, error) from error
    kept = False
    with held as lock:
        _take(lock, name)
        before = (folder / _KEY).read_text() if learned.continues(folder) else ""
        if not key or before != key:
            if before and not overwrite and not spent_s(folder):
                raise UsageError(
                    "an interrupted call for {name} is kept, with other sources or faces left out, or of another "
                    "version of rtface: the same command as then continues it, {--overwrite=True} begins again",
                    code="learn_unfinished",
                    name=name,
                )
            for path in folder.iterdir():
                if path.name != _LOCK:
                    (shutil.rmtree if path.is_dir() else Path.unlink)(path)
            (folder / _KEY).write_text(key)
        spent = spent_s(folder)
        try:
            yield folder
            kept = spent_s(folder) > spent and learned.continues(folder)
        except KeyboardInterrupt as error:
            kept = learned.continues(folder)
            if kept:
                raise Interrupted(
                    "interrupted; pictures of the face and what was trained so far are kept for {days} days: the same "
                    "command continues there, and 'rtface persons remove {name}' deletes them",
                    code="learn_kept",
                    days=f"{STAYS_S / 86_400:.0f}",
                    name=name,
                    signum=getattr(error, "signum", 2),
                ) from None
            raise
        except OSError as error:
            if isinstance(error, RtfaceError) or (error.filename and folder not in Path(error.filename).parents):
                raise
            raise _cannot_write(folder, error) from error
        finally:
            if not kept:
                with suppress(OSError):
                    _delete(folder, lock)


def _cannot_write(folder: Path, error: OSError) -> OutputError:
    return OutputError("{path}: cannot be written ({why})", code="cannot_write", path=folder, why=error.strerror)


def sweep() -> None:
    """Removes what calls left that were interrupted long ago, or killed where nothing can be continued."""
    for folder in learned.unfinished().glob("*/"):
        with suppress(OSError):
            stays = STAYS_S if learned.continues(folder) else _BEGINS_S
            if not folder.is_symlink() and time.time() - folder.stat().st_mtime > stays:
                with (folder / _LOCK).open("a+b") as lock:
                    if try_lock(lock):
                        _delete(folder, lock)
