"""Caches plans by engine, because building one takes a second to minutes.

A plan's file name contains a hash of its whole identity, so any change selects another file. Next to the plan are the
kernels that TensorRT for RTX compiled from it. Only the `KEEP` most recently used files of each kind are kept.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from rtface.engine.plan import PlanIdentity
from rtface.errors import log
from rtface.util.checksummed_file import read_checksummed, write_checksummed
from rtface.util.paths import cache_dir

KEEP = 8


def plan_path(identity: PlanIdentity) -> Path:
    """Returns the cache file of a plan."""
    return cache_dir() / "plans" / identity.engine / f"{identity.key}.plan"


def kernels_path(identity: PlanIdentity) -> Path:
    """Returns the cache file of a plan's compiled kernels."""
    return plan_path(identity).with_suffix(".kernels")


def recall(path: Path) -> bytes | None:
    """Reads a cache file like `read_checksummed`, and marks it as used."""
    blob = read_checksummed(path)
    if blob is not None:
        with contextlib.suppress(OSError):
            os.utime(path)
    return blob


def keep(path: Path, blob: bytes) -> None:
    """Caches a plan or its kernels. Removes the least recently used files of the same kind."""
    if not write_checksummed(path, blob):
        return
    with contextlib.suppress(OSError):  # another process may remove the same files
        files = sorted(path.parent.glob(f"*{path.suffix}"), key=lambda p: p.stat().st_mtime, reverse=True)
        for old in files[KEEP:]:
            log.debug("removing %s, the least recently used file", old)
            old.unlink(missing_ok=True)
