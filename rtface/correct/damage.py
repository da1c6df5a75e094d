"""Damage of old prints and films on a crop: which pixels are replaced, and by what.

A network says how likely each pixel is damaged; `holes_of` decides. The holes are painted over from
their rims (`painted`); in wide ones the other half of the face is shown where the face is symmetric
(`from_other_half`), and in films what the frame before shows there goes first (`from_before`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from rtface.correct.colour import CELLS, luma_of
from rtface.correct.grain import highpass, sheet_part
from rtface.correct.motion import Motion, small_of, warped
from rtface.correct.openings import Opening
from rtface.frame import Bytes, Float, Float32

SIZE = 256
"""Side of the crop that damage is looked for on."""
REGION = (32, 40, 192, 208)
"""x, y, width, height of the part of the crop that the network is given; nothing is found outside. It holds the
feathered oval and some of what surrounds it, and is symmetric about the crop's middle, because training mirrors it."""
FOUND, AROUND = 0.9, 0.4
"""Probability from which on damage is replaced, and that of the pixels connected with it which are replaced too."""
MOST = 0.3
"""Share of the face above which nothing is replaced: a print that is dotted or hatched all over, or no face."""
_WITHIN = 0.98  # mask of the face above which damage has to be sure somewhere
_BEYOND = 12  # pixels that damage has outside the face, from which on it is one that crosses the face
_DEEP = 28.0  # pixels that damage reaches into the face, at least: hair, straps, earrings and rim light do not
_LIGHTER = 0.12  # than what is around it: the lightest tenths of both
_AROUND_IT = 11  # pixels, the side of the square by which that is found
_INSIDE = 0.8  # share of a damaged part inside an eye or the mouth from which on it is left
_LEAST = 3  # pixels of damage that are replaced
_REACH = 5  # pixels, the side of the ellipse by which a hole is larger than what was found
_RADIUS = 3  # pixels from which a missing one is interpolated
_RAMP = 2.0  # pixels from a hole's rim on which the network's part grows to 1
_RING = 5.0  # pixels around a hole in which two frames are compared
_SAME, _OTHER = 5.0 / 255.0, 12.0 / 255.0  # mean difference of two frames there: trusted, and not trusted at all
_HALVES = 10.0  # pixels around a hole in which the two halves of a face are compared
_ALIKE, _UNLIKE = 0.045, 0.12  # mean difference of their details there: trusted, and not trusted at all
_FRONTAL, _TURNED = 12.0, 28.0  # degrees of yaw below which the halves are alike, and from which on they are not
_RIM, _WIDE = 2.0, 5.0  # pixels from a hole's rim where the other half begins to show, and shows fully
_VISIBLE = 0.6 / 255.0  # standard deviation of grain below which none is added


# Points of MediaPipe's mesh around brows, eyes and what glasses cover; and around nose, lips and moustache.
_FEATURES = ((70, 63, 105, 66, 107, 55, 193, 122, 128, 121, 120, 119, 118, 117, 111, 35, 124, 46),
             (300, 293, 334, 296, 336, 285, 417, 351, 357, 350, 349, 348, 347, 346, 340, 265, 353, 276),
             (107, 336, 285, 417, 351, 122, 193, 55),
             (48, 4, 278, 327, 391, 322, 410, 287, 422, 424, 418, 421, 200, 201, 194, 204, 202, 57, 186, 92, 165, 98))
# Centre and half axes of the same, by the side of a crop without a mesh.
_PLACES = ((0.377, 0.46, 0.14, 0.11), (0.623, 0.46, 0.14, 0.11), (0.5, 0.68, 0.17, 0.16))
_GROWN = 9  # pixels, the side of the ellipse by which they are larger


