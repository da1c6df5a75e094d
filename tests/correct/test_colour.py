"""The colour lock is exactly the operation that training uses; the exposure curve is smooth."""

import cv2
import numpy as np
import pytest

from rtface.correct import ExposureCurve, cells_of, lock_colour, low_frequencies, luma_of
from rtface.correct.colour import CHROMA_LIMIT, LUMA_LIMIT, chroma_limit

LUMA = np.array([0.299, 0.587, 0.114])


def reference(d: np.ndarray) -> np.ndarray:
    """The definition step by step, in float64: luma and chroma apart, explicit Gaussian taps, half-pixel bilinear."""
    size = d.shape[1]
    taps = np.exp(-np.arange(-2, 3) ** 2 / 2.0)
    taps /= taps.sum()

    def low(z):
        cells = z.reshape(32, size // 32, 32, size // 32).mean(axis=(1, 3))
        for axis in (0, 1):
            padded = np.pad(cells, [(2, 2) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
            cells = sum(t * np.take(padded, np.arange(k, k + 32), axis=axis) for k, t in enumerate(taps))
        return cells

    def up(cells):
        at = np.clip((np.arange(size) + 0.5) * 32 / size - 0.5, 0, 31)
        i = np.minimum(at.astype(int), 30)
        f = at - i
        across = cells[:, i] * (1 - f) + cells[:, i + 1] * f
        return across[i] * (1 - f[:, None]) + across[i + 1] * f[:, None]

    y = np.tensordot(LUMA, d, 1)
    chroma = [d[k] - y for k in range(3)]
    below = np.stack([low(z) for z in chroma])
    most = np.abs(below).max(0)
    gone = below * (1 - np.tanh(most / CHROMA_LIMIT) / (most / CHROMA_LIMIT))
    chroma = [z - up(g) for z, g in zip(chroma, gone, strict=True)]
    y = y - up(low(y) - LUMA_LIMIT * np.tanh(low(y) / LUMA_LIMIT))
    return np.stack([z + y for z in chroma])


@pytest.mark.parametrize("size", [256, 512])
def test_lock_is_the_shared_definition(size):
    rng = np.random.default_rng(size)
    d = cv2.GaussianBlur(rng.normal(0, 1, (size, size, 3)), (0, 0), 3).transpose(2, 0, 1)
    d = d * 0.3 + rng.normal(0, 0.02, (3, 1, 1))
    got = lock_colour(d.astype(np.float32).copy())
    np.testing.assert_allclose(got, reference(d), atol=2e-6)


def test_lock_in_a_box_is_the_lock_of_the_whole():
    d = np.random.default_rng(0).normal(0, 0.1, (3, 128, 128)).astype(np.float32)
    whole = lock_colour(d.copy())
    part = lock_colour(d.copy(), low_frequencies(d), (30, 20, 100, 90))
    np.testing.assert_array_equal(part[:, 20:90, 30:100], whole[:, 20:90, 30:100])
    np.testing.assert_array_equal(part[:, :20], d[:, :20])


def test_colour_shift_is_below_one_code_and_luma_limited():
    d = np.zeros((3, 256, 256), np.float32)
    d[0] += 0.2
    d[1] -= 0.05
    locked = lock_colour(d)
    luma = np.tensordot(LUMA, locked, 1)
    assert 0.5 / 255 < np.abs(locked - luma).max() < CHROMA_LIMIT + 1e-6
    assert 0.0 < luma.mean() <= LUMA_LIMIT


def test_chroma_moves_less_than_one_code_on_a_face(face):
    """A restorer that warms, brightens and sharpens: mean chroma over the face stays within 1/255."""
    c = face(256)
    r = c + 1.5 * (c - np.stack([cv2.GaussianBlur(p, (0, 0), 2) for p in c]))
    r[0] += 0.06
    r[2] -= 0.05
    d = lock_colour((r - c).astype(np.float32))
    chroma = d - np.tensordot(LUMA, d, 1)
    inside = chroma[:, 70:210, 75:180]
    assert np.abs(inside.mean(axis=(1, 2))).max() < 1 / 255
    assert d[:, 70:210, 75:180].std() > 2 / 255, "the sharpening itself has to stay"


def test_a_grey_picture_stays_grey(face):
    grey = np.repeat(np.tensordot(LUMA, face(256), 1)[None], 3, 0).astype(np.float32)
    assert chroma_limit(grey) < 1e-6 and chroma_limit(face(256)) == CHROMA_LIMIT
    d = lock_colour(np.full((3, 256, 256), 0.02, np.float32) * np.float32([[[1]], [[0]], [[-1]]]),
                    chroma=chroma_limit(grey))
    assert np.ptp(d, axis=0).max() < 1e-6


def test_exposure_curve_is_one_line_and_smooth_in_time():
    rng = np.random.default_rng(0)
    c = rng.random((3, 32, 32)).astype(np.float32) * 0.4 + 0.2
    weight = np.ones((32, 32), np.float32)
    curve = ExposureCurve(seconds=1.0)
    first = curve.update(c, (1.3 * c - 0.1).astype(np.float32), weight, 0.0)
    np.testing.assert_allclose(first[0], 1.3, atol=0.04)
    np.testing.assert_allclose(first[1], -0.1, atol=0.02)
    jump = curve.update(c, (0.8 * c).astype(np.float32), weight, 0.04)
    assert np.abs(jump - first).max() < 0.03
    later = jump
    for k in range(1, 100):
        later = curve.update(c, (0.8 * c).astype(np.float32), weight, 0.04 + 0.1 * k)
    np.testing.assert_allclose(later[0], 0.8, atol=0.04)


def test_restore_keeps_the_mean_chroma_and_bounds_the_mean_luma(face):
    """A toned print whose answer is warmer and much lighter: the face must not leave the tint of what is around it."""
    toned = (0.5 * luma_of(face(32))[None] * np.array([1.0, 0.95, 0.8])[:, None, None]).astype(np.float32)
    answer = np.clip(1.5 * toned + np.array([0.2, 0.05, 0.0])[:, None, None], 0, 1).astype(np.float32)
    gain, offset = ExposureCurve().update(toned, answer, np.ones((32, 32), np.float32), 0.0, toned)
    moved = (gain * toned.mean(axis=(1, 2)) + offset) - toned.mean(axis=(1, 2))
    assert np.ptp(moved) < 1e-6
    assert abs(moved[0]) <= 10 / 255 + 1e-6


@pytest.mark.parametrize(("answer", "around", "moves"), [(0.9, 0.8, 1), (0.9, 0.2, 0), (0.1, 0.8, 0), (0.1, 0.2, -1)])
def test_restore_moves_the_face_only_towards_what_is_around_it(answer, around, moves):
    c = np.full((3, 32, 32), around, np.float32)
    c[:, 8:24, 8:24] = 0.5
    weight = np.zeros((32, 32), np.float32)
    weight[8:24, 8:24] = 1.0
    gain, offset = ExposureCurve().update(c, np.where(weight > 0, np.float32(answer), c), weight, 0.0)
    assert np.sign(np.round(gain[0] * 0.5 + offset[0] - 0.5, 6)) == moves


@pytest.mark.parametrize(("low", "high", "changed"), [(0.25, 0.7, True), (0.1, 0.45, True), (0.04, 0.9, False)])
def test_restore_stretches_the_levels_of_a_faded_or_dark_crop(low, high, changed):
    """An engine that leaves the tone alone; the levels are those of the whole crop."""
    grey = np.linspace(low, high, 64 * 64, dtype=np.float32).reshape(1, 64, 64).repeat(3, axis=0)
    small, weight = cells_of(grey, 32), np.ones((32, 32), np.float32)
    gain, offset = ExposureCurve().update(small, small, weight, 0.0, grey)
    assert np.ptp(gain) < 1e-6 > np.ptp(offset), "grey stays grey"
    black, white = gain * low + offset, gain * high + offset
    if changed:
        assert (gain > 1.1).all() and (gain <= 1.6).all()
        assert (black < low - 0.01).all() and (black > 0.02).all() and (white > high - 0.04).all()
    else:
        np.testing.assert_allclose([black, white], [[low] * 3, [high] * 3], atol=0.01)


def test_restore_leaves_a_dark_face_in_good_light(face):
    """A dark face next to a white shirt is well exposed."""
    c = 0.5 * face(256)
    c[:, :8], c[:, 240:] = 0.02, 0.95
    small = cells_of(c, 32)
    gain, offset = ExposureCurve().update(small, small, np.ones((32, 32), np.float32), 0.0,
                                          np.ascontiguousarray(c[:, ::4, ::4]))
    np.testing.assert_allclose(gain, 1.0, atol=0.02)
    np.testing.assert_allclose(offset, 0.0, atol=0.02)
