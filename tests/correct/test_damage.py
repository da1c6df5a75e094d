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
    from_before,
    from_other_half,
    grain_of,
    holes_of,
    painted,
    share_of,
)
from rtface.correct.motion import Motion
from rtface.correct.openings import Opening

FACE = face_mask(SIZE)


def crop() -> np.ndarray:
    """A face, float32 256×256×3, 0…1."""
    return np.ascontiguousarray(data.astronaut()[16:272, 96:352]).astype(np.float32) / 255


def belief(*spots: tuple[int, int, int, float]) -> np.ndarray:
    """Probabilities: squares of a side around x, y."""
    out = np.zeros((SIZE, SIZE), np.float32)
    for x, y, side, value in spots:
        out[y:y + side, x:x + side] = value
    return out


def test_doubtful_pixels_count_next_to_sure_ones_only() -> None:
    sure, doubtful = FOUND + 0.05, AROUND + 0.05
    alone = holes_of(belief((120, 150, 8, doubtful)), FACE)
    joined = holes_of(belief((120, 150, 8, doubtful), (128, 150, 4, sure)), FACE)
    assert not alone.any()
    assert joined[150:158, 120:128].all()


@pytest.mark.parametrize("spot", [(5, 5, 10), (120, 150, 1)], ids=["outside the face", "too small"])
def test_what_is_left_as_it_is(spot: tuple[int, int, int]) -> None:
    assert not holes_of(belief((*spot, 1.0)), FACE).any()


def test_glints_are_left_and_scratches_across_an_eye_are_not() -> None:
    eye = Opening((24.0, 30.0), (1.0, 0.0), (5.0, 2.5), 0.3, lips=False)
    glint, scratch = belief((95, 118, 4, 1.0)), belief()
    scratch[95:150, 96:99] = 1.0
    assert holes_of(glint, FACE).any()
    assert not holes_of(glint, FACE, [eye]).any()
    assert holes_of(scratch, FACE, [eye])[120, 97]


def test_nothing_is_replaced_where_most_of_a_face_would_be() -> None:
    dots = np.zeros((SIZE, SIZE), np.float32)
    dots[::6, ::6] = dots[1::6, ::6] = dots[::6, 1::6] = dots[1::6, 1::6] = 1.0
    assert not holes_of(dots, FACE).any()
    hole = holes_of(belief((100, 130, 40, 1.0)), FACE)
    assert 0 < share_of(hole, FACE) < MOST


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


def symmetric() -> np.ndarray:
    """A face whose halves are alike, but for the light, which falls from one side."""
    half = crop()
    light = np.linspace(0.8, 1.0, SIZE, dtype=np.float32)[None, :, None]
    return (0.5 * (half + half[:, ::-1]) * light).astype(np.float32)


def test_other_half_comes_back_where_the_halves_are_alike() -> None:
    clean = symmetric()
    hole = np.zeros((SIZE, SIZE), np.uint8)
    cv2.circle(hole, (160, 100), 16, 1, -1)
    over = painted(np.where(hole[..., None] > 0, np.float32(1.0), clean), hole)
    inside = hole > 0
    plain = np.abs(over - clean)[inside].mean()
    assert np.abs(from_other_half(over, hole) - clean)[inside].mean() < 0.5 * plain
    assert np.array_equal(from_other_half(over, hole)[~inside], over[~inside])
    assert np.array_equal(from_other_half(over, hole, yaw=40.0), over)
    uneven = over.copy()
    uneven[:, :128] = np.random.default_rng(0).uniform(0, 1, (SIZE, 128, 3))
    assert np.allclose(from_other_half(uneven, hole)[inside], over[inside])
