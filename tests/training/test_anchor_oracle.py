"""The oracle of an anchor: what is carried, what is left alone, and which frame becomes the anchor."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from training.evaluation.anchor_oracle import Space, anchor_of
from training.evaluation.restorers import psnr

SPACE = Space(256)


def scene(shift: int = 0, seed: int = 1) -> np.ndarray:
    """Fine texture on soft shapes, moved to the right: float32 192×176×3, 0..1."""
    noise = np.random.default_rng(seed).normal(0, 1, (240, 240, 3)).astype(np.float32)
    image = 0.5 + 0.06 * cv2.GaussianBlur(noise, (0, 0), 0.8) + 1.5 * cv2.GaussianBlur(noise, (0, 0), 12)
    return np.ascontiguousarray(image[20:212, 30 - shift : 206 - shift])


def test_the_high_band_of_a_moved_anchor_is_found() -> None:
    truth, base = scene(), cv2.GaussianBlur(scene(), (0, 0), 1.2)
    anchor = scene(shift=3)
    shown = SPACE.blended(base, anchor, SPACE.flow(truth, anchor))
    assert psnr(shown, truth, SPACE.mask) > psnr(base, truth, SPACE.mask) + 2


def test_an_anchor_of_something_else_is_left_alone() -> None:
    truth, base = scene(), cv2.GaussianBlur(scene(), (0, 0), 1.2)
    other = scene(seed=2)
    shown = SPACE.blended(base, other, SPACE.flow(truth, other))
    assert np.abs(shown - base).mean() < 0.002


def test_best_weights_never_lose() -> None:
    truth, base = scene(), cv2.GaussianBlur(scene(), (0, 0), 1.2)
    for change in (SPACE.high(base), SPACE.high(scene(seed=3))):
        best = SPACE.best(base, change, truth)
        assert psnr(best, truth, SPACE.mask) >= psnr(base, truth, SPACE.mask) - 0.01


@pytest.mark.parametrize(("far", "wanted"), [(0.0, 4), (9.0, 2)])
def test_the_anchor_is_the_sharpest_of_like_pose(far: float, wanted: int) -> None:
    points = np.zeros((10, 478, 2))
    points[4] += far
    assert anchor_of(9, points, [0, 0, 2, 1, 3, 0, 9, 9, 9, 9]) == wanted
