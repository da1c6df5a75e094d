"""The file that is written to until the output is whole: made once, locked, and renamed in one step."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import re
import secrets
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from rtface.errors import OutputError
from rtface.util.files import lock, numbered, rename_new, sync_file, sync_folder
from rtface.util.machine import machine_name

_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file size limit is reached",
}
# Process ids mean something on one machine only: in containers every process may have number 1.
HOST = hashlib.sha256(machine_name().encode()).hexdigest()[:6]
_WORK_NAME = re.compile(r"\.([0-9a-f]{6})-\d+-[0-9a-f]{6}\.partial(?:\.[^.]*)?$")


def full(error: BaseException | None) -> str | None:
    """What ran out, when an error means that a file cannot grow; else None."""
    return _FULL.get(getattr(error, "errno", None) or 0)


def work_name(path: Path) -> Path:
    """A new hidden name in the folder of `path` to write under; it says which process of which host writes."""
    return path.with_name(f".{path.stem}.{HOST}-{os.getpid()}-{secrets.token_hex(3)}.partial{path.suffix}")


def host_of(work: Path) -> str | None:
    """Gives the host tag in a working file's name; None for other names."""
    match = _WORK_NAME.search(work.name)
    return match[1] if match else None


@dataclass(frozen=True, slots=True)
class Target:
    """Where an output goes.

    Attributes:
        path: its final name, links resolved.
        shown: as the user named it.
        overwrite: whether a file of that name may be replaced.
    """

    path: Path
    shown: str
    overwrite: bool = False

    def keep(self, work: Path) -> Path:
        """Renames a working file or folder to NAME.partial.EXT, or NAME.partial-2.EXT …: nothing is replaced.

        Raises:
            OSError: it cannot be renamed.
        """
        names = numbered(self.path.with_name(f"{self.path.stem}.partial{self.path.suffix}"))
        while True:
            with contextlib.suppress(FileExistsError):
                rename_new(work, name := next(names))
                return name


class WorkFile(io.FileIO):
    """A file that FFmpeg writes into through Python, and that is given its name when it is whole.

    Two reasons not to let FFmpeg open it: a short write must not pass as a whole one, and after the first fault
    nothing more may be written, so that what lies on the disk stays readable to its last whole part. The file is opened
    once and stays open and locked until it has its final name.

    Args:
        target: what it becomes.
        path: its working name, from `work_name`; a new one without.

    Attributes:
        path: its working name, and after `publish` or `keep` the name that it got.
        fault: the first error of a write.
        size: bytes.

    Raises:
        OSError: it cannot be made; something of that name is there, for one.
    """

    def __init__(self, target: Target, path: Path | None = None) -> None:
        self.target = target
        self.fault: OSError | None = None
        self.size = 0
        self._sealed = False
        self.path = path or work_name(target.path)
        super().__init__(self.path, "x+")
        with contextlib.suppress(BlockingIOError):
            lock(self.fileno())
        if target.overwrite and sys.platform != "win32":
            with contextlib.suppress(OSError):  # of the file that it replaces
                old = target.path.stat()
                os.fchmod(self.fileno(), stat.S_IMODE(old.st_mode))
                os.fchown(self.fileno(), old.st_uid, old.st_gid)

    @property
    def closed(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether no more may be written by FFmpeg; PyAV then leaves out the trailer."""
        return self._sealed or super().closed

    def write(self, data: bytes) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Writes all of `data`.

        Raises:
            OSError: it could not be written, now or earlier.
            ValueError: the file is sealed.
        """
        if self._sealed:
            raise ValueError("write to a closed file")
        if self.fault is not None:
            raise self.fault
        rest = memoryview(data)
        total = len(rest)
        try:
            while rest:
                rest = rest[super().write(rest) :]
        except OSError as error:
            self.fault = error
            raise
        self.size = max(self.size, self.tell())
        return total

    # -- its ends -----------------------------------------------------------------------------------------------

    def seal(self) -> None:
        """Refuses further writes of FFmpeg: what is in the file stays as it is, but for `edited`."""
        self._sealed = True

    def edited(self) -> BinaryIO:
        """The sealed file for what is put right in it afterwards; close it to have that written."""
        self.seal()
        return open(self.fileno(), "rb+", closefd=False)

    def publish(self, *, sync: bool = True) -> None:
        """Gives the file its final name in one step. An older file of that name is replaced only where its owner
        allowed that (`Target.overwrite`), and its permissions stay.

        Args:
            sync: whether the disk has everything before the name changes, so that a power cut leaves the old file or
                the new one.

        Raises:
            FileExistsError: a file came there meanwhile, and must not be replaced.
            OSError: it cannot be renamed; the file keeps its working name.
        """
        self.seal()
        if sync:
            sync_file(self.fileno())
        path = self.target.path
        if sys.platform == "win32":  # an open file cannot be renamed there
            self.close()
        if self.target.overwrite:
            self.path.replace(path)
        else:
            rename_new(self.path, path)
        self.path = path
        self.close()
        if sync:
            sync_folder(path.parent)

    def keep(self) -> Path:
        """Gives it the name NAME.partial.EXT; raises as `Target.keep`, and then it has its working name."""
        self.seal()
        self.close()
        self.path = self.target.keep(self.path)
        return self.path

    def discard(self) -> None:
        """Removes it."""
        self.seal()
        self.close()
        self.path.unlink(missing_ok=True)


def write_whole(target: Target, data: bytes, *, sync: bool = True) -> None:
    """Writes a small file so that it appears under its name only when it is whole; `sync` as `WorkFile.publish`.

    Raises:
        OutputError: it cannot be written, or a file came there meanwhile; nothing is left.
    """
    try:
        file = WorkFile(target)
        try:
            file.write(data)
            file.publish(sync=sync)
        except BaseException:
            file.discard()
            raise
    except OSError as error:
        raise OutputError(
            "{path}: cannot be written ({why})",
            code="unwritable",
            path=target.shown,
            why=full(error) or error.strerror,
        ) from error
