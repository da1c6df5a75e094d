"""Detail gain: finest detail of an engine's answer divided by that of the face."""

from __future__ import annotations

import math

import numpy as np

from rtface.analysis.measure import finest_octave
from rtface.analysis.patch import patch_of_crop
from rtface.frame import Bytes, Face, Float32
from rtface.geometry.alignment import crop_matrix
from rtface.protocols import View


def crop_of(view: View, face: Face, side: int) -> Bytes:
    """The crop that an engine of this size is asked about, RGB uint8."""
    return view.crop(crop_matrix(face, side), (side, side))


def as_input(crop: Bytes) -> Float32:
    """The crop as engines take it, float32 1×3×S×S."""
    return np.ascontiguousarray(crop.transpose(2, 0, 1)[None], np.float32) / np.float32(255)


def detail_gain_of(crop: Bytes, answer: Float32, face_width: float) -> float | None:
    """The ratio of what both hold of the finest octave on about the frame's own grid, noise left out: below 1 the
    answer is softer. None for a face too small, or an answer that holds no numbers.

    Args:
        crop: what the engine was asked about.
        answer: what it said, float32 3×S×S.
        face_width: in the frame that the crop was cut from, pixels.
    """
    said = np.clip(answer, 0, 1)
    before, after = patch_of_crop(crop, face_width), patch_of_crop(np.ascontiguousarray(said), face_width)
    if before is None or after is None or not np.isfinite(said).all():
        return None
    return math.sqrt(finest_octave(after[0]) / finest_octave(before[0]))
