"""Plans kept in the cache folder, a folder for each engine: building one takes from a second to minutes.

A plan lies under the name that its whole identity makes, so whatever changes, another one is looked for. Beside it lie
the kernels that TensorRT for RTX compiled from it on one GPU. Of each the `KEEP` last used stay.
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
    """Where the plan of that identity is kept."""
    return cache_dir() / "plans" / identity.engine / f"{identity.key}.plan"


def kernels_path(identity: PlanIdentity) -> Path:
    """Where the kernels are that the GPU of that identity runs it with."""
    return plan_path(identity).with_suffix(".kernels")


def recall(path: Path) -> bytes | None:
    """What is kept there, as `read_checksummed`; counts as used now."""
    blob = read_checksummed(path)
    if blob is not None:
        with contextlib.suppress(OSError):
            os.utime(path)
    return blob


def keep(path: Path, blob: bytes) -> None:
    """Keeps a plan or its kernels, and removes those of their kind that were not used for longest."""
    if not write_checksummed(path, blob):
        return
    with contextlib.suppress(OSError):  # another process may be at the same
        kept = sorted(path.parent.glob(f"*{path.suffix}"), key=lambda p: p.stat().st_mtime, reverse=True)
        for old in kept[KEEP:]:
            log.debug("%s was not used for longest and is removed", old)
            old.unlink(missing_ok=True)