def features_of(mesh: Float | None, size: int) -> Bytes:
    """Where a face has eyes, brows, glasses, nostrils, lips and moustache: uint8 S×S, 1 there.

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


def holes_of(probability: Float32, face: Float32, openings: Sequence[Opening] = (), *, luma: Float32 | None = None,
             features: Bytes | None = None) -> Bytes:
    """Which pixels of a crop are replaced.

    Moles, beards, glasses and rim light look like damage to a network. So damage has to be lighter than what is around
    it and reach deep into the face, and on a feature of the face it has to cross the face's border.

    Args:
        probability: float32 S×S, 0…1, that a pixel is damaged.
        face: float32 S×S, the mask of the face; nothing is replaced where it is 0.
        openings: `openings_of(…)`: what lies inside an eye or the mouth only is a glint or a tooth.
        luma: float32 S×S, 0…1, of the crop; None leaves out what is asked of it.
        features: `features_of(…)`; likewise.

    Returns:
        uint8 S×S, 1 where a pixel is replaced; all 0 where more than `MOST` of the face would be.
    """
    none = np.zeros(probability.shape, np.uint8)
    inside = face > 0.0
    # A collar or a hat along the edge of the face looks like damage.
    sure = (probability > FOUND) & (face > _WITHIN)
    if not sure.any():
        return none
    parts = (probability > AROUND).astype(np.uint8)
    count, labels, figures, _ = cv2.connectedComponentsWithStats(parts, connectivity=8)
    labels = np.asarray(labels, np.int32)
    kept = np.zeros(count, bool)
    kept[labels[sure]] = True
    kept &= figures[:, cv2.CC_STAT_AREA] >= _LEAST
    within = np.zeros(probability.shape, np.uint8)
    for opening in openings:
        _draw(within, opening)
    kept &= np.bincount(labels[within > 0], minlength=count) < _INSIDE * figures[:, cv2.CC_STAT_AREA]
    beyond = np.bincount(labels[~inside], minlength=count)
    deepest = np.zeros(count, np.float32)
    np.maximum.at(deepest, labels, np.asarray(cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, 3)))
    kept &= deepest >= _DEEP
    crossing = beyond >= _BEYOND
    if features is not None:
        kept &= crossing | (np.bincount(labels[features > 0], minlength=count) == 0)
    if luma is not None:
        for part in np.flatnonzero(kept[1:]) + 1:
            kept[part] = _lighter(luma, labels == part, parts)
    kept[0] = False
    more = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_REACH, _REACH))
    hole: Any = cv2.dilate((kept & ~crossing)[labels].astype(np.uint8), more)
    if features is not None:
        hole[features > 0] = 0
    hole = np.maximum(hole, np.asarray(cv2.dilate((kept & crossing)[labels].astype(np.uint8), more))) * inside
    return none if share_of(hole, face) > MOST else hole


def _lighter(luma: Float32, part: Any, parts: Bytes) -> bool:
    """Whether part of a crop is lighter than what is around it and is no part itself."""
    near = np.asarray(cv2.dilate(part.astype(np.uint8), np.ones((_AROUND_IT, _AROUND_IT), np.uint8)))
    ring = (near > 0) & (parts == 0)
    light, around = (float(np.percentile(luma[where], 90)) if where.any() else 1.0 for where in (part, ring))
    return light > around + _LIGHTER


def _draw(image: Bytes, opening: Opening) -> None:
    """Sets the pixels of an opening to 1."""
    k = len(image) / CELLS
    (x, y), (along, across), (dx, dy) = opening.centre, opening.axes, opening.along
    cv2.ellipse(image, ((k * x, k * y), (2 * k * along, 2 * k * across), math.degrees(math.atan2(dy, dx))), 1, -1)


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


def from_other_half(over: Float32, hole: Bytes, yaw: float = 0.0) -> Float32:
    """The crop with what the mirror image of the face shows in wide holes, where the two halves are alike around them.

    The mirror image is brought to the colours of the hole's rim by the difference of the two, painted over from the
    rim (Bertalmio, Bertozzi and Sapiro, "Navier-Stokes, fluid dynamics, and image and video inpainting", 2001).

    Args:
        over: float32 S×S×3, 0…1, a crop whose hole was painted over.
        hole: uint8 S×S.
        yaw: how far the face is turned, degrees.
    """
    distance: Any = cv2.distanceTransform(hole, cv2.DIST_L2, cv2.DIST_MASK_3)
    frontal = float(np.clip((_TURNED - abs(yaw)) / (_TURNED - _FRONTAL), 0.0, 1.0))
    if frontal <= 0.0 or float(distance.max()) <= _RIM:
        return over
    other, missing = np.ascontiguousarray(over[:, ::-1]), np.ascontiguousarray(hole[:, ::-1])
    both = ((hole == 0) & (missing == 0)).astype(np.float32)
    apart = (over - other) * both[..., None]
    near = np.maximum(cv2.GaussianBlur(both, (0, 0), _HALVES), 1e-3)
    detail = np.abs(apart - cv2.GaussianBlur(apart, (0, 0), _HALVES) / near[..., None]).max(axis=2)
    weight = np.clip((distance - _RIM) / (_WIDE - _RIM), 0.0, 1.0) * frontal
    count, labels = cv2.connectedComponents(hole)
    reach = 2 * round(_HALVES) + 1
    for part in range(1, count):
        ring = (cv2.dilate((labels == part).astype(np.uint8), np.ones((reach, reach), np.uint8)) > 0) & (both > 0)
        error = float(detail[ring].mean()) if ring.any() else _UNLIKE
        weight[labels == part] *= np.clip((_UNLIKE - error) / (_UNLIKE - _ALIKE), 0.0, 1.0)
    weight *= 1 - cv2.GaussianBlur(missing.astype(np.float32), (0, 0), _RAMP)
    levels = np.clip(np.rint(apart * 127 + 128), 0, 255).astype(np.uint8)
    tone: Any = cv2.inpaint(levels, np.maximum(hole, missing), _RADIUS, cv2.INPAINT_NS)
    shown = np.clip(other + (tone.astype(np.float32) - 128) / 127, 0.0, 1.0)
    return (over + weight.astype(np.float32)[..., None] * (shown - over)).astype(np.float32)


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
