"""Draws masks of face and head, to which corrections are limited."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from rtface.frame import CorrectedRegion, Float, Float32

# MediaPipe's FACEMESH_FACE_OVAL, in order round the face, from the top of the forehead towards the
# image's right.
FACE_OVAL = (
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
)

# The oval of an FFHQ-aligned face, as fractions of the crop's side, and the radii (in half axes)
# between which the mask falls from 1 to 0. The same oval weights the training loss
# (engines/training/crop_space.py): a smaller one here would discard detail learnt at the rim (0.07 dB
# of the film protocol).
_OVAL_CENTRE = (0.5, 0.605)
_OVAL_AXES = (0.293, 0.322)
_OVAL_FALL = (0.85, 1.10)
_FEATHER_SHARE = 0.06  # width of the feather, as a share of the side
_OUTWARD_SHARE = 0.05  # share of the side by which the mask extends beyond the mesh, which lies inside the face
# A head compared with its face's oval: how much wider and higher it is, and how far above the oval's
# centre, in half axes of the oval; the power of its superellipse, and the radius where its mask begins
# to fall. Near the crop's edge it falls to 0 between these distances, as fractions of the side.
_HEAD, _HEAD_UP, _HEAD_POWER, _HEAD_FALL = (1.5, 1.5), 0.25, 2.5, 0.7
_BORDER = (0.03, 0.15)
_BLUR_SAMPLES = 4  # to each side
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
    """Returns the feathered face oval in a crop: 1 inside, 0 outside. It reaches exactly 0 at 1/20 of
    the side outside the oval.

    Args:
        size: S.
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
    """Returns a `small_mask` at S×S."""
    if len(mask) == size:
        return mask
    return cast(Float32, cv2.resize(mask, (size, size), interpolation=cv2.INTER_LINEAR))


