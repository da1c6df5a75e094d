"""Transfers the light of the scene to another skin."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from rtface.frame import Bytes, Float32

_SIGMA = 0.15  # share of the side: light is smooth, features are not
_LEAST, _MOST = 0.25, 3.0
_DARK = 6.0  # code values added to both images, because the colour of very weak light is noise
_STEP = 4  # smooth images are computed at the size divided by this


def relight(skin: Bytes, scene: Bytes, mask: Float32) -> Bytes:
    """Gives a skin the light and complexion of the replaced face.

    The skin is multiplied, per channel, by the ratio of the two images' smooth parts (a Gaussian within the mask).

    Args:
        skin, scene: images, uint8 S×S×3, aligned with each other.
        mask: float32 S×S, 0…1, where both show a face.
    """
    size = len(skin)
    few = max(8, size // _STEP)
    weight: Any = cv2.resize(mask, (few, few), interpolation=cv2.INTER_AREA)
    ratio = (_smooth(scene, weight, few) + _DARK) / (_smooth(skin, weight, few) + _DARK)
    full: Any = cv2.resize(np.clip(ratio, _LEAST, _MOST), (size, size), interpolation=cv2.INTER_LINEAR)
    return np.clip(skin * full + 0.5, 0, 255).astype(np.uint8)


def _smooth(image: Bytes, weight: Float32, few: int) -> Float32:
    small: Any = cv2.resize(image, (few, few), interpolation=cv2.INTER_AREA)
    sum_: Any = cv2.GaussianBlur(small.astype(np.float32) * weight[..., None], (0, 0), _SIGMA * few)
    share: Any = cv2.GaussianBlur(weight, (0, 0), _SIGMA * few)
    return sum_ / np.maximum(share, 1e-3)[..., None]
