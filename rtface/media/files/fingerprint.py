"""Detects whether an input has changed, by size and hashed samples."""

from __future__ import annotations

import hashlib
from pathlib import Path
from stat import S_ISDIR
from typing import Any

from rtface.errors import InputError, InputMissing
from rtface.media.files.image_names import list_images
from rtface.util.foreign import open_regular

_SAMPLE_BYTES = 1 << 16
_SAMPLES = 16


def fingerprint(path: Path) -> dict[str, Any]:
    """Returns size, modification time (ns) and sampled SHA-256 of a file. For a folder, the values cover all its
    images, and their names and sizes are hashed, too.

    Raises:
        InputMissing: the path does not exist or may not be read.
        InputError: the path is a folder without an image.
    """
    digest = hashlib.sha256()
    try:
        files = list_images(path) if (folder := path.is_dir()) else [path]
        statuses = [(file, file.stat()) for file in files]
        if folder:
            digest.update("".join(f"{file.name}/{stat.st_size}/" for file, stat in statuses).encode(errors="replace"))
        for sample in range(_SAMPLES):
            file, status = statuses[(len(statuses) - 1) * sample // (_SAMPLES - 1)]
            with open_regular(file) as opened:
                opened.seek(max(0, status.st_size - _SAMPLE_BYTES) * sample // (_SAMPLES - 1))
                digest.update(opened.read(_SAMPLE_BYTES))
    except OSError as error:
        if isinstance(error, InputMissing):
            raise
        raise InputMissing(
            "{path}: cannot be read ({why}); put it back, or check its permissions and the disk",
            code="film_unreadable",
            path=path,
            why=error.strerror,
        ) from error
    size, changed = sum(stat.st_size for _, stat in statuses), max(stat.st_mtime_ns for _, stat in statuses)
    return {"size": size, "changed_ns": changed, "samples_sha256": digest.hexdigest()}


def same(expected: dict[str, Any], path: Path) -> bool:
    """Returns whether a file or folder still matches a fingerprint. Ignores the modification time, because copies have
    a different one, and because it is known even if the file may not be read."""
    try:
        status = path.stat()
        if not S_ISDIR(status.st_mode) and status.st_size != expected["size"]:
            return False
    except OSError:
        return False
    return fingerprint(path)["samples_sha256"] == expected["samples_sha256"]


def check(expected: dict[str, Any], path: Path) -> None:
    """Checks that a file still matches the fingerprint of a job.

    Raises:
        InputMissing: the file does not exist.
        InputError: the contents of the file differ.
    """
    if not path.exists():
        raise InputMissing(
            "{path}: the job's film is missing; put it back, and run the same command again to continue",
            code="job_film_gone",
            path=path,
        )
    if not same(expected, path):
        raise InputError(
            "{path}: is not the film that the job was planned for (its contents differ); put that film back, or start "
            "again with {--restart=True}",
            code="job_film_changed",
            path=path,
        )
