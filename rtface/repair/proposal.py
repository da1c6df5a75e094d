"""Proposes a mask of the damage in a photograph, from a network's probabilities."""

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
        found = network(np.ascontiguousarray(tile.transpose(2, 0, 1)[None], np.float32) / np.float32(255))[0, 0]
        y, x = MARGIN * (top > 0), MARGIN * (left > 0)
        place = result[top + y : top + TILE, left + x : left + TILE]
        place[:] = found[y:, x:][: place.shape[0], : place.shape[1]]
    return result


def damage_mask(found: Float32) -> tuple[Bytes, float]:
    """Marks damage, 0 or 255, from probabilities. Also returns the share of pixels of which it is unsure."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats((found > LOW).astype(np.uint8))
    kept = np.bincount(labels[found > HIGH], minlength=len(stats)) > 0
    kept &= stats[:, cv2.CC_STAT_AREA] >= LEAST
    kept[0] = False
    mask = kept[labels]
    unsure = float(((found > LOW) & ~mask).mean())
    return cv2.dilate(mask.astype(np.uint8) * 255, np.ones((3, 3), np.uint8)), unsure


def propose(picture: Bytes, network: Network) -> tuple[Bytes, float]:
    """Proposes the damage of an RGB photograph: 255 where it is damaged. Also returns the share of unsure pixels."""
    height, width = picture.shape[:2]
    scale = min(1.0, LONGEST / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    seen = cv2.resize(picture, size, interpolation=cv2.INTER_AREA) if scale < 1 else picture
    found = probability(np.asarray(seen, np.uint8), network)
    if max(size) <= ENLARGED:
        twice = cv2.resize(picture, (2 * size[0], 2 * size[1]), interpolation=cv2.INTER_CUBIC)
        finer = cv2.resize(probability(np.asarray(twice, np.uint8), network), size, interpolation=cv2.INTER_AREA)
        found = np.maximum(found, finer)
    mask, unsure = damage_mask(found)
    if scale < 1:
        mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_LINEAR)
        cv2.threshold(mask, 127, 255, cv2.THRESH_BINARY, dst=mask)
    return np.asarray(mask, np.uint8), unsure
