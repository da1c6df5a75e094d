"""Grain is taken out of a picture, and nothing of one without any."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from rtface.correct.degrain import grain_of


def noisy(picture: np.ndarray, sigma: float, seed: int, *, grey: bool) -> np.ndarray:
    """uint8 with correlated noise, the same in all channels or not."""
    noise = cv2.GaussianBlur(
        np.random.default_rng(seed).normal(0, 1, (*picture.shape[:2], 1 if grey else 3)), (0, 0), 0.9
    )
    noise = noise.reshape(*picture.shape[:2], -1)
    return np.clip(np.rint(picture + sigma * noise / noise.std()), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def portrait(face) -> np.ndarray:
    """The portrait as it looks in an old film: soft; float32 h×w×3, 0…255."""
    return np.ascontiguousarray(cv2.GaussianBlur(255 * face(256).transpose(1, 2, 0), (0, 0), 1.5))


@pytest.mark.parametrize("sigma", [6.0, 12.0])
@pytest.mark.parametrize("grey", [True, False])
def test_what_is_left_is_nearer_to_the_picture(portrait: np.ndarray, sigma: float, grey: bool) -> None:
    given = noisy(portrait, sigma, 1, grey=grey)
    grain = grain_of(given)
    assert grain is not None and grain.dtype == np.float32 and grain.shape == given.shape
    before, after = (float(np.sqrt(np.mean((image - portrait) ** 2))) for image in (given, given - 255 * grain))
    assert after < 0.6 * before


def test_a_picture_without_grain_is_left_alone(portrait: np.ndarray) -> None:
    assert grain_of(np.rint(portrait).astype(np.uint8)) is None
    assert grain_of(np.full((48, 64, 3), 90, np.uint8)) is None


def test_lines_stay(portrait: np.ndarray) -> None:
    """An edge beside which the grain is goes on being as sharp."""
    edge = np.where(np.arange(256)[None, :, None] < 128, 60.0, 190.0) * np.ones((256, 1, 3))
    grain = grain_of(noisy(edge, 8.0, 2, grey=True))
    assert grain is not None
    left = noisy(edge, 8.0, 2, grey=True) - 255 * grain
    step = left.mean(axis=(0, 2))
    assert step[130] - step[125] > 0.9 * 130
