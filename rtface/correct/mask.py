"""Draws masks of face and head, to which corrections are limited."""

from __future__ import annotations

from functools import lru_cache
from math import ceil, floor
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from rtface.frame import CorrectedRegion, Float, Float32

# MediaPipe's FACEMESH_FACE_OVAL, in order round the face, from the top of the forehead towards the
# image's right.
FACE_OVAL = np.array(
    [
        10,
        338,
        297,
        332,
        284,
        251,
        389,
        356,
        454,
        323,
        361,
        288,
        397,
        365,
        379,
        378,
        400,
        377,
        152,
        148,
        176,
        149,
        150,
        136,
        172,
        58,
        132,
        93,
        234,
        127,
        162,
        21,
        54,
        103,
        67,
        109,
    ]
)

# The oval of an FFHQ-aligned face, in fractions of the crop's side, and the radii (in half axes)
# between which the mask falls from 1 to 0. The same oval weights the training loss
# (engines/training/crop_space.py). A smaller oval here would discard detail learnt at the rim, and
# lose 0.07 dB in the film benchmark.
_OVAL_CENTRE = (0.5, 0.605)
_OVAL_AXES = (0.293, 0.322)
_OVAL_FALL = (0.85, 1.10)
_FEATHER_SHARE = 0.06  # width of the feathered edge, as a share of the side
_OUTWARD_SHARE = 0.05  # share of the side by which the mask is larger than the mesh, which lies inside the face
# A head is a superellipse round the face's oval. _HEAD: its axes, as multiples of the oval's. _HEAD_UP: how far its
# centre is above the oval's, in half axes of the oval. _HEAD_FALL: radius at which its mask starts to fall.
# _BORDER: distances from the crop's edge at which the mask is 0 and 1, as fractions of the side.
_HEAD, _HEAD_UP, _HEAD_POWER, _HEAD_FALL = (1.5, 1.5), 0.25, 2.5, 0.7
_BORDER = (0.03, 0.15)
_BLUR_SAMPLES = 4  # reach of the blur to each side
_WORK_SIDE = 128  # masks are smooth, so they are drawn at this size and enlarged


@lru_cache(maxsize=8)
def _template_mask(size: int) -> Float32:
    a = (np.arange(size, dtype=np.float32) + 0.5) / size
    x, y = (a[None] - _OVAL_CENTRE[0]) / _OVAL_AXES[0], (a[:, None] - _OVAL_CENTRE[1]) / _OVAL_AXES[1]
    full, none = _OVAL_FALL
    mask = _smoothstep((none - np.sqrt(x * x + y * y)) / (none - full))
    mask.flags.writeable = False
    return mask


def face_mask(size: int, mesh: Float | None = None, region: CorrectedRegion = "face") -> Float32:
    """Returns the feathered face oval in a crop: 1 inside, 0 outside. The mask falls to exactly 0 at a
    distance of 1/20 of the side from the oval.

    Args:
        size: S, the side of the crop.
        mesh: MediaPipe's points in crop pixels, (468 or more)×2 or ×3 (`transforms.apply(W,
            face.mesh[:, :2])`); None for the oval of the alignment template.
        region: "head" adds hair, ears and neck, as far as the crop shows them: a wider, softer
            oval that ends well within the crop.

    Returns:
        float32 S×S, 0…1. Without `mesh` the array is shared and read-only.
    """
    return enlarged_mask(small_mask(size, mesh, region), size)


@lru_cache(maxsize=8)
def _ellipse(side: int) -> NDArray[np.uint8]:
    return cast(NDArray[np.uint8], cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)))


def enlarged_mask(mask: Float32, size: int) -> Float32:
    """Enlarges a `small_mask` to S×S."""
    if len(mask) == size:
        return mask
    return cast(Float32, cv2.resize(mask, (size, size), interpolation=cv2.INTER_LINEAR))


