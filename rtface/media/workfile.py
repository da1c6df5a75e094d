"""The file that is written to until the output is whole: its name, its checks, and what happens when it cannot grow."""

from __future__ import annotations

import errno
import glob
import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

from rtface.errors import OutputError

# In containers every process may have number 1.
_PROCESS = f"{os.getpid()}-{secrets.token_hex(3)}"
_FULL = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up",
         errno.EFBIG: "the file size limit is reached"}


def full(error: BaseException | None) -> str | None:
    """What ran out, when an error means that a file cannot grow; else None."""
    return _FULL.get(getattr(error, "errno", None) or 0)


@dataclass(frozen=True, slots=True)
class Target:
    """Where an output goes.

    Attributes:
        path: its final name, links resolved.
        shown: as the user named it.
    """

    path: Path
    shown: str

    @property
    def work(self) -> Path:
        """Hidden name beside it that this process writes under."""
        return self.path.with_name(f".{self.path.stem}.{_PROCESS}.partial{self.path.suffix}")

    @property
    def leftovers(self) -> list[Path]:
        """Working files of other runs to the same output: killed ones, or one that is still at it."""
        return sorted(self.path.parent.glob(f".{glob.escape(self.path.stem)}.*.partial{glob.escape(self.path.suffix)}"))

    @property
    def partial(self) -> Path:
        """Name for a part that plays; an older part is not overwritten."""
        for number in range(1, 1000):
            tail = ".partial" if number == 1 else f".partial-{number}"
            name = self.path.with_name(f"{self.path.stem}{tail}{self.path.suffix}")
            if not name.exists():
                return name
        raise OutputError(f"{self.shown}: there are 999 partial files beside it already; remove them")


def check_target(output: str | os.PathLike[str], *, inputs: list[str], overwrite: bool) -> Target:
    """Everything about a file's place that can be wrong, before any work.

    Args:
        output: the file to write.
        inputs: files that are read; the output must be none of them.
        overwrite: whether an existing file may be replaced.

    Raises:
        OutputError: missing or read-only folder, the name is a folder's, it exists, or it is an input (also by link).
    """
    shown = os.fspath(output)
    named = Path(output)
    if named.is_dir():
        raise OutputError(f"{shown}: is a folder; name a file in it, such as {named / 'enhanced.mp4'}")
    for name in inputs:
        try:
            same = named.samefile(name)
        except OSError:
            same = False
        if same:
            raise OutputError(f"{shown}: is the input itself; choose another name for the output")
    path = Path(os.path.realpath(named))
    if not path.parent.is_dir():
        raise OutputError(f"{shown}: there is no folder {path.parent}; make it first")
    if path.exists() and not path.is_file():
        raise OutputError(f"{shown}: is not a regular file; choose another name")
    if path.exists() and not overwrite:
        raise OutputError(f"{shown}: exists already; --overwrite replaces it once the new one is whole")
    target = Target(path, shown)
    probe = target.work
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise OutputError(f"{shown}: the name is too long for this folder ({len(os.fsencode(path.name))} bytes, "
                              "and the working file beside it needs about 30 more); choose a shorter one") from error
        raise OutputError(f"{shown}: the folder {path.parent} cannot be written to ({error.strerror}); "
                          "choose another place or change its permissions") from error
    return target


def free_bytes(folder: Path) -> int:
    """Bytes that are free where a file will be written."""
    return shutil.disk_usage(folder).free


class WorkFile:
    """A file for FFmpeg to write into, through Python.

    Two reasons not to let FFmpeg open it: a short write must not pass as a whole one, and after the first fault
    nothing more may be written, so that what lies on the disk stays readable to its last whole part.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fault: OSError | None = None
        self.size = 0
        self._file = path.open("wb+", buffering=0)

    @property
    def closed(self) -> bool:
        """Whether it is closed; PyAV then leaves out the trailer."""
        return self._file.closed

    def write(self, data: bytes) -> int:
        """Writes all of `data`.

        Raises:
            OSError: it could not be written, now or earlier.
        """
        if self.fault is not None:
            raise self.fault
        rest = memoryview(data)
        total = len(rest)
        try:
            while rest:
                rest = rest[self._file.write(rest):]
        except OSError as error:
            self.fault = error
            raise
        self.size = max(self.size, self._file.tell())
        return total

    def read(self, size: int = -1) -> bytes:
        """Reads from the current place."""
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Moves to a place, as `io.RawIOBase.seek`."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """The current place."""
        return self._file.tell()

    def seekable(self) -> bool:
        """Always."""
        return True

    def writable(self) -> bool:
        """Always."""
        return True

    def close(self) -> None:
        """Closes it; safe to call twice."""
        self._file.close()
