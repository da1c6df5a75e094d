"""Finds the areas of a frame's planes that faces' corrections cover."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rtface.device.cpu.composite import SMOOTH_FROM, overlapping
from rtface.device.cpu.crop import BLUR_FROM
from rtface.device.cuda.affine_map import Map, between_centres
from rtface.device.cuda.filtering import Lowpass, plan_lowpass
from rtface.device.cuda.kernels import Scratch
from rtface.frame import Box, Float
from rtface.geometry.transforms import bounds, compose, footprint, invert, translation


class PasteFace(NamedTuple):
    """The part of a crop under the mask. It has a border of one zero sample.

    Attributes:
        number: index among the caller's faces.
        size: S, the side of the crop.
        left, top: position of the part in its crop.
        width, height: size of the part.
        m: matrix, display → part.
    """

    number: int
    size: int
    left: int
    top: int
    width: int
    height: int
    m: Float


class Spot(NamedTuple):
    """The area of a plane that a face's correction covers.

    Attributes:
        face: the face.
        box: the samples that may change.
        shared: whether parts of other faces overlap this face's part.
        gray_test: 1-based index of the chroma box that is tested for being gray and contains the spot; 0 if none.
        lowpass: filter that is first applied to the correction.
        cubic: whether the correction is interpolated bicubically.
        spread: whether the correction is downscaled; its low-pass filter then spreads it beyond the mask.
        to_correction: the map from samples to the correction.
        to_mask: the map from samples to the mask.
    """

    face: PasteFace
    box: Box
    shared: bool
    gray_test: int
    lowpass: Lowpass | None
    cubic: bool
    spread: bool
    to_correction: Map
    to_mask: Map


def faces_of(
    matrices: Float, sizes: Sequence[int], supports: Sequence[Box | None] | None
) -> tuple[list[PasteFace], list[list[int]]]:
    """Returns the faces with a mask, and groups of overlapping ones. Each face is cut to its mask, as in
    `composite.cut_patch`; the groups contain indices (see `overlapping`)."""
    faces: list[PasteFace] = []
    for n, (matrix, size) in enumerate(zip(matrices, sizes, strict=True)):
        x0, y0, x1, y1 = (supports[n] if supports else None) or (0, 0, size, size)
        left, top, right, bottom = max(x0 - 1, 0), max(y0 - 1, 0), min(x1 + 1, size), min(y1 + 1, size)
        if x0 < x1 and y0 < y1 and left < right and top < bottom:
            part = compose(translation(-left, -top), matrix)
            faces.append(PasteFace(n, size, left, top, right - left, bottom - top, part))
    return faces, overlapping([bounds(invert(face.m), (0.0, 0.0, face.width, face.height)) for face in faces])


def spot_of(
    face: PasteFace, box: Box, to_part: Float, shared: bool, gray_test: int, components: int, scratch: Scratch
) -> Spot:
    """Returns the spot of a face on a plane. `to_part` maps the plane to the face's part."""
    shrink = footprint(to_part)
    cubic, spread = min(shrink) < 1.0 / SMOOTH_FROM, max(shrink) > BLUR_FROM
    lowpass = plan_lowpass(shrink, face.width, face.height, components, 4, scratch, mixed=True) if spread else None
    factors, step = lowpass.factors if lowpass is not None else (1, 1), 2.0 if cubic else 1.0
    return Spot(
        face,
        box,
        shared,
        gray_test,
        lowpass,
        cubic,
        spread,
        between_centres(to_part, (0.0, 0.0), box[:2], (step / factors[0], step / factors[1])),
        between_centres(to_part, (0.0, 0.0), box[:2], (1.0, 1.0)),
    )
