"""Recognises still images by name or first bytes. Lists the images in folders."""

from __future__ import annotations

import os
import re
from pathlib import Path

from rtface.errors import InputError, InputMissing
from rtface.media.formats.image_header import kind_of
from rtface.redaction import shown
from rtface.stats import Stats

IMAGE_KINDS = {
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".webp": "webp",
    ".bmp": "bmp",
    ".dpx": "dpx",
    ".exr": "exr",
}
_READ_ONLY = (".avif", ".cin", ".heic", ".heif", ".jp2", ".j2k", ".jxl", ".psd", ".psb", ".pnm", ".pbm", ".pgm", ".ppm")


def list_images(folder: str | os.PathLike[str]) -> list[Path]:
    """Lists a folder's images in natural order (9 before 10). Omits hidden files.

    Raises:
        InputMissing: there is no such folder.
        InputError: the folder contains no image.
    """
    try:
        names = list(Path(folder).iterdir())
    except OSError as error:
        raise InputMissing(
            "{path}: cannot be read ({why}); check the name",
            code="unreadable",
            path=os.fspath(folder),
            why=error.strerror,
        ) from error
    paths = [p for p in names if has_still_name(p) and not p.name.startswith(".") and p.is_file()]
    if not paths:
        raise InputError(
            "{folder}: contains no images ({kinds})",
            code="no_images",
            folder=os.fspath(folder),
            kinds=", ".join((*IMAGE_KINDS, *_READ_ONLY)),
        )
    return sorted(
        paths, key=lambda p: [(int(t), "") if t.isdigit() else (-1, t) for t in re.split(r"(\d+)", p.name.lower()) if t]
    )


def has_still_name(path: Path) -> bool:
    """Returns whether a file's extension is that of a readable still format."""
    return path.suffix.lower() in IMAGE_KINDS or path.suffix.lower() in _READ_ONLY


def is_image(path: Path) -> bool:
    """Returns whether a file starts like a still image."""
    if not path.is_file():  # reading from a pipe would lose its first bytes
        return False
    try:
        with path.open("rb") as file:
            return kind_of(file.read(64)) is not None
    except OSError:
        return False  # opening the source will report the reason


def images_of(input: Path) -> list[Path]:
    """Returns the image files of a still or folder. Returns none for films."""
    if input.is_dir():
        return list_images(input)
    return [input] if is_image(input) else []


def warn_left_out(folder: Path, stats: Stats) -> None:
    """Warns of folder entries that `list_images` omits. Hidden files count only if they are images."""
    names = sorted(
        f"{p.name}/" if p.is_dir() else p.name
        for p in folder.iterdir()
        if (is_image(p) if p.name.startswith(".") else not has_still_name(p) or not p.is_file())
    )
    if names:
        stats.warn(
            "files_left_out",
            f"{shown(folder)}: {len(names)} of its entries are left out, because they are hidden, or not readable "
            f"images ({', '.join(names[:20])}{' …' if len(names) > 20 else ''})",
        )
