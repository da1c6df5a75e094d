"""Cache files with a checksum: the SHA-256 digest of the contents comes first, so damage is noticed."""

from __future__ import annotations

import hashlib
from pathlib import Path

from rtface.errors import log
from rtface.util.files import write_atomically

_DIGEST = hashlib.sha256().digest_size


def read_checksummed(path: Path) -> bytes | None:
    """The contents that `write_checksummed` wrote; None for no file or, with a line in the log, for a damaged one."""
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
    """Writes `blob` with its checksum; False, with a line in the log, where the cache cannot be written."""
    try:
        write_atomically(path, hashlib.sha256(blob).digest() + blob)
    except OSError as error:
        log.info("%s cannot be written: %s", path, error.strerror or error)
        return False
    return True
