"""Whether a file of weights is the one that its recipe names, without reading all of it at every start.

The SHA-256 of a file that was found right is remembered in the cache folder with what the system says of the file:
place, size, inode, and when it was last changed. Where any of these differs all of it is read again.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from rtface.util.checksummed_file import read_checksummed, write_checksummed
from rtface.util.paths import cache_dir


def weights_fault(path: Path, size: int, sha256: str, *, anew: bool = False) -> str | None:
    """None when `path` holds `size` bytes of that SHA-256 (hex), else what is wrong with it.

    `anew` reads it whatever is remembered: what a disk does to a file by itself the system does not say.
    """
    try:
        with path.open("rb") as file:
            seen = os.fstat(file.fileno())
            if seen.st_size != size:
                return f"{seen.st_size} bytes instead of {size}"
            known = _known(path, seen, sha256)
            if not anew and read_checksummed(_record(path)) == known:
                return None
            if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                return "changed (SHA-256 differs from the recipe)"
            write_checksummed(_record(path), known)
            return None
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        return f"unreadable ({error.strerror})"


def _record(path: Path) -> Path:
    """Where it is remembered."""
    return cache_dir() / "weights" / hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:20]


def _known(path: Path, seen: os.stat_result, sha256: str) -> bytes:
    # The time of a change of its entry too: that of its contents can be set back.
    return json.dumps(
        [str(path.resolve()), seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_ino, sha256]
    ).encode()
