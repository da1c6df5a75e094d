"""Proposes a mask of a photograph's damage, from a network's probabilities."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import cv2
import numpy as np

from rtface.frame import Bytes, Float32

Network = Callable[[Float32], Float32]
"""Maps a tile 1×3×512×512, 0…1, to the probability of damage 1×1×512×512."""

TILE, MARGIN = 512, 32
LONGEST = 2048
"""Larger photographs are examined at this length of their longer side."""
ENLARGED = 1024
"""Photographs whose longer side is at most this long are examined twice, also at twice the size."""
HIGH, LOW = 0.6, 0.3
"""Damage is marked where the probability exceeds ``LOW`` around places where it exceeds ``HIGH``."""
LEAST = 8
"""Marked areas have at least so many pixels, at the examined size."""


def _starts(length: int) -> list[int]:
    """Lists first rows of tiles, which overlap by two margins or more."""
    count = max(1, -(-(length - 2 * MARGIN) // (TILE - 2 * MARGIN)))
    return np.linspace(0, max(0, length - TILE), count).astype(int).tolist()


def probability(picture: Bytes, network: Network) -> Float32:
    """Computes the probability of damage of each pixel, H×W."""
    height, width = picture.shape[:2]
    result = np.zeros((height, width), np.float32)
    rows, columns = (np.pad(np.arange(n), (0, max(0, TILE - n)), "symmetric") for n in (height, width))
    for top, left in itertools.product(_starts(height), _starts(width)):
        tile = picture[rows[top : top + TILE, None], columns[left : left + TILE]]
        scores = network(np.ascontiguousarray(tile.transpose(2, 0, 1)[None], np.float32) / np.float32(255))[0, 0]
        y, x = MARGIN * (top > 0), MARGIN * (left > 0)
        place = result[top + y : top + TILE, left + x : left + TILE]
        place[:] = scores[y:, x:][: place.shape[0], : place.shape[1]]
    return result


def damage_mask(scores: Float32) -> tuple[Bytes, float]:
    """Marks damage, 0 or 255, from probabilities. Also returns the share of pixels of which it is unsure."""
    _, numbers, stats, _ = cv2.connectedComponentsWithStats((scores > LOW).astype(np.uint8))
    labels = np.asarray(numbers, np.int64)
    kept = np.bincount(labels[scores > HIGH], minlength=len(stats)) > 0
    kept &= stats[:, cv2.CC_STAT_AREA] >= LEAST
    kept[0] = False
    mask = kept[labels]
    unsure = float(((scores > LOW) & ~mask).mean())
    return np.asarray(cv2.dilate(mask.astype(np.uint8) * 255, np.ones((3, 3), np.uint8)), np.uint8), unsure


def propose(picture: Bytes, network: Network) -> tuple[Bytes, float]:
    """Proposes the damage of an RGB picture, at most `LONGEST` long: 255 where it is damaged.

    Also returns the share of pixels of which it is unsure.
    """
    scores, (height, width) = probability(picture, network), picture.shape[:2]
    if max(width, height) <= ENLARGED:
        twice = cv2.resize(picture, (2 * width, 2 * height), interpolation=cv2.INTER_CUBIC)
        finer = probability(np.asarray(twice, np.uint8), network)
        scores = np.maximum(scores, cv2.resize(finer, (width, height), interpolation=cv2.INTER_AREA))
    return damage_mask(scores)
