"""Frames as JPEG stores them: Y, Cb and Cr of full range by BT.601 (JFIF), chroma at half the size.

A camera's frame is stored nearly so: its planes are shrunk and their codes changed. Nothing becomes RGB in between,
which would take twice the time.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from rtface.device.cpu.crop import full_range
from rtface.device.cpu.device import CpuView, native_image
from rtface.device.cpu.swscale import Swscale
from rtface.frame import Bytes, Float, Frame
from rtface.geometry.color_curves import curve_of, ycbcr_from_rgb
from rtface.geometry.planes import layout
from rtface.geometry.transforms import display_size
from rtface.util.av_arrays import plane_rows

Planes = tuple[Bytes, Bytes, Bytes]
"""Y h×w, Cb and Cr h/2×w/2, uint8; h and w are even."""


def jpeg_size(frame: Frame, side: int) -> tuple[int, int]:
    """Width and height, both even, of a frame upright, with square pixels, its longer side `side` pixels at most."""
    width, height = display_size(frame.image.width, frame.image.height, frame.display)
    scale = min(1.0, side / max(width, height))
    return _even(width * scale), _even(height * scale)


def jpeg_planes(frame: Frame, size: tuple[int, int], columns: tuple[int, int], swscale: Swscale) -> Planes:
    """Columns of a frame, upright.

    Args:
        frame: of any format.
        size: width and height that the whole frame has here, both even.
        columns: the first of them, and the first that is left out; both even.
        swscale: for frames that are not stored as planes of 8 bits.
    """
    image, display = native_image(frame.image), frame.display
    form = layout(image.format.name)
    assert form is not None
    # Whether Y, Cb and Cr lie in a plane each, one byte a sample.
    planar = form.kind == "yuv" and form.bits == 8 and len({plane for plane, _, _ in form.components.values()}) == 3
    if not planar or frame.field is not None or curve_of(frame.color) is not None:
        return _cut(_from_rgb(frame, size, swscale), size[0], columns)
    y, u, v = (plane_rows(plane)[:, : plane.width] for plane in image.planes[:3])
    full = full_range(form, frame.color)
    turns = display.quarter_turns % 4
    if turns or display.mirror or image.width % size[0]:  # cut at the end: else samples would move by parts of a pixel
        w, h = size[::-1] if turns % 2 else size
        y, u, v = (
            np.rot90(plane, -turns)[:, :: -1 if display.mirror else 1]
            for plane in _recoded(_shrunk((y, u, v), w, h), frame.color.matrix, full=full)
        )
        return _cut((y, u, v), size[0], columns)
    y, u, v = _cut((y, u, v), size[0], columns)
    return _recoded(_shrunk((y, u, v), columns[1] - columns[0], size[1]), frame.color.matrix, full=full)


def _even(length: float) -> int:
    return max(2, 2 * round(length / 2))


def _from_rgb(frame: Frame, size: tuple[int, int], swscale: Swscale) -> Planes:
    rgb = CpuView(frame, swscale).thumbnail(max(size))[0]
    if rgb.shape[1::-1] != size:
        rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_LINEAR)
    codes = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420), np.uint8)
    (w, h), luma = size, size[0] * size[1]
    y, u, v = np.split(codes.ravel(), (luma, luma + luma // 4))
    return _recoded((y.reshape(h, w), u.reshape(h // 2, w // 2), v.reshape(h // 2, w // 2)), "bt601", full=False)


def _cut(planes: Planes, width: int, columns: tuple[int, int]) -> Planes:
    """Columns of planes that are `width` columns of the target wide."""
    y, u, v = (
        plane[:, plane.shape[1] * columns[0] // width : plane.shape[1] * columns[1] // width] for plane in planes
    )
    return y, u, v


def _shrunk(planes: Planes, w: int, h: int) -> Planes:
    y, u, v = planes
    return _resized(y, (w, h)), _resized(u, (w // 2, h // 2)), _resized(v, (w // 2, h // 2))


def _resized(plane: Bytes, size: tuple[int, int]) -> Bytes:
    """A plane at w × h: halved by means of four samples as often as it is twice as large, then bilinearly. OpenCV's
    filter by area takes five times as long from 1080 to 360 lines."""
    if not size[0]:
        return np.empty(size[::-1], np.uint8)
    while plane.shape[1] >= 2 * size[0] and plane.shape[0] >= 2 * size[1]:
        h, w = plane.shape[0] // 2, plane.shape[1] // 2
        plane = np.asarray(cv2.resize(plane[: 2 * h, : 2 * w], (w, h), interpolation=cv2.INTER_AREA), np.uint8)
    if plane.shape[1::-1] == size:
        return plane
    return np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_LINEAR), np.uint8)


@lru_cache(maxsize=8)
def _to_jfif(matrix: str) -> Float:
    """The 3×3 matrix from Y, Cb, Cr of a `Color.matrix` to those of JFIF."""
    return ycbcr_from_rgb("bt601") @ np.linalg.inv(ycbcr_from_rgb(matrix))


def _recoded(planes: Planes, matrix: str, *, full: bool) -> Planes:
    """Planes of a matrix and range with the codes of JFIF."""
    y, u, v = planes
    m = _to_jfif(matrix)
    same = not m[0, 1:].round(3).any()  # as BT.601's
    if not y.size or (same and full):
        return planes
    luma, chroma, black = (1.0, 1.0, 0.0) if full else (255 / 219, 255 / 224, 16.0)

    def mixed(row: int) -> Bytes:
        a, b = float(m[row, 1]) * chroma, float(m[row, 2]) * chroma
        return np.asarray(cv2.addWeighted(u, a, v, b, 128.0 * (1.0 - a - b)), np.uint8)

    if same:
        return np.asarray(cv2.addWeighted(y, luma, y, 0.0, -black * luma), np.uint8), mixed(1), mixed(2)
    light = cv2.resize(mixed(0), y.shape[::-1], interpolation=cv2.INTER_LINEAR)
    y = np.asarray(cv2.addWeighted(y, luma, light, 1.0, -black * luma - 128.0), np.uint8)
    return y, mixed(1), mixed(2)
