"""Damage of old prints and films on a crop: which pixels are replaced, and by what.

A network says how likely each pixel is damaged; `holes_of` decides. The holes are painted over from
their rims (`painted`); in films what the frame before shows there goes first (`from_before`).
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from rtface.correct.colour import luma_of
from rtface.correct.grain import highpass, sheet_part
from rtface.correct.motion import Motion, small_of, warped
from rtface.frame import Bytes, Float, Float32

SIZE = 256
"""Side of the crop that damage is looked for on."""
REGION = (32, 40, 192, 208)
"""x, y, width, height of the part of the crop that the network is given; nothing is found outside. It holds the
feathered oval and some of what surrounds it, and is symmetric about the crop's middle, because training mirrors it."""
FOUND, AROUND = 0.8, 0.4
"""Probability from which on damage is replaced, and that of the pixels connected with it which are replaced too."""
MOST = 0.03
"""Share of the face above which nothing is replaced: a print that is dotted or hatched all over, or no face."""
_WITHIN = 0.98  # mask of the face above which all of a fleck lies
_LIGHTER = 0.14  # than what is around it: the lightest tenths of both
_EVEN = 5.5  # likewise, times the standard deviation of what is around it
_AROUND_IT = 11  # pixels, the side of the square by which that is found
_LEAST, _LARGEST = 3, 400  # pixels of damage that are replaced
_SLENDER = 4.0  # square of the length of a fleck by its area, at most: the rims of glasses and hair are thinner
_REACH = 5  # pixels, the side of the ellipse by which a hole is larger than what was found
_RADIUS = 3  # pixels from which a missing one is interpolated
_RAMP = 2.0  # pixels from a hole's rim on which the network's part grows to 1
_RING = 5.0  # pixels around a hole in which two frames are compared
_SAME, _OTHER = 5.0 / 255.0, 12.0 / 255.0  # mean difference of two frames there: trusted, and not trusted at all
_VISIBLE = 0.6 / 255.0  # standard deviation of grain below which none is added


# Points of MediaPipe's mesh around brows, eyes and what glasses cover; around nose, lips and moustache; and around the
# forehead, on which hair falls.
_FEATURES = (
    (70, 63, 105, 66, 107, 55, 193, 122, 128, 126, 36, 50, 123, 116, 143, 124, 46),
    (300, 293, 334, 296, 336, 285, 417, 351, 357, 355, 266, 280, 352, 345, 372, 353, 276),
    (107, 336, 285, 417, 351, 122, 193, 55),
    (48, 4, 278, 327, 391, 322, 410, 287, 422, 424, 418, 421, 200, 201, 194, 204, 202, 57, 186, 92, 165, 98),
    (10, 109, 67, 103, 54, 21, 162, 127, 70, 107, 336, 300, 356, 389, 251, 284, 332, 297, 338),
)
# Centre and half axes of the same, by the side of a crop without a mesh.
_PLACES = ((0.377, 0.46, 0.14, 0.11), (0.623, 0.46, 0.14, 0.11), (0.5, 0.68, 0.17, 0.16), (0.5, 0.27, 0.32, 0.15))
_GROWN = 9  # pixels, the side of the ellipse by which they are larger


def features_of(mesh: Float | None, size: int) -> Bytes:
    """Where a face has eyes, brows, glasses, nose, lips, moustache and hair on the forehead: uint8 S×S, 1 there.

    Args:
        mesh: (478, 2|3), in pixels of the crop; None for the places of the alignment template.
        size: S.
    """
    out = np.zeros((size, size), np.uint8)
    if mesh is None:
        for x, y, wide, high in _PLACES:
            axes = round(wide * size), round(high * size)
            cv2.ellipse(out, (round(x * size), round(y * size)), axes, 0, 0, 360, 1, -1)
        return out
    for points in _FEATURES:
        around: Any = cv2.convexHull(np.rint(mesh[list(points), :2]).astype(np.int32))
        cv2.fillConvexPoly(out, around, 1)
    grown: Any = cv2.dilate(out, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_GROWN, _GROWN)))
    return grown


def holes_of(probability: Float32, face: Float32, luma: Float32, features: Bytes) -> Bytes:
    """Which pixels of a crop are replaced: light flecks on skin.

    Moles, beards, hair, glasses, jewellery, rim light and what is held before a face look like damage to a network. So
    a part that reaches the border of the face, touches a feature of it, is large or thin, or does not stand out on even
    skin, is left.

    Args:
        probability: float32 S×S, 0…1, that a pixel is damaged.
        face: float32 S×S, the mask of the face; nothing is replaced where it is not 1.
        luma: float32 S×S, 0…1, of the crop.
        features: `features_of(…)`.

    Returns:
        uint8 S×S, 1 where a pixel is replaced; all 0 where more than `MOST` of the face would be.
    """
    none = np.zeros(probability.shape, np.uint8)
    sure = (probability > FOUND) & (face > _WITHIN)
    if not sure.any():
        return none
    parts = (probability > AROUND).astype(np.uint8)
    count, labels, figures, _ = cv2.connectedComponentsWithStats(parts, connectivity=8)
    labels = np.asarray(labels, np.int32)
    kept = np.zeros(count, bool)
    kept[labels[sure]] = True
    area = figures[:, cv2.CC_STAT_AREA]
    length = figures[:, (cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT)].max(axis=1)
    kept &= (area >= _LEAST) & (area <= _LARGEST) & (length * length <= _SLENDER * area)
    kept[labels[(features > 0) | (face <= _WITHIN)]] = False
    kept[0] = False
    for part in np.flatnonzero(kept):
        kept[part] = _stands_out(luma, labels == part, parts)
    more = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_REACH, _REACH))
    hole: Any = cv2.dilate(kept[labels].astype(np.uint8), more)
    return none if share_of(hole, face) > MOST else hole


