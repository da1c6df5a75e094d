"""Reads and writes cache files that begin with a checksum (SHA-256)."""

from __future__ import annotations

import hashlib
from pathlib import Path

from rtface.errors import log
from rtface.util.files import write_atomically

_DIGEST = hashlib.sha256().digest_size


def read_checksummed(path: Path) -> bytes | None:
    """Reads what `write_checksummed` wrote. Returns None if there is no file or, after a log line, if it is damaged."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    digest, blob = data[:_DIGEST], data[_DIGEST:]
    if hashlib.sha256(blob).digest() != digest:
        log.info("the cache file %s is damaged and will be replaced", path)
        return None
    return blob


def write_checksummed(path: Path, blob: bytes) -> bool:
    """Writes `blob` with its checksum. Returns False, after a log line, if the cache cannot be written."""
    try:
        write_atomically(path, hashlib.sha256(blob).digest() + blob)
    except OSError as error:
        log.info("%s cannot be written: %s", path, error.strerror or error)
        return False
    return True
