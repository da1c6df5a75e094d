"""Files of the cache that are whole or not there: SHA-256 in front, put in place under their name in one step."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import secrets
from pathlib import Path

log = logging.getLogger("rtface")

_DIGEST = hashlib.sha256().digest_size


def read_sealed(path: Path) -> bytes | None:
    """What `write_sealed` put there; None where there is nothing, or, with a line in the log, where it is damaged."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    digest, blob = data[:_DIGEST], data[_DIGEST:]
    if hashlib.sha256(blob).digest() != digest:
        log.info("the kept file %s is damaged and made anew", path)
        return None
    return blob


def write_sealed(path: Path, blob: bytes) -> bool:
    """Keeps `blob`; False, with a line in the log, where the cache cannot be written: that costs time only."""
    # In containers every process may have number 1.
    work = path.with_name(f"{path.name}.{secrets.token_hex(6)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        work.write_bytes(hashlib.sha256(blob).digest() + blob)
        work.replace(path)
    except OSError as error:
        log.info("%s cannot be kept: %s", path, error.strerror or error)
        with contextlib.suppress(OSError):
            work.unlink(missing_ok=True)
        return False
    return True
