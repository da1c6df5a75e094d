"""Tells an input from another that came under its name: size, time of change, and a hash of samples."""

from __future__ import annotations

import hashlib
from pathlib import Path
from stat import S_ISDIR
from typing import Any

from rtface.errors import InputError, InputMissing
from rtface.media.files.image_names import list_images
from rtface.util.foreign import open_regular

_PIECE = 1 << 16
_PIECES = 16


def fingerprint(path: Path) -> dict[str, Any]:
    """Size, time of the last change (ns), and the SHA-256 of pieces from the beginning to the end of a file; of a
    folder, of its images, also of their names and sizes.

    Raises:
        InputMissing: it is not there or may not be read.
        InputError: it is a folder without an image.
    """
    digest = hashlib.sha256()
    try:
        files = list_images(path) if (folder := path.is_dir()) else [path]
        known = [(file, file.stat()) for file in files]
        if folder:
            digest.update("".join(f"{file.name}/{status.st_size}/" for file, status in known).encode(errors="replace"))
        for k in range(_PIECES):
            file, status = known[(len(known) - 1) * k // (_PIECES - 1)]
            with open_regular(file) as opened:
                opened.seek(max(0, status.st_size - _PIECE) * k // (_PIECES - 1))
                digest.update(opened.read(_PIECE))
    except OSError as error:
        if isinstance(error, InputMissing):
            raise
        raise InputMissing(
            "{path}: cannot be read ({why}); put it back, or check its permissions and the disk",
            code="film_unreadable",
            path=path,
            why=error.strerror,
        ) from error
    size, changed = sum(status.st_size for _, status in known), max(status.st_mtime_ns for _, status in known)
    return {"size": size, "changed_ns": changed, "samples_sha256": digest.hexdigest()}


def same(known: dict[str, Any], path: Path) -> bool:
    """Whether a file or folder still has the size and samples of a fingerprint; the time of change differs for a copy,
    and who may not read a file knows it, too."""
    try:
        status = path.stat()
        if not S_ISDIR(status.st_mode) and status.st_size != known["size"]:
            return False
    except OSError:
        return False
    return fingerprint(path)["samples_sha256"] == known["samples_sha256"]


def check(known: dict[str, Any], path: Path) -> None:
    """Checks that a file is the one that a job was planned for.

    Raises:
        InputMissing: it is not there.
        InputError: it is another.
    """
    if not path.exists():
        raise InputMissing(
            "{path}: the film of the job is not there; put it back, then the same command continues",
            code="job_film_gone",
            path=path,
        )
    if not same(known, path):
        raise InputError(
            "{path}: is not the film that the job was planned for (other bytes than it had then); put that one "
            "back, or begin again with {--restart=True}",
            code="job_film_changed",
            path=path,
        )
