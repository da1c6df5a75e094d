"""Proposes masks of the damage in photographs, from a network's probabilities."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import cv2
import numpy as np

from rtface.frame import Bytes, Float32

Network = Callable[[Float32], Float32]
"""Maps a tile 1×3×512×512, 0…1, to the probability of damage 1×1×512×512."""

LONGEST = 2048
"""Larger photographs are examined at this length of their longer side."""
_TILE, _MARGIN = 512, 32
_SMALL = 512  # photographs whose shorter side is shorter are also examined at twice the size, others at half
_HIGH, _LOW = 0.55, 0.35  # damage is marked where the probability exceeds LOW around places where it exceeds HIGH
_MEAN = 0.6  # least mean probability of a marked area: clothes, hands and objects have less
_WIDER = 5  # side of the square by which marks are widened, because damage has soft edges
_SURE, _LEAST = 4, 10  # least number of pixels of a marked area that exceed HIGH, and LOW


def _starts(length: int) -> list[int]:
    """Lists first rows of tiles, which overlap by two margins or more."""
    count = max(1, -(-(length - 2 * _MARGIN) // (_TILE - 2 * _MARGIN)))
    return np.linspace(0, max(0, length - _TILE), count).astype(int).tolist()


def probability(picture: Bytes, network: Network) -> Float32:
    """Computes the probability of damage of each pixel, H×W."""
    height, width = picture.shape[:2]
    result = np.zeros((height, width), np.float32)
    rows, columns = (np.pad(np.arange(n), (0, max(0, _TILE - n)), "symmetric") for n in (height, width))
    for top, left in itertools.product(_starts(height), _starts(width)):
        tile = picture[rows[top : top + _TILE, None], columns[left : left + _TILE]]
        scores = network(np.ascontiguousarray(tile.transpose(2, 0, 1)[None], np.float32) / np.float32(255))[0, 0]
        y, x = _MARGIN * (top > 0), _MARGIN * (left > 0)
        place = result[top + y : top + _TILE, left + x : left + _TILE]
        place[:] = scores[y:, x:][: place.shape[0], : place.shape[1]]
    return result


def damage_mask(scores: Float32) -> tuple[Bytes, float]:
    """Marks damage, 0 or 255, from probabilities. Also returns the share of unsure pixels."""
    _, components, stats, _ = cv2.connectedComponentsWithStats((scores > _LOW).astype(np.uint8))
    labels = np.asarray(components, np.int32)
    kept = np.bincount(labels[scores > _HIGH], minlength=len(stats)) >= _SURE
    areas = stats[:, cv2.CC_STAT_AREA]
    kept &= (areas >= _LEAST) & (np.bincount(labels.ravel(), scores.ravel()) / areas > _MEAN)
    kept[0] = False
    mask = kept[labels]
    unsure = float(((scores > _LOW) & ~mask).mean())
    return np.asarray(cv2.dilate(mask.astype(np.uint8) * 255, np.ones((_WIDER, _WIDER), np.uint8)), np.uint8), unsure


def propose(picture: Bytes, network: Network) -> tuple[Bytes, float]:
    """Marks the damage of an RGB photograph, at most `LONGEST` long. Also returns the share of unsure pixels.

    The mask, H×W, is 255 where the photograph is damaged, else 0. Probabilities of two sizes are averaged.
    """
    other = probability(_resized(picture, 2 if min(picture.shape[:2]) < _SMALL else 0.5), network)
    larger = cv2.resize(other, picture.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return damage_mask(np.asarray((probability(picture, network) + larger) / 2, np.float32))


def _resized(picture: Bytes, scale: float) -> Bytes:
    size = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, size, interpolation=interpolation), np.uint8)