def small_mask(size: int, mesh: Float | None = None, region: CorrectedRegion = "face") -> Float32:
    """Returns `face_mask` before enlargement: S×S or smaller."""
    if region == "head":
        if mesh is None:
            return _template_head(size)
        face = small_mask(size, mesh)
        oval = mesh.take(FACE_OVAL, 0)[:, :2] / size
        low, high = oval.min(axis=0), oval.max(axis=0)
        return _add_head(face, (low + high) / 2, (high - low) / 2)
    if mesh is None:
        return _template_mask(size)
    drawn_side = min(_WORK_SIDE, size)
    oval = mesh.take(FACE_OVAL, 0)[:, :2] * (drawn_side / size)
    # The hull is used because the oval of a face seen from the side folds over itself.
    hull: Any = cv2.convexHull(np.rint((np.clip(oval, -drawn_side, 2 * drawn_side) + 0.5) * 16.0).astype(np.int32))
    outward = round(_OUTWARD_SHARE * drawn_side)
    # The mask is drawn in a window so large that no filter reaches its edge. The window lies in a square with a rim of
    # zeros, so that the mask also falls to 0 at the crop's edge.
    side, (x, y, w, h) = drawn_side + 2, cv2.boundingRect(hull)
    margin = outward + _BLUR_SAMPLES
    x0, y0, x1, y1 = (
        min(max(v, 0), side)
        for v in ((x >> 4) - margin, (y >> 4) - margin, (x + w >> 4) + margin + 2, (y + h >> 4) + margin + 2)
    )
    out = np.zeros((drawn_side, drawn_side), np.float32)
    if x1 - x0 < 3 or y1 - y0 < 3:
        return out
    filled = np.zeros((y1 - y0, x1 - x0), np.uint8)
    cv2.fillConvexPoly(filled, hull - np.array((x0 << 4, y0 << 4), np.int32), 255, shift=4)
    filled = cv2.dilate(filled, _ellipse(2 * outward + 1))
    filled[: max(1 - y0, 0)] = filled[max(side - 1 - y0, 0) :] = 0
    filled[:, : max(1 - x0, 0)] = filled[:, max(side - 1 - x0, 0) :] = 0
    inner = slice(max(1 - y0, 0), side - 1 - y0), slice(max(1 - x0, 0), side - 1 - x0)
    distance: Any = inner_distances(filled)[inner]
    # The distance has a crease at every corner of the polygon. Smoothing removes the creases, but must
    # not raise the distance at the edge, hence the minimum.
    distance = cv2.min(cv2.GaussianBlur(distance, (2 * _BLUR_SAMPLES + 1, 2 * _BLUR_SAMPLES + 1), 2.0), distance)
    left, top = max(x0 - 1, 0), max(y0 - 1, 0)
    h, w = distance.shape
    out[top : top + h, left : left + w] = _smoothstep((distance - 1.0) / (_FEATHER_SHARE * drawn_side))
    return out


