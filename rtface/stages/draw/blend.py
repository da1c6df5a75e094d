"""Blends a drawing into one component of a frame, rounding once."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from rtface.device.cpu.composite import rows
from rtface.device.cpu.crop import full_range
from rtface.frame import Box, Color, Float32
from rtface.geometry.color_curves import code_range, graphics
from rtface.geometry.planes import Layout, Role, Samples

_STRIP_ROWS = 96  # number of rows that fit into a core's own cache


def codes(rgb: Float32, layout: Layout, color: Color) -> dict[Role, Float32]:
    """Converts R'G'B' of a drawing to code values, … float32 by component. `rgb`: …×3, 0…1, SDR."""
    native = graphics(rgb, color)
    full = full_range(layout, color)
    return {
        role: (
            native @ row.astype(np.float32)
            + np.float32(code_range(layout.bits, full, chroma=role in ("u", "v")).offset)
        )
        for role, row in rows(layout, color).items()
    }


def native(view: Samples, box: Box, layout: Layout) -> Samples:
    """Copies a box's samples: uint8 or uint16, native byte order, without `Layout.shift`."""
    x0, y0, x1, y1 = box
    part = np.array(view[y0:y1, x0:x1], layout.dtype.newbyteorder("="), order="C")
    return part >> layout.shift if layout.shift else part


def blend(view: Samples, box: Box, value: Float32, keep: Float32, layout: Layout) -> None:
    """Computes sample · keep + value in `box`, in place, rounded once.

    A sample whose `keep` is 1 and `value` 0 stays bit-identical.

    Args:
        view: the component's samples (`planes.planes`).
        box: x0, y0, x1, y1 inside `view`.
        value: float32 h×w, code values, already multiplied by 1 − `keep`.
        keep: float32 h×w, factor of the old sample, 0…1.
        layout: layout of the frame.
    """
    depth = cv2.CV_8U if layout.dtype.itemsize == 1 else cv2.CV_16U
    x0, y0, x1, y1 = box
    for top in range(y0, y1, _STRIP_ROWS):
        bottom = min(top + _STRIP_ROWS, y1)
        target = view[top:bottom, x0:x1]
        source = np.ascontiguousarray(target, layout.dtype.newbyteorder("="))
        old = source >> layout.shift if layout.shift else source
        part = slice(top - y0, bottom - y0)
        weighted: Any = cv2.multiply(old, keep[part], dtype=cv2.CV_32F)
        new: Any = cv2.add(weighted, value[part], dtype=depth)
        if layout.shift:
            new = source + ((new - old) << layout.shift)  # adds modulo 2¹⁶ and preserves the low bits
        target[...] = new
