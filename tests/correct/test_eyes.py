"""Irises keep a part of their mean colour, whatever the engine thinks of it; their light and what makes them sharper is
corrected, and so is everything around."""

from __future__ import annotations

import numpy as np
import pytest

from rtface.correct import Shaping, TrackState, face_mask, irises, keep_eye_colour, luma_of, shape


@pytest.mark.parametrize("size", [256, 512])
def test_a_part_of_the_colour_goes_the_light_stays(size: int) -> None:
    d = np.zeros((3, size, size), np.float32)
    d[0], d[1], d[2] = -0.05, 0.0, 0.08  # the engine makes everything bluer
    before = d.copy()
    eyes = irises(size)
    keep_eye_colour(d, eyes)
    assert np.abs(luma_of(d) - luma_of(before)).max() < 1e-6
    for x, y, radius in eyes:
        middle = d[:, int(y), int(x)]
        assert 0.5 * 0.13 < np.ptp(middle) < 0.7 * 0.13
        far = d[:, int(y), int(x + 2.2 * radius)]
        assert np.array_equal(far, before[:, 0, 0])


def test_a_mesh_says_where_the_eyes_look() -> None:
    mesh = np.zeros((478, 2))
    mesh[468], mesh[469:473] = (100, 120), [(106, 120), (100, 114), (94, 120), (100, 126)]
    mesh[473], mesh[474:478] = (160, 118), [(165, 118), (160, 113), (155, 118), (160, 123)]
    assert np.allclose(irises(256, mesh), [[100, 120, 6], [160, 118, 5]])
    assert np.allclose(irises(256, mesh[:468]), irises(256))


def test_brown_eyes_do_not_turn_grey_through_the_whole_shape() -> None:
    size = 256
    c = np.full((3, size, size), 0.6, np.float32)
    eyes = irises(size)
    y, x = np.mgrid[:size, :size] + 0.5
    for ex, ey, radius in eyes:
        inside = np.hypot(x - ex, y - ey) < radius
        c[:, inside] = np.array([0.35, 0.2, 0.12], np.float32)[:, None]
    r = c.copy()
    for ex, ey, radius in eyes:
        inside = np.hypot(x - ex, y - ey) < radius
        r[:, inside] = 0.18  # darker, and grey
    d, _ = shape(r, c, face_mask(size), TrackState(), Shaping(grain="none", gate=False), time=0.0)
    for ex, ey, _ in eyes:
        was, now = c[:, int(ey), int(ex)], c[:, int(ey), int(ex)] + d[int(ey), int(ex)]
        assert now.mean() < was.mean() - 0.02
        assert now[0] - now[2] > 0.35 * (was[0] - was[2])


def test_irises_outside_the_crop_are_no_fault() -> None:
    d = np.ones((3, 64, 64), np.float32)
    keep_eye_colour(d, np.array([[-50.0, 10.0, 4.0], [63.5, 63.5, 4.0]]))
    assert np.isfinite(d).all()


def test_what_sharpens_an_iris_passes() -> None:
    size = 256
    d = np.zeros((3, size, size), np.float32)
    eyes = irises(size)
    y, x = np.mgrid[:size, :size]
    for ex, ey, radius in eyes:
        inside = np.hypot(x + 0.5 - ex, y + 0.5 - ey) < radius
        d[0, inside] = np.where((x + y)[inside] % 2 == 0, 0.05, -0.05)  # red against green, none on average
    before = d.copy()
    keep_eye_colour(d, eyes)
    assert np.abs(d - before).max() < 0.01
