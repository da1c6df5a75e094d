"""Reads and writes boxes of an image as RGB."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rtface.device.cpu.crop import full_range
from rtface.frame import Box, Color, Float32
from rtface.geometry.color_curves import code_range, ycbcr_from_rgb
from rtface.geometry.planes import Role, layout, planes

if TYPE_CHECKING:
    import av

_ROLES: dict[str, tuple[Role, ...]] = {"rgb": ("r", "g", "b"), "yuv": ("y", "u", "v"), "gray": ("y",)}


class RgbSamples:
    """Reads and writes boxes of an image as RGB, float32 3×h×w, 0…1. Gray images have three equal channels.

    Values are non-linear, as stored. Boxes are in stored luma samples; they begin at whole chroma samples.

    Args:
        image: image in a format of `rtface.geometry.planes`; for writing it must be writable.
        color: colour of the image.
        parity: parity of the field whose rows to use; None for all rows.
    """

    def __init__(self, image: av.VideoFrame, color: Color, parity: int | None = None) -> None:
        form = layout(image.format.name)
        assert form is not None
        self._form, self._views, self._full = form, planes(image, form, parity), full_range(form, color)
        self._from_rgb = ycbcr_from_rgb(color.matrix)
        self._to_rgb = np.linalg.inv(self._from_rgb).round(12)
        self.size: tuple[int, int] = next(iter(self._views.values())).shape
        """Height and width of the luma samples."""
        self.subsampling = form.subsampling
        """Horizontal and vertical subsampling of chroma."""

    def read(self, box: Box) -> Float32:
        """Reads a box."""
        parts = [self._read(role, box) for role in _ROLES[self._form.kind]]
        if self._form.kind == "gray":
            return np.stack(parts * 3)
        (height, width), (across, down) = parts[0].shape, self._form.subsampling
        for k in (1, 2) if self._form.kind == "yuv" else ():
            parts[k] = np.repeat(np.repeat(parts[k], down, 0), across, 1)[:height, :width]
        return np.stack(parts if self._form.kind == "rgb" else [_sum(weights, parts) for weights in self._to_rgb])

    def write(self, box: Box, rgb: Float32, where: NDArray[np.bool_] | None = None) -> None:
        """Writes a box. With `where`, h×w, other luma samples are kept, and chroma samples that only they share."""
        if self._form.kind == "rgb":
            parts = [*rgb]
        else:
            weights = self._from_rgb if self._form.kind == "yuv" else np.full((1, 3), 1 / 3)
            parts = [_sum(row, rgb) for row in weights]
        for role, values in zip(_ROLES[self._form.kind], parts, strict=True):
            across, down = self._form.role_subsampling(role)
            legal = code_range(self._form.bits, self._full, chroma=role in ("u", "v"))
            codes = np.rint(_mean(values, down, across) * np.float32(legal.scale) + np.float32(legal.offset))
            samples = np.clip(codes, 0, (1 << self._form.bits) - 1).astype(np.uint16) << self._form.shift
            target = self._part(role, box)
            chosen = True if where is None else _mean(where.astype(np.float32), down, across) > 0
            target[...] = np.where(chosen, samples, target)

    def _part(self, role: Role, box: Box) -> NDArray[Any]:
        across, down = self._form.role_subsampling(role)
        x0, y0, x1, y1 = box
        return self._views[role][y0 // down : -(-y1 // down), x0 // across : -(-x1 // across)]

    def _read(self, role: Role, box: Box) -> Float32:
        legal = code_range(self._form.bits, self._full, chroma=role in ("u", "v"))
        codes = (self._part(role, box) >> self._form.shift).astype(np.float32)
        return (codes - np.float32(legal.offset)) / np.float32(legal.scale)


def _sum(weights: Any, parts: Any) -> Float32:
    a, b, c = (np.float32(weight) * part for weight, part in zip(weights, parts, strict=True))
    return a + b + c


def _mean(values: Float32, down: int, across: int) -> Float32:
    """Averages the samples that share one chroma sample."""
    if down == across == 1:
        return values
    height, width = values.shape
    values = np.pad(values, ((0, -height % down), (0, -width % across)), mode="edge")
    parts = [values[y::down, x::across] for y in range(down) for x in range(across)]
    return sum(parts[1:], parts[0]) * np.float32(1 / len(parts))
