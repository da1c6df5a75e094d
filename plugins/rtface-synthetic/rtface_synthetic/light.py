"""Transfers the light of the scene to a synthetic face."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from rtface.frame import Bytes, Float32

_SIGMA = 0.15  # of the Gaussian, as a share of the side: large enough to remove facial features, but not the light
_MIN_RATIO, _MAX_RATIO = 0.25, 3.0
_OFFSET = 6.0  # code values added to both images, because the colour of very weak light is noise
_REDUCTION = 4  # factor by which images are reduced before they are smoothed


def relight(skin: Bytes, scene: Bytes, mask: Float32) -> Bytes:
    """Gives a skin the light and complexion of the replaced face.

    The skin is multiplied, per channel, by the ratio of the two images' smooth parts (a Gaussian within the mask).

    Args:
        skin, scene: images, uint8 S×S×3, aligned with each other.
        mask: area in which both images show a face, float32 S×S, 0…1.
    """
    size = len(skin)
    reduced_size = max(8, size // _REDUCTION)
    weight: Any = cv2.resize(mask, (reduced_size, reduced_size), interpolation=cv2.INTER_AREA)
    ratio = (_smooth(scene, weight, reduced_size) + _OFFSET) / (_smooth(skin, weight, reduced_size) + _OFFSET)
    full_ratio: Any = cv2.resize(np.clip(ratio, _MIN_RATIO, _MAX_RATIO), (size, size), interpolation=cv2.INTER_LINEAR)
    return np.clip(skin * full_ratio + 0.5, 0, 255).astype(np.uint8)


def _smooth(image: Bytes, weight: Float32, reduced_size: int) -> Float32:
    reduced: Any = cv2.resize(image, (reduced_size, reduced_size), interpolation=cv2.INTER_AREA)
    weighted_sum: Any = cv2.GaussianBlur(reduced.astype(np.float32) * weight[..., None], (0, 0), _SIGMA * reduced_size)
    total_weight: Any = cv2.GaussianBlur(weight, (0, 0), _SIGMA * reduced_size)
    return weighted_sum / np.maximum(total_weight, 1e-3)[..., None]
