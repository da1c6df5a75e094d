"""Removes what rtface kept for itself longer than the policy's ``retention`` allows: job folders, items of the queue.

Nothing that a user named as an output is ever removed.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from rtface.config.policy import retention_s
from rtface.errors import RtfaceError, log
from rtface.jobs.folder import SUFFIX, JobFolder, folder_of
from rtface.jobs.leases import Leases
from rtface.jobs.queue.store import Store
from rtface.util.files import status_in


def remove_old_jobs(places: Iterable[Path], *, now: float | None = None) -> list[Path]:
    """Removes job folders in which nothing was written for longer than the retention.

    Args:
        places: folders that are looked through for ``*.rtface``, or job folders.
        now: seconds since 1970; the clock of the disk without.

    Returns:
        Those that were removed: this user's own, without a worker, behind no link.

    Raises:
        UsageError: a policy cannot be used.
    """
    limit, removed = retention_s(), list[Path]()
    if limit is None:
        return removed
    for place in places:
        for path in (place, *sorted(place.glob(f"*{SUFFIX}"))):
            folder = JobFolder(path)
            if folder.planned and _may_go(folder, limit, now):
                from rtface.jobs.join import films_of, remove_unfinished  # it imports PyAV

                remove_unfinished(folder, films_of(folder))
                folder.remove()
                log.warning(
                    "%s: removed, because nothing was written there for longer than the policy's retention", path
                )
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


def _may_go(folder: JobFolder, limit: float, now: float | None) -> bool:
    """Whether a job is this user's own, old by the clock of the disk, and without a worker."""
    path, changed = folder.path, _changed(folder.path)
    with suppress(OSError, RtfaceError):
        if not all(JobFolder.is_own(one.lstat(), path.parent, root=False) for one in (path, folder.plan)):
            return False
        if now is None:  # asked for outside the folder, whose time of change must stay
            status = status_in(path.parent)
            if status is None:
                return False
            now = status.st_mtime
        return changed < now - limit and not Leases(folder, "").held()
    return False


def _changed(folder: Path) -> float:
    """When something in a folder was written last, seconds since 1970."""
    newest = 0.0
    for path in (folder, *folder.rglob("*")):
        with suppress(OSError):
            newest = max(newest, path.lstat().st_mtime)
    return newest
