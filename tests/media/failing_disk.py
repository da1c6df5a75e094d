"""A disk that fails while a film is read."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


class FailingDisk:
    """Lets the `at`-th read of a file fail, and those after it where `for_good` is set.

    Attributes:
        failed: whether one did.
    """

    def __init__(self, path: Path, at: int, *, for_good: bool = False) -> None:
        self._file, self._at, self._for_good = path.stat(), at, for_good
        self._reads, self._read = 0, os.read
        self.failed = False

    def read(self, file: int, size: int) -> bytes:
        if os.path.samestat(os.fstat(file), self._file):
            self._reads += 1
            if self._reads == self._at or (self._for_good and self._reads > self._at):
                self.failed = True
                raise OSError(errno.EIO, "Input/output error")
        return self._read(file, size)


def each_read(
    path: Path, monkeypatch: pytest.MonkeyPatch, do: Callable[[], object], error: type[Exception], **more: bool
) -> Iterator[int]:
    """Does something with the first read of a file failing, then with the second …, until none fails; gives the number
    each time after it ended with the error that is due. Fails where it ends well although a read did not."""
    for at in range(1, 1000):
        disk = FailingDisk(path, at, **more)
        with monkeypatch.context() as patch:
            patch.setattr(os, "read", disk.read)
            try:
                do()
            except error as caught:
                assert disk.failed and "Input/output error" in str(caught)
            else:
                assert not disk.failed, f"read {at} failed, and it ended well"
                return
        yield at
