"""Irises may fade, and never turn into another colour; their light and what makes them sharper is corrected, and so is
everything around."""

from __future__ import annotations

import numpy as np
import pytest

from rtface.correct import CorrectionState, ShapingOptions, irises
from rtface.correct.colour import luma_of
from rtface.correct.eyes import iris_means, irises_in, lost_colour, restore_iris_colour
from rtface.correct.mask import face_mask
from tests.correct.whole_crop import shape

BROWN = np.array([0.35, 0.2, 0.12], np.float32)


def keep_eye_colour(d: np.ndarray, c: np.ndarray, eyes: np.ndarray) -> np.ndarray:
    """Limits in place what a correction d takes of the irises' colour in c."""
    places = irises_in(eyes, (0, 0, d.shape[2], d.shape[1]))
    return restore_iris_colour(d, places, lost_colour(iris_means(c, places), iris_means(d, places)))


def chroma(rgb: np.ndarray) -> np.ndarray:
    return rgb - rgb @ np.array([0.299, 0.587, 0.114], np.float32)


@pytest.mark.parametrize("size", [256, 512])
def test_brown_eyes_do_not_turn_green_and_their_light_changes(size: int) -> None:
    c = np.repeat(BROWN, size * size).reshape(3, size, size)
    d = np.zeros_like(c)
    d[0], d[1], d[2] = -0.2, 0.0, 0.0  # the engine makes everything green
    before = d.copy()
    eyes = irises(size)
    keep_eye_colour(d, c, eyes)
    assert np.abs(luma_of(d) - luma_of(before)).max() < 1e-6
    own = chroma(BROWN)
    for x, y, radius in eyes:
        middle = chroma(c[:, int(y), int(x)] + d[:, int(y), int(x)])
        assert middle @ own == pytest.approx(0.6 * float(own @ own), rel=1e-3)
        far = d[:, int(y), int(x + 2.2 * radius)]
        assert np.array_equal(far, before[:, 0, 0])


@pytest.mark.parametrize("change", [(0.05, 0.02, 0.0), (-0.05, -0.05, -0.05), (-0.02, -0.01, 0.0)])
def test_what_keeps_the_colour_passes(change: tuple[float, float, float]) -> None:
    c = np.repeat(BROWN, 256 * 256).reshape(3, 256, 256)
    d = np.repeat(np.float32(change), 256 * 256).reshape(3, 256, 256)
    before = d.copy()
    assert np.array_equal(keep_eye_colour(d, c, irises(256)), before)


def test_a_mesh_says_where_the_eyes_look() -> None:
    mesh = np.zeros((478, 2))
    mesh[468], mesh[469:473] = (100, 120), [(106, 120), (100, 114), (94, 120), (100, 126)]
    mesh[473], mesh[474:478] = (160, 118), [(165, 118), (160, 113), (155, 118), (160, 123)]
    assert np.allclose(irises(256, mesh), [[100, 120, 6], [160, 118, 5]])
    assert np.allclose(irises(256, mesh[:468]), irises(256))


@pytest.mark.parametrize("known", [False, True], ids=["anybody", "known"])
def test_brown_eyes_turn_grey_only_by_learnt_weights(known: bool) -> None:
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
    options = ShapingOptions(grain="none", gate=False, known=known)
    d, _ = shape(r, c, face_mask(size), CorrectionState(), options, time=0.0)
    for ex, ey, _ in eyes:
        was, now = c[:, int(ey), int(ex)], c[:, int(ey), int(ex)] + d[int(ey), int(ex)]
        assert now.mean() < was.mean() - 0.02
        assert (now[0] - now[2] > 0.55 * (was[0] - was[2])) is not known


def test_irises_outside_the_crop_are_no_fault() -> None:
    d = np.ones((3, 64, 64), np.float32)
    keep_eye_colour(d, d, np.array([[-50.0, 10.0, 4.0], [63.5, 63.5, 4.0]]))
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
    keep_eye_colour(d, np.full_like(d, 0.3), eyes)
    assert np.abs(d - before).max() < 0.01
