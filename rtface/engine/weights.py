"""Checks weights files against their recipes, without reading them at every start.

The SHA-256 of a correct file is cached with the file's path, size, inode and modification times. If any of these
differs, the whole file is read again.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from rtface.util.checksummed_file import read_checksummed, write_checksummed
from rtface.util.paths import cache_dir


def weights_fault(path: Path, size: int, sha256: str, *, reread: bool = False) -> str | None:
    """Returns the fault of a weights file; None if it is correct.

    `size` is in bytes, `sha256` in hex. `reread` ignores the cache, because disk errors change
    no attribute of the file.
    """
    try:
        with path.open("rb") as file:
            stat = os.fstat(file.fileno())
            if stat.st_size != size:
                return f"{stat.st_size} bytes instead of {size}"
            record = _record(path, stat, sha256)
            if not reread and read_checksummed(_record_path(path)) == record:
                return None
            if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                return "changed (SHA-256 differs from the recipe)"
            write_checksummed(_record_path(path), record)
            return None
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        return f"unreadable ({error.strerror})"


def _record_path(path: Path) -> Path:
    """Returns the cache file for a record of a checked file."""
    return cache_dir() / "weights" / hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:20]


def _record(path: Path, stat: os.stat_result, sha256: str) -> bytes:
    # The record includes ctime, because programs can set mtime back.
    return json.dumps(
        [str(path.resolve()), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, sha256]
    ).encode()
