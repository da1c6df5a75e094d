"""Cuts chips, the person network's images of faces; rates their fitness."""

from __future__ import annotations

import cv2
import numpy as np

from rtface.correct.mask import smooth_ramp
from rtface.frame import Bytes, Face, Float
from rtface.geometry.alignment import crop_matrix, fit
from rtface.geometry.transforms import apply, compose, invert
from rtface.protocols import View

SIDE = 150
"""Width and height of a chip in pixels."""

_ANCHORS = np.array([(169.68, 239.90), (222.54, 243.53), (290.04, 243.53), (342.91, 239.90), (256.29, 331.83)])
"""Eye corners and the base of the nose in a crop of 512 (`rtface.geometry.alignment`)."""
_DLIB = np.array(
    [
        (0.12057506, 0.21372745),
        (0.33408506, 0.22906424),
        (0.64606048, 0.22896744),
        (0.85956746, 0.21349815),
        (0.49011231, 0.62779753),
    ]
)
"""The same points in dlib's mean face (``get_face_chip_details``), in units of the chip's side without padding."""
_PADDING = 0.25
_CHIP_OF_CROP = fit(_ANCHORS, (_DLIB + _PADDING) / (1 + 2 * _PADDING) * SIDE)

SMALLEST = 36.0
"""Width in display pixels of the smallest face that is recognised."""
_FULL_DETAIL_WIDTH_PX = 90.0
"""Width above which fitness no longer rises."""
_YAW_DEG, _PITCH_DEG = (15.0, 45.0), (15.0, 40.0)
"""Angles at which fitness starts to fall, and at which it reaches 0."""
_MIN_CONTRAST = 10.0
"""Minimum standard deviation of brightness on a chip, code values of 255."""
_MIN_INSIDE_SHARE = 0.9
"""Minimum share of a chip within the frame."""


def chip_matrix(face: Face) -> Float:
    """Returns the 2×3 matrix display → chip pixels, corner convention."""
    return compose(_CHIP_OF_CROP, crop_matrix(face, 512))


def fitness(face: Face, width: float, height: float) -> float:
    """Rates how recognisable a face is, 0 (not at all) … 1. This depends on size, pose and position, but not on pixels.

    Args:
        face: face from the tracker.
        width, height: size of the frame in display pixels.
    """
    if face.width < SMALLEST or _inside_share(face, width, height) < _MIN_INSIDE_SHARE:
        return 0.0
    yaw, pitch = (abs(v) for v in face.pose[:2]) if face.pose is not None else (0.0, 0.0)
    size = 0.4 + 0.6 * smooth_ramp(face.width, SMALLEST, _FULL_DETAIL_WIDTH_PX)
    return size * (1.0 - smooth_ramp(yaw, *_YAW_DEG)) * (1.0 - smooth_ramp(pitch, *_PITCH_DEG))


def _inside_share(face: Face, width: float, height: float) -> float:
    """Returns the share of a chip's 9×9 points within the frame."""
    offsets = (np.arange(9) + 0.5) * (SIDE / 9)
    grid = np.stack(np.meshgrid(offsets, offsets), -1).reshape(-1, 2).astype(np.float64)
    points = apply(invert(chip_matrix(face)), grid)
    return float(((points >= 0) & (points < (width, height))).all(1).mean())


def cut_chip(view: View, face: Face) -> Bytes | None:
    """Cuts a face's chip, uint8 150×150×3 RGB. Returns None if it lacks contrast."""
    chip = view.crop(chip_matrix(face), (SIDE, SIDE))
    return chip if clear(chip) else None


def clear(chip: Bytes) -> bool:
    """Returns whether a chip's middle has enough contrast to recognise a face."""
    return float(cv2.cvtColor(chip, cv2.COLOR_RGB2GRAY)[35:125, 30:120].std()) >= _MIN_CONTRAST
