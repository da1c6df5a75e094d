"""Grain is taken out of a picture, and nothing of one without any."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from rtface.correct.degrain import grain_of, power_between


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
    before, given = (noisy(portrait, sigma, seed, grey=grey) for seed in (1, 2))
    grain = grain_of(given, power_between(given, before))
    assert grain is not None and grain.dtype == np.float32 and grain.shape == given.shape
    error, left = (float(np.sqrt(np.mean((image - portrait) ** 2))) for image in (given, given - 255 * grain))
    assert left < 0.8 * error


def test_a_sharp_face_that_stays_the_same_is_left_alone(face) -> None:
    """Its lashes and hair are no grain."""
    small = np.ascontiguousarray((255 * face(64)).transpose(1, 2, 0).clip(0, 255).astype(np.uint8))
    assert grain_of(small, power_between(small, small)) is None
    noise = power_between(noisy(small, 8.0, 1, grey=True), noisy(small, 8.0, 2, grey=True))
    assert noise > 4.0


def test_a_still_without_grain_is_left_alone(portrait: np.ndarray) -> None:
    assert grain_of(np.rint(portrait).astype(np.uint8)) is None
    assert grain_of(np.full((48, 64, 3), 90, np.uint8)) is None


def test_a_black_middle_beside_noise_has_none() -> None:
    """Its power is 0 but for the rounding of running sums, which may leave less than that."""
    picture = np.zeros((96, 128, 3), np.uint8)
    picture[:, :24] = np.random.default_rng(0).integers(0, 256, (96, 24, 3))
    assert grain_of(picture) is None


def test_lines_stay(portrait: np.ndarray) -> None:
    """An edge in the grain stays as sharp."""
    edge = np.where(np.arange(256)[None, :, None] < 128, 60.0, 190.0) * np.ones((256, 1, 3))
    grain = grain_of(noisy(edge, 8.0, 2, grey=True))
    assert grain is not None
    left = noisy(edge, 8.0, 2, grey=True) - 255 * grain
    step = left.mean(axis=(0, 2))
    assert step[130] - step[125] > 0.9 * 130
