"""Manages the working folder for learning a person.

If training is interrupted or runs out of time, the folder stays, so that the same command can continue. Otherwise
it is removed.
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
"""Seconds to keep an interrupted call; maximum seconds between creating a folder and locking it."""


def remove(name: str) -> bool:
    """Removes the folder of an interrupted call. Returns whether it existed. Raises UsageError if it is in use."""
    folder = learned.unfinished() / name.lower()
    if folder.is_symlink():  # rtface did not create the link, so its target stays
        folder.unlink()
        return True
    if not folder.is_dir():
        return False
    with (folder / _LOCK).open("a+b") as lock:
        _take(lock, name)
        _delete(folder, lock)
    return True


def _delete(folder: Path, lock: BufferedRandom) -> None:
    """Deletes the folder while holding its lock. So no other call starts to use it."""
    if os.name == "nt":  # Windows cannot delete an open file
        lock.close()
    shutil.rmtree(folder)


def _take(lock: BufferedRandom, name: str) -> None:
    with suppress(OSError):  # the file system may not support locks
        if not try_lock(lock):
            raise UsageError(
                "another rtface is learning {name}; wait until it ends, or stop it", code="learn_twice", name=name
            )


def note_sheet(folder: Path, sheet: Path) -> None:
    """Records the path of the sheet. A call that continues may overwrite it."""
    (folder / _SHEET).write_bytes(os.fsencode(sheet.resolve()))


def spent_s(folder: Path) -> float:
    """Reads for how many seconds earlier calls have trained."""
    return float((folder / _SPENT).read_text()) if (folder / _SPENT).is_file() else 0.0


def keep(folder: Path, seconds: float) -> bool:
    """Keeps the folder and records the total training time. Returns whether a later call can continue there."""
    (folder / _SPENT).write_text(str(seconds))
    return learned.continues(folder)


def wrote_sheet(name: str, sheet: Path) -> bool:
    """Checks whether an interrupted call for this person wrote the sheet."""
    with suppress(OSError):
        return (learned.unfinished() / name.lower() / _SHEET).read_bytes() == os.fsencode(sheet.resolve())
    return False


@contextmanager
def work(name: str, key: str, *, overwrite: bool = False) -> Generator[Path]:
    """Yields the private working folder. It has any files that a call with the same key left.

    Args:
        name: name of the person.
        key: hash of preparation and training. "" if they cannot be repeated; the folder is not kept in this case.
        overwrite: True to discard files that a call with another key left.

    Raises:
        UsageError: another process is learning this person, or a call with another key left files.
        OutputError: the folder cannot be created or written to.
    """
    sweep()
    folder = learned.unfinished() / name.lower()
    try:
        for path in (learned.folder(), learned.unfinished(), folder):
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
        if folder.is_symlink():
            raise OSError(errno.ELOOP, "it is a link, and the files behind it would be deleted; remove the link")
        lock_file = (folder / _LOCK).open("a+b")
    except OSError as error:
        raise _cannot_write(folder, error) from error
    kept = False
    with lock_file as lock:
        _take(lock, name)
        before = (folder / _KEY).read_text() if learned.continues(folder) else ""
        if not key or before != key:
            if before and not overwrite and not spent_s(folder):
                raise UsageError(
                    "an interrupted call for {name} is kept, and its sources, excluded faces or version of rtface "
                    "differ: repeat that command to continue it, or begin again with {--overwrite=True}",
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
                    "interrupted; pictures of the face and the training so far are kept for {days} days: the same "
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
    """Removes old folders of interrupted calls. Folders that cannot be continued are removed sooner."""
    for folder in learned.unfinished().glob("*/"):
        with suppress(OSError):
            kept_s = STAYS_S if learned.continues(folder) else _BEGINS_S
            if not folder.is_symlink() and time.time() - folder.stat().st_mtime > kept_s:
                with (folder / _LOCK).open("a+b") as lock:
                    if try_lock(lock):
                        _delete(folder, lock)
