"""The gated average: calmer where nothing moves, no ghost where something does."""

import cv2
import numpy as np
import pytest

from rtface.correct.motion import dense_flow
from rtface.correct.temporal import TemporalAverage

SIZE, RATE = 256, 25.0
EYE = (slice(None), slice(100, 132), slice(70, 120))


def noisy(picture: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    return (picture + rng.normal(0, sigma, picture.shape)).astype(np.float32)


def test_a_blink_is_shown_at_once(face):
    """The eye closes within a frame: the frame shows it closed, and open again when it opens."""
    rng = np.random.default_rng(0)
    average = TemporalAverage()
    open_eye = face(SIZE)
    closed = open_eye.copy()
    closed[EYE] = cv2.GaussianBlur(closed[EYE].transpose(1, 2, 0), (0, 0), 12).transpose(2, 0, 1)
    change = np.abs(closed - open_eye)[EYE]
    for k in range(20):
        true = closed if 10 <= k < 14 else open_eye
        out = average.update(true.copy(), noisy(true, 0.01, rng), k / RATE)
        ghost = np.abs(out - true)[EYE]
        strong = change > 0.1
        assert ghost[strong].mean() < 0.08 * change[strong].mean(), f"frame {k}"


@pytest.mark.parametrize("speed", [0.25, 1.0, 4.0])
def test_a_moving_pattern_is_not_smeared(speed):
    """Texture sliding over the crop at any speed stays within a fraction of its contrast of the truth."""
    rng = np.random.default_rng(1)
    texture = cv2.GaussianBlur(rng.random((SIZE, SIZE + 200)).astype(np.float32), (0, 0), 2.5)
    texture = 0.5 + (texture - texture.mean()) / texture.std() * 0.12
    average = TemporalAverage()
    worst = 0.0
    for k in range(24):
        shift = np.array([(1.0, 0.0, -k * speed), (0.0, 1.0, 0.0)])
        plane = cv2.warpAffine(texture, shift, (SIZE, SIZE), flags=cv2.INTER_CUBIC)
        true = np.repeat(plane[None], 3, axis=0)
        out = average.update(true.copy(), noisy(true, 0.008, rng), k / RATE)
        if k:
            worst = max(worst, float(np.sqrt(np.mean((out - true)[:, 20:-20, 20:-20] ** 2))))
    assert worst < 0.25 * 0.12


def test_cuts_and_gaps_start_anew(face):
    average = TemporalAverage()
    first, second = face(SIZE).copy(), 1.0 - face(SIZE)
    average.update(first, first, 0.0)
    np.testing.assert_array_equal(average.update(second, first, 0.6), second)  # gap
    average.reset()
    np.testing.assert_array_equal(average.update(first, first, 0.64), first)  # cut
    np.testing.assert_array_equal(average.update(second, second, 0.1), second)  # time ran back
    small = np.zeros((3, 64, 64), np.float32)
    np.testing.assert_array_equal(average.update(small, small, 0.14), small)  # another engine


def test_longer_pauses_between_frames_average_less(face):
    c = face(SIZE)
    share = []
    for elapsed in (0.02, 0.2):
        average = TemporalAverage()
        average.update(np.zeros_like(c), c, 0.0)
        share.append(float(1.0 - average.update(np.ones_like(c), c, elapsed).mean()))
    assert share[0] == pytest.approx(np.exp(-0.02 / 0.12), abs=0.02)
    assert share[1] == pytest.approx(np.exp(-0.2 / 0.12), abs=0.02)


def test_flicker_goes_down_on_a_moving_face_too(face):
    """The face turns by a pixel a frame: the average follows it instead of giving up."""
    rng = np.random.default_rng(0)
    average = TemporalAverage()
    before, after = [], []
    for k in range(24):
        x = np.arange(SIZE, dtype=np.float32)
        slide = np.tile(x - 1.0 * k + 12 + 2 * np.sin(x / 40), (SIZE, 1)).astype(np.float32)
        rows = np.repeat(x[:, None], SIZE, axis=1)
        true = np.stack(
            [cv2.remap(p, slide, rows, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE) for p in face(SIZE)]
        )
        flicker = cv2.GaussianBlur(rng.normal(0, 0.12, (SIZE, SIZE, 3)), (0, 0), 2).transpose(2, 0, 1)
        out = average.update((true + flicker).astype(np.float32), noisy(true, 0.004, rng), k / RATE)
        if k > 8:
            inner = (slice(None), slice(60, 220), slice(60, 200))
            before.append(float(np.abs(flicker[inner]).mean()))
            after.append(float(np.abs(out - true)[inner].mean()))
    assert np.mean(after) < 0.87 * np.mean(before)


@pytest.mark.parametrize("size", [64, 80])
def test_flow_depends_on_its_two_pictures_alone(size: int) -> None:
    rng = np.random.default_rng(0)
    pairs = [rng.integers(0, 256, (2, size, size), np.uint8) for _ in range(3)]
    alone = dense_flow(*pairs[0])
    for pair in pairs[1:]:
        dense_flow(*pair)
    np.testing.assert_array_equal(dense_flow(*pairs[0]), alone)