def inner_distances(shape: NDArray[Any]) -> Float32:
    """Returns the distance to the nearest 0 of `shape`, uint8 h×w. float32 h×w, in samples."""
    # OpenCV's result depends in its last bit on where in memory it lies.
    memory = np.empty(shape.size + 8, np.float32)
    aligned = memory[-memory.ctypes.data % 32 // 4 :][: shape.size].reshape(shape.shape)
    return cast(Float32, cv2.distanceTransform(shape, cv2.DIST_L2, cv2.DIST_MASK_PRECISE, aligned))


@lru_cache(maxsize=8)
def _template_head(size: int) -> Float32:
    mask = _add_head(_template_mask(size), np.array(_OVAL_CENTRE), np.array(_OVAL_AXES))
    mask.flags.writeable = False
    return mask


def _add_head(face: Float32, centre: Float, axes: Float) -> Float32:
    """Adds a head to the mask of its face. Centre and half axes (x, y) of the face's oval are fractions
    of the side."""
    a = (np.arange(len(face)) + 0.5) / len(face)
    none, full = _BORDER
    border = _smoothstep((np.minimum(a, 1.0 - a) - none) / (full - none))
    return np.maximum(face, _head_oval(a, a, centre, axes)) * border[None] * border[:, None]


def _head_oval(x: Float, y: Float, centre: Float, axes: Float) -> Float32:
    """Returns a head's soft oval at columns `x` and rows `y`. float32 len(y)×len(x). `centre` and half `axes` belong
    to the face's oval. All arguments are fractions of the side."""
    u = np.abs(x[None] - centre[0]) / (_HEAD[0] * axes[0])
    v = np.abs(y[:, None] - (centre[1] - _HEAD_UP * axes[1])) / (_HEAD[1] * axes[1])
    radius = (u**_HEAD_POWER + v**_HEAD_POWER) ** (1.0 / _HEAD_POWER)
    return _smoothstep((1.0 - radius) / (1.0 - _HEAD_FALL))


_HEAD_BOX, HEAD_EDGE = 2.0, (0.94, 1.14)
"""Side of a head as a multiple of the side of its face's box; default of `head_shape`'s `edge`."""


def head_shape(
    size: tuple[int, int], box: tuple[float, float, float, float], edge: tuple[float, float] = HEAD_EDGE
) -> Float32:
    """Returns a soft shape of twice a face's box (`--region head`). It covers hair, ears and neck.

    Args:
        size: width and height of the picture.
        box: the face's box in pixels of the picture: x0, y0, x1, y1.
        edge: radii, in half sides, between which the shape falls from 1 to 0.

    Returns:
        float32 height×width, 0…1; 0 at the picture's edge, because the frame continues there.
    """
    x0, y0, x1, y1 = box
    columns, rows = np.arange(size[0], dtype=np.float32) + 0.5, np.arange(size[1], dtype=np.float32) + 0.5
    u = (columns - (x0 + x1) / 2) / max(_HEAD_BOX * (x1 - x0) / 2, 1.0)
    v = (rows - (y0 + y1) / 2) / max(_HEAD_BOX * (y1 - y0) / 2, 1.0)
    full, none = edge
    radius = np.sqrt(np.sqrt((u**4)[None] + (v**4)[:, None]))  # the radius in a superellipse of power 4
    return _smoothstep((none - radius) / (none - full))


def support_box(mask: Float32) -> tuple[int, int, int, int] | None:
    """Returns the box of a mask's non-zero part, x0, y0, x1, y1. None if all is 0."""
    x, y, w, h = cv2.boundingRect((mask > 0.0).view(np.uint8))
    return (x, y, x + w, y + h) if w else None


def shown_box(side: int, mesh: Float | None, size: int, region: CorrectedRegion = "face") -> tuple[int, int, int, int]:
    """Returns the box outside of which `face_mask(size, mesh, region)` is 0: x0, y0, x1, y1 in samples of
    a crop with `side` samples per side. The box is computed fast, and a little too large."""
    if mesh is None:
        low, high = np.array(_OVAL_CENTRE) - _OVAL_AXES, np.array(_OVAL_CENTRE) + _OVAL_AXES
    else:
        oval = mesh.take(FACE_OVAL, 0)[:, :2] / size
        low, high = np.minimum.reduce(oval), np.maximum.reduce(oval)
    if region != "face":
        centre, axes = (low + high) / 2, (high - low) / 2
        centre[1] -= _HEAD_UP * axes[1]
        low, high = np.minimum(low, centre - _HEAD * axes), np.maximum(high, centre + _HEAD * axes)
    low, high = low - (_OUTWARD_SHARE + 0.03), high + (_OUTWARD_SHARE + 0.03)
    x0, y0 = (min(max(floor(v * side), 0), side - 1) for v in low.tolist())
    x1, y1 = (min(max(ceil(v * side), 1), side) for v in high.tolist())
    return x0, y0, max(x1, x0 + 1), max(y1, y0 + 1)


_RIM = np.ones((3, 3), np.uint8)
GATE_FLOOR, GATE_CEILING = 16.0 / 255.0, 36.0 / 255.0


def residual_gate(cells: Float32, weight: Float32) -> Float32:
    """Fades a correction out where engine and image disagree about the content.

    A restorer that sharpens and denoises hardly changes averages over cells of 1/64 of the crop's side.
    Where it paints a mouth over a hand or skin over a microphone, the averages change. For each cell,
    e is the maximum over the channels of |mean d − median of these means over the face|, smoothed. The
    gate falls from 1 to 0 between t and 2t; t is 4 times the median of e over the face, limited to
    16/255…36/255. The medians cancel changes of the whole face's exposure or colour. A hand with the
    cheek's colour in front of the cheek is not detected, but needs no protection.

    Args:
        cells: float32 3×64×64, `cells_of(d)`: averages of the correction before `lock_colour`.
        weight: float32 64×64, the face mask at that size.

    Returns:
        float32 64×64, 0…1.
    """
    inside = np.flatnonzero(weight > 0.5)
    if not inside.size:
        return np.ones(weight.shape, np.float32)
    error: Any = np.zeros(weight.shape, np.float32)
    for plane, middle in zip(cells, medians_of(cells, inside), strict=True):
        # The median is subtracted after the Gaussian, which does not change it.
        cv2.max(error, cv2.absdiff(cv2.GaussianBlur(plane, (5, 5), 1.0), middle), dst=error)
    threshold = min(max(GATE_FLOOR, 4.0 * median_of(error.take(inside))), GATE_CEILING)
    if float(error.max()) <= threshold:
        return np.ones(weight.shape, np.float32)
    gate = 1.0 - _smoothstep((error - threshold) / threshold)
    # The closed part is made one cell wider, to protect the rim of an occluder too.
    return cast(Float32, cv2.GaussianBlur(cv2.erode(gate, _RIM), (3, 3), 0.8))


def medians_of(planes: Float32, where: NDArray[np.intp]) -> list[Any]:
    """Returns the upper median of each of 3×h×w planes, at flat indices. The medians are floats, as cv2 requires."""
    values = planes.reshape(len(planes), -1).take(where, axis=1)
    middle = values.shape[1] // 2
    values.partition(middle, axis=1)
    return values[:, middle].tolist()


def median_of(values: NDArray[np.float32]) -> float:
    """Returns the upper median. The checks of np.median would take longer than the partitioning."""
    middle = values.size // 2
    return float(np.partition(values, middle, axis=None)[middle])


def smooth_ramp(value: float, none: float, full: float) -> float:
    """Returns 0 below `none`, 1 above `full`, a smooth ramp in between."""
    t = min(max((value - none) / (full - none), 0.0), 1.0)
    return t * t * (3.0 - 2.0 * t)


def _smoothstep(x: NDArray[np.floating[Any]]) -> Float32:
    y = np.clip(x, 0.0, 1.0).astype(np.float32, copy=False)
    return (y * y * (3.0 - 2.0 * y)).astype(np.float32, copy=False)
