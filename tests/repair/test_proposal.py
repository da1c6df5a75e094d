"""Proposed masks of damage, with a network that marks white pixels."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from rtface.frame import Float32
from rtface.repair.proposal import LONGEST, damage_mask, probability, propose


def white(tile: Float32) -> Float32:
    """Returns certain damage where a tile is white."""
    assert tile.shape == (1, 3, 512, 512) and tile.dtype == np.float32 and tile.max() <= 1
    return (tile.min(1, keepdims=True) > 0.9).astype(np.float32)


@pytest.mark.parametrize("size", [(40, 70), (512, 512), (513, 1200), (1100, 700)])
def test_tiles_cover_the_whole_picture(size: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    assert np.array_equal(probability(picture, white), picture.min(2) > 0.9 * 255)


@pytest.mark.parametrize("size", [(300, 400), (900, 1300), (1000, LONGEST)])
def test_a_crack_is_marked_and_a_speck_is_not(size: tuple[int, int]) -> None:
    picture = np.full((*size, 3), 90, np.uint8)
    cv2.line(picture, (20, 30), (size[1] - 30, 200), (255, 255, 255), 9)
    picture[250, 50] = 255
    mask, unsure = propose(picture, white)
    assert mask.dtype == np.uint8 and mask.shape == size
    crack = (picture[..., 0] == 255).astype(np.uint8)
    crack[250, 50] = 0
    assert (mask[crack > 0] == 255).mean() > 0.98
    assert not mask[cv2.dilate(crack, np.ones((15, 15), np.uint8)) == 0].any()
    assert unsure < 1e-3


def test_faint_parts_are_marked_beside_sure_ones_only() -> None:
    scores = np.zeros((60, 60), np.float32)
    scores[10, 5:50], scores[10, 20:40], scores[40, 5:50], scores[50:55, 5] = 0.42, 0.99, 0.42, 0.99
    mask, unsure = damage_mask(scores)
    assert mask[10, 5] == mask[10, 49] == 255
    assert not mask[35:].any()
    assert unsure == pytest.approx((45 + 5) / 3600)
