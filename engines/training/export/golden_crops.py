"""Makes golden crops: inputs whose outputs must be the same on every machine."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from rtface.engine.golden import GOLDEN_STEPS
from rtface.geometry.alignment import fit
from training.crop_space import F32, TEMPLATE_512, U8, at, cut, planes, similarity
from training.degradation import single_image

ASTRONAUT_POINTS = np.array(
    [[202.4, 101.2], [246.5, 102.7], [222.8, 123.2], [204.9, 141.0], [243.4, 141.3]], np.float64
)
"""Left eye, right eye, nose and mouth corners in scikit-image's ``astronaut`` (512×512), in pixels."""


def astronaut() -> tuple[U8, Any]:
    """Returns scikit-image's public-domain portrait, uint8 512×512×3 RGB. Also returns the matrix from the crop."""
    from skimage import data

    return np.asarray(data.astronaut(), np.uint8), fit(TEMPLATE_512, ASTRONAUT_POINTS)


def golden_crops(size: int, following: bool = False) -> U8:
    """Returns crops of the astronaut, clean and degraded, and a synthetic pattern.

    The crops are uint8 N×size×size×3 RGB. With ``following``, they show the next frame: slightly turned, new noise.
    """
    picture, matrix = astronaut()
    if following:
        matrix = matrix @ np.array([*similarity(1.004, 0.008, (257.5, 254.5), 512), [0, 0, 1]])
    m = at(matrix, size)
    clean = cut(picture, m, size)
    r = np.random.default_rng(4 if following else 3)
    low = cv2.resize(
        cv2.resize(clean, (size // 4,) * 2, interpolation=cv2.INTER_AREA), (size, size), interpolation=cv2.INTER_CUBIC
    )
    small = cv2.resize(clean, (size // 2,) * 2, interpolation=cv2.INTER_AREA)
    noisy = single_image.noise(np.asarray(small, np.uint8), 3, r)
    call = cv2.resize(single_image.jpeg(noisy, 30), (size, size), interpolation=cv2.INTER_CUBIC)
    y, x = np.mgrid[:size, :size] / size
    pattern = np.stack([x, y, 0.5 + 0.5 * np.sin(40 * (x * x + y * y) + 0.3 * following)], -1) * 255 // 16 * 16
    out = [clean, call, pattern]
    if size <= 256:
        out[1:1] = [low, single_image.noise(clean, 8, r, 1), single_image.motion_blur(clean, 9, 0.5)]
    return np.stack([np.clip(o, 0, 255).astype(np.uint8) for o in out])


def as_floats(crops: U8) -> F32:
    """Converts uint8 N×S×S×3 to float32 N×3×S×S, 0..1."""
    return np.stack([planes(crop) for crop in crops])


def in_steps(restored: F32, crops: U8) -> Any:
    """Returns the difference of pictures N×3×S×S (0..1) from crops. The unit, half a code value, compresses best."""
    return np.rint((restored - as_floats(crops)) * GOLDEN_STEPS).astype(np.int16)
