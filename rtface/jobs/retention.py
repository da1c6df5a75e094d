"""Removes what rtface kept for itself longer than the policy's ``retention`` allows: job folders, items of the queue.

Nothing that a user named as an output is ever removed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from rtface.jobs.folder import SUFFIX, JobFolder, folder_of
from rtface.jobs.queue.store import Store
from rtface.policy import retention_s

log = logging.getLogger("rtface")


def remove_old_jobs(places: Iterable[Path], *, now: float | None = None) -> list[Path]:
    """Removes job folders in which nothing was written for longer than the retention.

    Args:
        places: folders that are looked through for ``*.rtface``, or job folders.
        now: seconds since 1970.

    Returns:
        Those that were removed. A job that is being worked on is never old: its workers write every two seconds.

    Raises:
        UsageError: a policy cannot be used.
    """
    limit, removed = retention_s(), list[Path]()
    if limit is None:
        return removed
    before = (time.time() if now is None else now) - limit
    for place in places:
        for path in (place, *sorted(place.glob(f"*{SUFFIX}"))):
            folder = JobFolder(path)
            if folder.planned and _changed(path) < before:
                from rtface.jobs.join import remove_unfinished  # it imports PyAV

                remove_unfinished(folder)
                folder.remove()
                log.warning("%s: removed, because nothing was written there for longer than the policy's retention",
                            path)
                removed.append(path)
    return removed


def remove_old_items(store: Store, *, now: float | None = None) -> None:
    """Removes items of the queue that ended longer ago than the retention, with their logs and job folders; raises as
    `remove_old_jobs`."""
    limit = retention_s()
    if limit is None:
        return
    outputs = store.remove_ended((time.time() if now is None else now) - limit)
    remove_old_jobs((folder_of(Path(output)) for output in outputs), now=now)


def _changed(folder: Path) -> float:
    """When something in a folder was written last, seconds since 1970."""
    newest = 0.0
    for path in (folder, *folder.rglob("*")):
        with suppress(OSError):
            newest = max(newest, path.lstat().st_mtime)
    return newest
