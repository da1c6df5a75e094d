"""Writes outputs to a locked working file. Renames it when it is complete."""

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
# Process ids are unique on one machine only; in containers every process may have number 1. So names contain the host.
HOST = hashlib.sha256(machine_name().encode()).hexdigest()[:6]
_WORK_NAME = re.compile(r"\.([0-9a-f]{6})-\d+-[0-9a-f]{6}\.partial(?:\.[^.]*)?$")


def full(error: BaseException | None) -> str | None:
    """Returns which resource is exhausted if a file cannot grow. Returns None for other errors."""
    return _FULL.get(getattr(error, "errno", None) or 0)


def work_name(path: Path) -> Path:
    """Returns a new hidden name next to `path`. It contains the writer's host and process id."""
    return path.with_name(f".{path.stem}.{HOST}-{os.getpid()}-{secrets.token_hex(3)}.partial{path.suffix}")


def host_of(work: Path) -> str | None:
    """Returns the host tag in a working file's name, or None."""
    match = _WORK_NAME.search(work.name)
    return match[1] if match else None


@dataclass(frozen=True, slots=True)
class Target:
    """The destination of an output.

    Attributes:
        path: the final path, with links resolved.
        shown: the path as the user specified it.
        overwrite: whether an existing file at the path may be replaced.
    """

    path: Path
    shown: str
    overwrite: bool = False

    def keep(self, work: Path) -> Path:
        """Renames a working file or folder to NAME.partial.EXT. If that exists, uses NAME.partial-2.EXT and so on.

        Raises:
            OSError: the file or folder cannot be renamed.
        """
        names = numbered(self.path.with_name(f"{self.path.stem}.partial{self.path.suffix}"))
        while True:
            with contextlib.suppress(FileExistsError):
                rename_new(work, name := next(names))
                return name


class WorkFile(io.FileIO):
    """Lets FFmpeg write a file through Python. The file gets its final name when complete.

    FFmpeg does not open the file itself for two reasons: a short write must not count as complete, and after the first
    fault nothing more may be written, so that the file stays readable up to its last complete part. The file stays open
    and locked until it has its final name.

    Args:
        target: destination of the file.
        path: working name, from `work_name`; a new one by default.

    Attributes:
        path: the working name; after `publish` or `keep`, the final name.
        fault: the first error of a write, or None.
        size: size of the file in bytes.

    Raises:
        OSError: the file cannot be created, for instance because it exists.
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
            with contextlib.suppress(OSError):  # keeps mode and owner of the replaced file
                old = target.path.stat()
                os.fchmod(self.fileno(), stat.S_IMODE(old.st_mode))
                os.fchown(self.fileno(), old.st_uid, old.st_gid)

    @property
    def closed(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether FFmpeg may no longer write. If so, PyAV omits the trailer."""
        return self._sealed or super().closed

    def write(self, data: bytes) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Writes all of `data`.

        Raises:
            OSError: this or an earlier write failed.
            ValueError: the file is sealed.
        """
        if self._sealed:
            raise ValueError("write to a closed file")
        if self.fault is not None:
            raise self.fault
        remaining = memoryview(data)
        total = len(remaining)
        try:
            while remaining:
                remaining = remaining[super().write(remaining) :]
        except OSError as error:
            self.fault = error
            raise
        self.size = max(self.size, self.tell())
        return total

    # -- completion ---------------------------------------------------------------------------------------------

    def seal(self) -> None:
        """Rejects later writes by FFmpeg. Only `edited` can still change the file."""
        self._sealed = True

    def edited(self) -> BinaryIO:
        """Opens the sealed file for corrections. Closing the result writes them."""
        self.seal()
        return open(self.fileno(), "rb+", closefd=False)

    def publish(self, *, sync: bool = True) -> None:
        """Gives the file its final name atomically. Replaces an existing file only if `Target.overwrite` allows it, and
        keeps that file's permissions.

        Args:
            sync: whether to flush everything to the disk before the name changes, so that a power cut leaves either
                the old or the new file.

        Raises:
            FileExistsError: another program created a file with that name, which must not be replaced.
            OSError: the file cannot be renamed. It keeps its working name.
        """
        self.seal()
        if sync:
            sync_file(self.fileno())
        path = self.target.path
        if sys.platform == "win32":  # Windows cannot rename an open file
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
        """Renames the file to NAME.partial.EXT. Raises OSError if that fails; the file then keeps its working name."""
        self.seal()
        self.close()
        self.path = self.target.keep(self.path)
        return self.path

    def discard(self) -> None:
        """Removes the file."""
        self.seal()
        self.close()
        self.path.unlink(missing_ok=True)


def write_whole(target: Target, data: bytes, *, sync: bool = True) -> None:
    """Writes a small file atomically. For `sync`, see `WorkFile.publish`.

    Raises:
        OutputError: the file cannot be written, or another program created it. No working file is left behind.
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
