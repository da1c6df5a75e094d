"""Computes SHA-256 hashes of files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from rtface.errors import InputMissing
from rtface.util.foreign import open_regular

_BLOCK_BYTES = 1 << 20


def sha256_of(path: Path, *, tick: Callable[[int], None] | None = None) -> str:
    """Computes the SHA-256 of a file in blocks of 1 MiB.

    Args:
        tick: called after each block with the number of its bytes; may raise exceptions.

    Raises:
        InputMissing: the file does not exist or cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with open_regular(path) as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
                if tick is not None:
                    tick(len(block))
    except OSError as error:
        raise InputMissing(
            "{path}: cannot be read ({why})", code="file_unreadable", path=path, why=error.strerror
        ) from error
    return digest.hexdigest()


def share_of_bytes(total: int, doing: Callable[[str, float], None] | None) -> Callable[[int], None]:
    """Returns a `tick` for `sha256_of` that reports progress over several files. `total` is the sum of their bytes."""
    done = 0

    def tick(count: int) -> None:
        nonlocal done
        done += count
        if doing is not None:
            doing("SHA-256", min(1.0, done / max(total, 1)))

    return tick
