"""Reads and writes masks of damage: grey images, white where the photograph is damaged."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from rtface.errors import UsageError
from rtface.frame import Box, Bytes, Display, Frame
from rtface.media.files.workfile import Target, write_whole
from rtface.media.formats.pixel_format import pixel_format_info
from rtface.media.stills.images import read_image, upright

_CELL = 32  # side of the cells of `boxes_of` in pixels


def mask_name(image: Path) -> str:
    """Returns the name of a photograph's mask in a folder of masks."""
    return f"{image.name}.png"


def mask_path(image: Path) -> Path:
    """Returns the path at which the studio keeps a photograph's mask."""
    return image.parent / "damage" / mask_name(image)


def mask_in(folder: Path, image: Path) -> Path | None:
    """Returns a photograph's mask in a folder of masks; None without one."""
    names = (image.name, mask_name(image), f"{image.stem}.png")
    return next((path for name in names if (path := folder / name).is_file()), None)


def upright_size(frame: Frame) -> tuple[int, int]:
    """Returns the width and height of a photograph's masks: of its upright image, in samples."""
    width, height = frame.image.width, frame.image.height
    return (height, width) if frame.display.quarter_turns % 2 else (width, height)


def read_mask(path: Path, size: tuple[int, int]) -> Bytes:
    """Reads a mask, uint8 h×w of the upright image: 0 sound, 255 damaged. Transparent samples are sound.

    Args:
        path: an image of any readable format.
        size: width and height of the photograph, upright.

    Raises:
        UsageError: the mask has another size.
        InputMissing, InputError: as in `rtface.media.stills.images.read_image`.
    """
    image = upright(read_image(path).frame).image
    if (image.width, image.height) != size:
        raise UsageError(
            "{path}: the mask has {got} pixels, but the photograph {needed}; save it at the photograph's size",
            code="mask_size",
            path=path,
            got=f"{image.width}×{image.height}",
            needed="{}×{}".format(*size),
        )
    alpha = pixel_format_info(image.format.name).alpha
    pixels = image.reformat(format="rgba" if alpha else "rgb24", threads=1).to_ndarray()
    gray = cv2.cvtColor(pixels, cv2.COLOR_RGBA2GRAY if alpha else cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.multiply(gray, pixels[..., 3], scale=1 / 255) if alpha else gray, np.uint8)


def write_mask(target: Target, mask: Bytes) -> None:
    """Writes a mask as PNG. Raises OutputError."""
    write_whole(target, cv2.imencode(".png", mask)[1].tobytes())


def as_stored(mask: Bytes, display: Display) -> Bytes:
    """Turns an upright mask as the photograph's samples are stored."""
    return np.ascontiguousarray(np.rot90(mask[:, :: -1 if display.mirror else 1], display.quarter_turns))


def boxes_of(mask: Bytes, scale: tuple[float, float]) -> tuple[Box, ...]:
    """Returns boxes that contain all marked pixels of a mask. `scale` multiplies x and y."""
    boxes, columns, limit = list[Box](), np.arange(0, mask.shape[1], _CELL), np.array(mask.shape[::-1])
    for y in range(0, mask.shape[0], _CELL):
        cells = np.maximum.reduceat(mask[y : y + _CELL].max(0), columns)[None]
        for x, _, width, *_ in cv2.connectedComponentsWithStats(cells)[2][1:].tolist():
            corners = np.array([(x * _CELL, y), ((x + width) * _CELL, y + _CELL)]).clip(0, limit) * scale
            (x0, y0), (x1, y1) = np.floor(corners[0]).astype(int).tolist(), np.ceil(corners[1]).astype(int).tolist()
            boxes.append((x0, y0, x1, y1))
    return tuple(boxes)