def small_mask(size: int, mesh: Float | None = None, region: CorrectedRegion = "face") -> Float32:
    """Returns `face_mask` as drawn: S×S, or smaller and to be enlarged bilinearly."""
    if region == "head":
        if mesh is None:
            return _template_head(size)
        face = small_mask(size, mesh)
        oval = np.asarray(mesh)[list(FACE_OVAL), :2] / size
        low, high = oval.min(axis=0), oval.max(axis=0)
        return _headed(face, (low + high) / 2, (high - low) / 2)
    if mesh is None:
        return _template_mask(size)
    work = min(_WORK_SIDE, size)
    oval = np.asarray(mesh)[list(FACE_OVAL), :2] * (work / size)
    # The hull is used because the oval of a face seen from the side folds over itself.
    hull: Any = cv2.convexHull(np.rint((np.clip(oval, -work, 2 * work) + 0.5) * 16.0).astype(np.int32))
    reach = round(_OUTWARD_SHARE * work)
    # Drawn in a window around the face whose edge no filter reaches, in a square with a rim of zeros: the crop's edge
    # is an edge of the mask too.
    side, (x, y, w, h) = work + 2, cv2.boundingRect(hull)
    margin = reach + _BLUR_SAMPLES
    x0, y0, x1, y1 = (
        min(max(v, 0), side)
        for v in ((x >> 4) - margin, (y >> 4) - margin, (x + w >> 4) + margin + 2, (y + h >> 4) + margin + 2)
    )
    out = np.zeros((work, work), np.float32)
    if x1 - x0 < 3 or y1 - y0 < 3:
        return out
    filled = np.zeros((y1 - y0, x1 - x0), np.uint8)
    cv2.fillConvexPoly(filled, hull - np.array((x0 << 4, y0 << 4), np.int32), 255, shift=4)
    filled = cv2.dilate(filled, _ellipse(2 * reach + 1))
    filled[: max(1 - y0, 0)] = filled[max(side - 1 - y0, 0) :] = 0
    filled[:, : max(1 - x0, 0)] = filled[:, max(side - 1 - x0, 0) :] = 0
    inner = slice(max(1 - y0, 0), side - 1 - y0), slice(max(1 - x0, 0), side - 1 - x0)
    distance: Any = cv2.distanceTransform(filled, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[inner]
    # The distance has a crease at every corner of the polygon. Smoothing removes it, and must not
    # raise the distance at the edge.
    distance = cv2.min(cv2.GaussianBlur(distance, (2 * _BLUR_SAMPLES + 1, 2 * _BLUR_SAMPLES + 1), 2.0), distance)
    left, top = max(x0 - 1, 0), max(y0 - 1, 0)
    h, w = distance.shape
    out[top : top + h, left : left + w] = _smoothstep((distance - 1.0) / (_FEATHER_SHARE * work))
    return out


@lru_cache(maxsize=8)
def _template_head(size: int) -> Float32:
    mask = _headed(_template_mask(size), np.array(_OVAL_CENTRE), np.array(_OVAL_AXES))
    mask.flags.writeable = False
    return mask


def _headed(face: Float32, centre: Float, axes: Float) -> Float32:
    """Adds the head round a face's oval to the face's mask. The oval's centre and half axes (x, y) are
    fractions of the side."""
    a = (np.arange(len(face)) + 0.5) / len(face)
    none, full = _BORDER
    border = _smoothstep((np.minimum(a, 1.0 - a) - none) / (full - none))
    return np.maximum(face, _head_oval(a, a, centre, axes)) * border[None] * border[:, None]


def _head_oval(x: Float, y: Float, centre: Float, axes: Float) -> Float32:
    """Returns a head's soft oval at columns `x` and rows `y`. It is float32 len(y)×len(x). `centre` and half `axes` are
    those of the face's oval. All are fractions of the side."""
    u = np.abs(x[None] - centre[0]) / (_HEAD[0] * axes[0])
    v = np.abs(y[:, None] - (centre[1] - _HEAD_UP * axes[1])) / (_HEAD[1] * axes[1])
    radius = (u**_HEAD_POWER + v**_HEAD_POWER) ** (1.0 / _HEAD_POWER)
    return _smoothstep((1.0 - radius) / (1.0 - _HEAD_FALL))


_HEAD_BOX, HEAD_EDGE = 2.0, (0.94, 1.14)
"""Sides of a head, in those of its face's box; radii, in half sides, between which its shape falls from 1 to 0."""


def head_shape(
    size: tuple[int, int], box: tuple[float, float, float, float], edge: tuple[float, float] = HEAD_EDGE
) -> Float32:
    """Returns a soft shape of twice a face's box, for `--region head`. It covers hair, ears, neck and nearby pixels.

    Args:
        size: width and height of the picture.
        box: x0, y0, x1, y1 of the face in its pixels.
        edge: radii, in half sides, between which it falls from 1 to 0.

    Returns:
        float32 height×width, 0…1; 0 at the picture's edge, beyond which the frame continues.
    """
    x0, y0, x1, y1 = box
    columns, rows = np.arange(size[0], dtype=np.float32) + 0.5, np.arange(size[1], dtype=np.float32) + 0.5
    u = (columns - (x0 + x1) / 2) / max(_HEAD_BOX * (x1 - x0) / 2, 1.0)
    v = (rows - (y0 + y1) / 2) / max(_HEAD_BOX * (y1 - y0) / 2, 1.0)
    full, none = edge
    radius = np.sqrt(np.sqrt((u**4)[None] + (v**4)[:, None]))  # of a superellipse with the power 4
    return _smoothstep((none - radius) / (none - full))


def support_box(mask: Float32) -> tuple[int, int, int, int] | None:
    """Returns the box of a mask's non-zero part: x0, y0, x1, y1; or None."""
    x, y, w, h = cv2.boundingRect((mask > 0.0).view(np.uint8))
    return (x, y, x + w, y + h) if w else None


def shown_box(side: int, mesh: Float | None, size: int, region: CorrectedRegion = "face") -> tuple[int, int, int, int]:
    """Returns the box outside of which `face_mask(size, mesh, region)` is 0. It is x0, y0, x1, y1 on
    `side` samples a side, computed fast and a little too large."""
    if mesh is None:
        low, high = np.array(_OVAL_CENTRE) - _OVAL_AXES, np.array(_OVAL_CENTRE) + _OVAL_AXES
    else:
        oval = np.asarray(mesh)[list(FACE_OVAL), :2] / size
        low, high = oval.min(axis=0), oval.max(axis=0)
    if region != "face":
        centre, axes = (low + high) / 2, (high - low) / 2
        centre[1] -= _HEAD_UP * axes[1]
        low, high = np.minimum(low, centre - _HEAD * axes), np.maximum(high, centre + _HEAD * axes)
    low, high = low - _OUTWARD_SHARE - 0.03, high + _OUTWARD_SHARE + 0.03
    x0, y0 = np.clip(np.floor(low * side), 0, side - 1).astype(int).tolist()
    x1, y1 = np.clip(np.ceil(high * side), 1, side).astype(int).tolist()
    return x0, y0, max(x1, x0 + 1), max(y1, y0 + 1)


_RIM = np.ones((3, 3), np.uint8)
GATE_FLOOR, GATE_CEILING = 16.0 / 255.0, 36.0 / 255.0


def residual_gate(cells: Float32, weight: Float32) -> Float32:
    """Fades a correction out where engine and image disagree about the content.

    A restorer sharpens and denoises: this changes averages over 1/64 of the crop's side only little,
    and equally all over the face. Where it paints a mouth over a hand or skin over a microphone, the
    average itself changes. Per cell: e = max over the channels of |mean d − its median over the
    face|, smoothed. The gate falls from 1 to 0 between t and 2t with t = 4·median of e over the
    face, 16/255 to 36/255. Changes of the whole face's exposure or colour cancel with the medians.
    A hand of the cheek's colour in front of the cheek is not detected, and needs no protection.

    Args:
        cells: float32 3×64×64, `cells_of` the correction before `lock_colour`.
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
    # The closed part is one cell wider, to protect the rim of an object too.
    return cast(Float32, cv2.GaussianBlur(cv2.erode(gate, _RIM), (3, 3), 0.8))


def medians_of(planes: Float32, where: NDArray[np.intp]) -> list[Any]:
    """Returns the upper median of each of 3×h×w planes, at flat indices. Floats, which cv2 takes as scalars."""
    values = planes.reshape(len(planes), -1).take(where, axis=1)
    middle = values.shape[1] // 2
    values.partition(middle, axis=1)
    return values[:, middle].tolist()


def median_of(values: NDArray[np.float32]) -> float:
    """Returns the upper median. np.median's checks would cost more than the sorting here."""
    middle = values.size // 2
    return float(np.partition(values, middle, axis=None)[middle])


def smooth_ramp(value: float, none: float, full: float) -> float:
    """Returns 0 below `none`, 1 above `full`, with a smooth ramp between."""
    t = min(max((value - none) / (full - none), 0.0), 1.0)
    return t * t * (3.0 - 2.0 * t)


def _smoothstep(x: NDArray[np.floating[Any]]) -> Float32:
    y = np.clip(x, 0.0, 1.0).astype(np.float32, copy=False)
    return (y * y * (3.0 - 2.0 * y)).astype(np.float32, copy=False)
