"""Reads a file for FFmpeg. Distinguishes disk errors from the file's end."""

from __future__ import annotations

import os
from pathlib import Path

from rtface.errors import InputError, InputMissing
from rtface.redaction import is_url, shown
from rtface.stats import Stats


class FileReader:
    """Lets FFmpeg read a file through Python. Otherwise, many of its demuxers would mistake a failed read for the
    end of the file, or continue after it.

    Args:
        path: a regular file.

    Attributes:
        name: the file's URL for FFmpeg.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.name = f"file:{os.fspath(path)}"  # otherwise, "a:b.mp4" would be parsed as a protocol
        self._path, self._shown = path, shown(path)
        self._file = -1
        self._file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        self._opened = os.fstat(self._file)
        self._failed = False

    def read(self, size: int) -> bytes:
        """Reads up to `size` bytes. Returns empty bytes at the end.

        Raises:
            InputError: the disk fails, or the file became shorter. PyAV raises this error when FFmpeg's call returns,
                however the demuxer reacts. Later reads return nothing.
        """
        if self._failed:
            return b""
        try:
            data = os.read(self._file, size)
            offset = os.lseek(self._file, 0, os.SEEK_CUR)
        except OSError as error:
            self._failed = True
            raise InputError(
                "{path}: could not be read ({why}): check the disk or network drive that it is on, then run it again",
                code="disk_error",
                path=self._shown,
                why=error.strerror,
            ) from error
        if not data and offset < self._opened.st_size:
            self._failed = True
            raise self._shorter_error(offset)
        return data

    def check_growth(self, stats: Stats, reached: str) -> None:
        """Warns if the file grew, changed or was replaced during reading.

        Args:
            stats: receives the warning.
            reached: the time up to which the file was read, for messages.

        Raises:
            InputError: the file became shorter.
        """
        opened = self._opened
        try:
            current = os.stat(self._path)  # noqa: PTH116 - as `fstat`
        except OSError:
            return  # the file is gone
        if (current.st_size, current.st_mtime_ns) == (opened.st_size, opened.st_mtime_ns):
            return
        if current.st_size < opened.st_size and current.st_ino == opened.st_ino:
            raise self._shorter_error(current.st_size)
        stats.warn(
            "growing",
            f"{self._shown}: was replaced while it was read; the frames are those of the file that was opened"
            if current.st_ino != opened.st_ino
            else f"{self._shown}: was still being written while it was read; everything after {reached} is left out; "
            "run it again when it is complete"
            if current.st_size > opened.st_size
            else f"{self._shown}: was changed while it was read; run it again",
        )

    def _shorter_error(self, size: int) -> InputError:
        return InputError(
            "{path}: became shorter while it was read ({size} bytes before, {at} now); run again when it is complete",
            code="film_shorter",
            path=self._shown,
            size=self._opened.st_size,
            at=size,
        )

    def seek(self, offset: int, whence: int) -> int:
        """Moves to another offset and returns it."""
        return os.lseek(self._file, offset, whence)

    def tell(self) -> int:
        """Returns the offset of the next read."""
        return os.lseek(self._file, 0, os.SEEK_CUR)

    def close(self) -> None:
        """Closes the file; safe to call twice."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    __del__ = close


def file_reader(path: str | os.PathLike[str]) -> FileReader | None:
    """Opens a reader of a regular file. Returns None for other paths.

    Raises:
        InputMissing: the file cannot be read.
    """
    if is_url(path) or not Path(path).is_file():
        return None
    try:
        return FileReader(path)
    except OSError as error:
        raise InputMissing(
            "{path}: cannot be read ({why}); check its permissions, and the disk that it is on",
            code="disk_unreadable",
            path=shown(path),
            why=error.strerror,
        ) from error