def _stands_out(luma: Float32, part: Any, parts: Bytes) -> bool:
    """Whether part of a crop is lighter than what is around it and is no part itself, by far more than that varies
    but for its shading: beards, hair and hatching are less even than skin."""
    near = np.asarray(cv2.dilate(part.astype(np.uint8), np.ones((_AROUND_IT, _AROUND_IT), np.uint8)))
    rows, columns = np.nonzero((near > 0) & (parts == 0))
    if len(rows) < _LEAST:
        return False
    ring = luma[rows, columns]
    places = np.stack([rows, columns, np.ones_like(rows)], 1).astype(np.float64)
    shading: Any = places @ np.linalg.lstsq(places, ring, rcond=None)[0]
    lighter = float(np.percentile(luma[part], 90)) - float(np.percentile(ring, 90))
    return lighter > max(_LIGHTER, _EVEN * float((ring - shading).std()))


def share_of(hole: Bytes, face: Float32) -> float:
    """The share 0…1 of a face that a hole takes; both S×S."""
    return float((face * hole).sum()) / max(float(face.sum()), 1.0)


def painted(crop: Float32, hole: Bytes) -> Float32:
    """The crop with a hole painted over from its rim, by OpenCV's fast marching method.

    Telea, "An image inpainting technique based on the fast marching method", 2004.

    Args:
        crop: float32 S×S×3, 0…1.
        hole: uint8 S×S, not 0 where the crop is to be replaced.

    Returns:
        float32 S×S×3; outside the hole it is the crop.
    """
    if not hole.any():
        return crop
    levels = np.clip(np.rint(crop * np.float32(255.0)), 0, 255).astype(np.uint8)
    filled: Any = cv2.inpaint(levels, hole, _RADIUS, cv2.INPAINT_TELEA)
    return np.where(hole[..., None] > 0, filled.astype(np.float32) * np.float32(1 / 255), crop)


def ramp_of(hole: Bytes) -> Float32:
    """Float32 S×S: 0 outside a hole, rising to 1 within `_RAMP` pixels from its rim, so that no seam is seen."""
    distance: Any = cv2.distanceTransform(hole, cv2.DIST_L2, cv2.DIST_MASK_3)
    return np.minimum(distance * np.float32(1 / _RAMP), np.float32(1.0))


def enlarged_hole(hole: Bytes, size: int) -> Bytes:
    """A hole on a crop of `size`."""
    if len(hole) == size:
        return hole
    larger: Any = cv2.resize(hole.astype(np.float32), (size, size), interpolation=cv2.INTER_LINEAR)
    return (larger > 0.25).astype(np.uint8)


def enlarged_change(change: Float32, size: int) -> Float32:
    """What is added to a hole that was painted over (S×S×3), on a crop of `size`."""
    if len(change) == size:
        return change
    out: Any = cv2.resize(change, (size, size), interpolation=cv2.INTER_CUBIC)
    return out


def from_before(filled: Float32, hole: Bytes, before: Float32, motion: Motion) -> Float32:
    """The fill with what the frame before shows in the hole, where both agree around it.

    Dust lies on one frame, and a face moves behind a scratch: the frame before often shows what is hidden.

    Args:
        filled: float32 S×S×3, 0…1, this frame's crop with its holes filled.
        hole: uint8 S×S.
        before: float32 S×S×3, the repaired crop of the frame before.
        motion: finds what moved in between.
    """
    now, then = (np.ascontiguousarray(image.transpose(2, 0, 1)) for image in (filled, before))
    flow = motion.between(small_of(now), small_of(then))
    if flow is not None:
        every = slice(0, len(flow))
        then = warped(then, flow, (every, every), cv2.INTER_CUBIC)
    known = (hole == 0).astype(np.float32)
    error: Any = cv2.GaussianBlur(np.abs(then - now).max(axis=0) * known, (0, 0), _RING)
    weight: Any = cv2.GaussianBlur(known, (0, 0), _RING)
    trust = np.clip((_OTHER - error / np.maximum(weight, 1e-3)) / (_OTHER - _SAME), 0.0, 1.0) * (weight > 0.02)
    trust = (trust * ramp_of(hole)).astype(np.float32)[..., None]
    return filled + trust * (np.clip(then, 0.0, 1.0).transpose(1, 2, 0) - filled)


def grain_of(crop: Float32, hole: Bytes, face: Float32, scale: float, at: tuple[int, int]) -> Float32:
    """Synthetic grain for a hole, as strong as that of the face around it: float32 S×S.

    Args:
        crop: float32 S×S×3, 0…1.
        hole: uint8 S×S.
        face: float32 S×S, the mask of the face.
        scale: crop pixels per image pixel.
        at: x, y on the sheet of synthetic grain, 0…511 each.
    """
    fine = highpass(luma_of(np.ascontiguousarray(crop.transpose(2, 0, 1))), max(scale, 1.0), rows=True)
    power: Any = cv2.blur(fine * fine, (5, 5))
    calm = power[(face > 0.5) & (hole == 0)]
    if calm.size < 64:
        return np.zeros(hole.shape, np.float32)
    sigma = float(np.sqrt(np.partition(calm, calm.size // 3)[calm.size // 3]))
    if sigma < _VISIBLE:
        return np.zeros(hole.shape, np.float32)
    coarseness = int(np.clip(2.0 ** round(np.log2(max(scale, 1.0))), 1.0, 8.0))
    return sheet_part(hole.shape, coarseness, at) * np.float32(sigma) * ramp_of(hole)
