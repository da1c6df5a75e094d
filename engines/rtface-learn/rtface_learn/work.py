"""Manages the working folder for learning a person.

If training is interrupted or runs out of time, the folder remains, so that the same command can continue. Otherwise,
the folder is removed.
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
RETENTION_S, _STARTUP_S = 7 * 86_400.0, 10.0
"""Seconds for which the folder of an interrupted call is kept; maximum seconds from creating to locking a folder."""


def remove(name: str) -> bool:
    """Removes the folder of an interrupted call. Returns whether it existed. Raises UsageError if it is in use."""
    folder = learned.unfinished() / name.lower()
    if folder.is_symlink():  # rtface did not create the link, so the target is not deleted
        folder.unlink()
        return True
    if not folder.is_dir():
        return False
    with (folder / _LOCK).open("a+b") as lock:
        _acquire(lock, name)
        _delete(folder, lock)
    return True


def _delete(folder: Path, lock: BufferedRandom) -> None:
    """Deletes the folder under its lock. Thus no other call starts to use it."""
    if os.name == "nt":  # Windows cannot delete an open file
        lock.close()
    shutil.rmtree(folder)


def _acquire(lock: BufferedRandom, name: str) -> None:
    with suppress(OSError):  # the file system may not support locks
        if not try_lock(lock):
            raise UsageError(
                "another rtface is learning {name}; wait for it to finish, or stop it", code="learn_twice", name=name
            )


def note_sheet(folder: Path, sheet: Path) -> None:
    """Records the path of the sheet. A call that continues may overwrite this file."""
    (folder / _SHEET).write_bytes(os.fsencode(sheet.resolve()))


def trained_s(folder: Path) -> float:
    """Reads the training time of earlier calls, in seconds."""
    return float((folder / _SPENT).read_text()) if (folder / _SPENT).is_file() else 0.0


def keep(folder: Path, seconds: float) -> bool:
    """Keeps the folder and records the total training time. Returns whether a later call can continue."""
    (folder / _SPENT).write_text(str(seconds))
    return learned.continues(folder)


def wrote_sheet(name: str, sheet: Path) -> bool:
    """Checks whether an interrupted call for this person wrote the sheet."""
    with suppress(OSError):
        return (learned.unfinished() / name.lower() / _SHEET).read_bytes() == os.fsencode(sheet.resolve())
    return False


@contextmanager
def work(name: str, key: str, *, overwrite: bool = False) -> Generator[Path]:
    """Yields the private working folder. Files from a call with the same key remain in it.

    Args:
        name: name of the person.
        key: hash of preparation and training. "" if they cannot be repeated; in this case, the folder is not kept.
        overwrite: True to discard files that a call with a different key left.

    Raises:
        UsageError: another process is learning this person, or a call with a different key left files.
        OutputError: the folder cannot be created or written to.
    """
    sweep()
    folder = learned.unfinished() / name.lower()
    try:
        for path in (learned.folder(), learned.unfinished(), folder):
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
        if folder.is_symlink():
            raise OSError(errno.ELOOP, "it is a link, and the files in its target would be deleted; remove the link")
        lock_file = (folder / _LOCK).open("a+b")
    except OSError as error:
        raise _cannot_write(folder, error) from error
    keep_files = False
    with lock_file as lock:
        _acquire(lock, name)
        previous_key = (folder / _KEY).read_text() if learned.continues(folder) else ""
        if not key or previous_key != key:
            if previous_key and not overwrite and not trained_s(folder):
                raise UsageError(
                    "an earlier call for {name} was interrupted, and its sources, excluded faces or version of rtface "
                    "differ: repeat that command to continue it, or start again with {--overwrite=True}",
                    code="learn_unfinished",
                    name=name,
                )
            for path in folder.iterdir():
                if path.name != _LOCK:
                    (shutil.rmtree if path.is_dir() else Path.unlink)(path)
            (folder / _KEY).write_text(key)
        trained_before = trained_s(folder)
        try:
            yield folder
            keep_files = trained_s(folder) > trained_before and learned.continues(folder)
        except KeyboardInterrupt as error:
            keep_files = learned.continues(folder)
            if keep_files:
                raise Interrupted(
                    "interrupted; pictures of the face and the training so far are kept for {days} days: the same "
                    "command continues the training, and 'rtface persons remove {name}' deletes them",
                    code="learn_kept",
                    days=f"{RETENTION_S / 86_400:.0f}",
                    name=name,
                    signum=getattr(error, "signum", 2),
                ) from None
            raise
        except OSError as error:
            if isinstance(error, RtfaceError) or (error.filename and folder not in Path(error.filename).parents):
                raise
            raise _cannot_write(folder, error) from error
        finally:
            if not keep_files:
                with suppress(OSError):
                    _delete(folder, lock)


def _cannot_write(folder: Path, error: OSError) -> OutputError:
    return OutputError("{path}: cannot be written ({why})", code="cannot_write", path=folder, why=error.strerror)


def sweep() -> None:
    """Removes old folders of interrupted calls. A folder that no call can continue is removed sooner."""
    for folder in learned.unfinished().glob("*/"):
        with suppress(OSError):
            retention_s = RETENTION_S if learned.continues(folder) else _STARTUP_S
            if not folder.is_symlink() and time.time() - folder.stat().st_mtime > retention_s:
                with (folder / _LOCK).open("a+b") as lock:
                    if try_lock(lock):
                        _delete(folder, lock)
