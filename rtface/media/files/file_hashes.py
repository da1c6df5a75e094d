"""SHA-256 of files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from rtface.errors import InputMissing
from rtface.util.foreign import open_regular

_BLOCK = 1 << 20


def sha256_of(path: Path, *, tick: Callable[[int], None] | None = None) -> str:
    """SHA-256 of a file, read in blocks of 1 MB.

    Args:
        tick: called with the number of bytes of each block; ends the work by what it raises.

    Raises:
        InputMissing: the file is not there or cannot be read.
    """
    value = hashlib.sha256()
    try:
        with open_regular(path) as file:
            while block := file.read(_BLOCK):
                value.update(block)
                if tick is not None:
                    tick(len(block))
    except OSError as error:
        raise InputMissing(
            "{path}: cannot be read ({why})", code="file_unreadable", path=path, why=error.strerror
        ) from error
    return value.hexdigest()


def share_of_bytes(total: int, doing: Callable[[str, float], None] | None) -> Callable[[int], None]:
    """What `sha256_of` calls as `tick`, for several files with `total` bytes together: tells `doing` the share."""
    done = 0

    def tick(count: int) -> None:
        nonlocal done
        done += count
        if doing is not None:
            doing("SHA-256", min(1.0, done / max(total, 1)))

    return tick
