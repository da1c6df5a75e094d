"""Damage on a crop: which pixels are replaced, and by what."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from skimage import data

from rtface.correct import face_mask
from rtface.correct.damage import (
    AROUND,
    FOUND,
    MOST,
    SIZE,
    enlarged_hole,
    features_of,
    from_before,
    grain_of,
    holes_of,
    painted,
    share_of,
)
from rtface.correct.motion import Motion

FACE = face_mask(SIZE)


def crop() -> np.ndarray:
    """A face, float32 256×256×3, 0…1."""
    return np.ascontiguousarray(data.astronaut()[16:272, 96:352]).astype(np.float32) / 255


def belief(*spots: tuple[int, int, int, float]) -> np.ndarray:
    """Probabilities: squares of a side around x, y."""
    out = np.zeros((SIZE, SIZE), np.float32)
    for x, y, side, value in spots:
        out[y : y + side, x : x + side] = value
    return out


FLAT = np.full((SIZE, SIZE), 0.4, np.float32)
FEATURES = features_of(None, SIZE)


def holes(found: np.ndarray, *, light: float = 0.9) -> np.ndarray:
    """Holes on a plain face, on which what was found has a luma."""
    return holes_of(found, FACE, np.where(found > 0, np.float32(light), FLAT), FEATURES)


def test_doubtful_pixels_count_next_to_sure_ones_only() -> None:
    sure, doubtful = FOUND + 0.05, AROUND + 0.05
    assert not holes(belief((72, 165, 8, doubtful))).any()
    assert holes(belief((72, 165, 8, doubtful), (80, 165, 4, sure)))[165:173, 72:80].all()


@pytest.mark.parametrize(("spots", "light"), [
    ([(5, 5, 10)], 0.9), ([(72, 165, 1)], 0.9), ([(70, 150, 24)], 0.9), ([(95, 118, 4)], 0.9), ([(126, 178, 6)], 0.9),
    ([(72, 165, 8)], 0.42), ([(72, 165, 8)], 0.1), ([(20 + 4 * k, 165, 4) for k in range(20)], 0.9),
    ([(x, y, 6) for x in (66, 77, 176, 187) for y in (148, 159, 170)], 0.9),
], ids=["outside the face", "too small", "large", "an eye", "the mouth", "not lighter", "dark", "across the border",
        "all over"])  # fmt: skip
def test_what_is_left_as_it_is(spots: list[tuple[int, int, int]], light: float) -> None:
    assert not holes(belief(*((*spot, 1.0) for spot in spots)), light=light).any()
    assert 0 < share_of(holes(belief((72, 165, 8, 1.0))), FACE) < MOST


def test_paint_reaches_the_hole_only() -> None:
    clean = crop()
    hole = np.zeros((SIZE, SIZE), np.uint8)
    cv2.line(hole, (90, 120), (170, 200), 1, 3)
    scratched = np.where(hole[..., None] > 0, np.float32(1.0), clean)
    out = painted(scratched, hole)
    assert np.array_equal(out[hole == 0], scratched[hole == 0])
    assert np.abs(out - clean)[hole > 0].mean() < 0.2 * np.abs(scratched - clean)[hole > 0].mean()


def test_frame_before_shows_what_dust_hides() -> None:
    before = crop()
    now = np.roll(before, 2, axis=1)
    hole = np.zeros((SIZE, SIZE), np.uint8)
    cv2.circle(hole, (108, 105), 9, 1, -1)
    over = painted(now, hole)
    inside = hole > 0
    motion = np.abs(from_before(over, hole, before, Motion()) - now)[inside].mean()
    assert motion < 0.5 * np.abs(over - now)[inside].mean()
    other = from_before(over, hole, 1 - before, Motion())
    assert np.allclose(other, over, atol=1e-3)


def test_grain_is_as_strong_as_around_the_hole() -> None:
    r, flat = np.random.default_rng(1), np.full((SIZE, SIZE, 3), 0.5, np.float32)
    hole = np.zeros((SIZE, SIZE), np.uint8)
    hole[130:190, 100:160] = 1
    noise = r.normal(0, 0.03, (SIZE, SIZE, 1)).astype(np.float32)
    grain = grain_of(flat + noise, hole, FACE, 1.0, (3, 5))
    assert 0.02 < grain[140:180, 110:150].std() < 0.04
    assert not grain[hole == 0].any()
    assert not grain_of(flat, hole, FACE, 1.0, (3, 5)).any()


def test_hole_of_a_larger_crop_covers_that_of_the_smaller() -> None:
    hole = np.zeros((SIZE, SIZE), np.uint8)
    hole[100:103, 60:200] = 1
    large = enlarged_hole(hole, 2 * SIZE)
    assert large[200:206, 120:400].all()
    assert large.sum() < 8 * hole.sum()
