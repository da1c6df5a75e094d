"""The filling of marked pixels: smooth, with the grain of the surroundings, and nowhere else."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from rtface.errors import UsageError
from rtface.frame import Color, Display, Frame
from rtface.media.stills.images import upright
from rtface.pipeline.repair import map_filled
from rtface.repair.grain import missing_grain
from rtface.repair.mask import boxes_of
from rtface.repair.repairer import Repairer
from rtface.repair.smooth_fill import smooth_fill
from rtface.tracking import NoTracker
from rtface.util.av_arrays import image_from_array
from tests.pipeline.fakes import frame_of


def repairer() -> Repairer:
    """A repairer that finds no face."""
    return Repairer(NoTracker())


def slope(height: int, width: int) -> np.ndarray:
    """A picture that a smooth filling restores exactly: float32 h×w×3, 0…1."""
    y, x = np.mgrid[:height, :width]
    return np.stack([0.2 + 0.5 * x / width, 0.3 + 0.4 * y / height, np.full(x.shape, 0.5)], -1).astype(np.float32)


def crossed(height: int, width: int, thick: int) -> np.ndarray:
    """A mask of two lines and an ellipse."""
    mask = np.zeros((height, width), np.uint8)
    cv2.line(mask, (0, height // 3), (width, height // 2), 255, thick)
    cv2.line(mask, (width // 3, 0), (width // 2, height), 255, thick)
    cv2.ellipse(mask, (3 * width // 4, 3 * height // 4), (width // 9, height // 12), 20, 0, 360, 255, -1)
    return mask


@pytest.mark.parametrize(("side", "thick"), [(90, 3), (400, 60), (600, 250)])
def test_a_slope_comes_back_under_holes_of_any_size(side: int, thick: int) -> None:
    truth, hole = slope(side, side + 37), crossed(side, side + 37, thick) > 0
    damaged = np.where(hole[..., None], np.float32(1), truth)
    filled = smooth_fill(damaged, hole)
    assert np.array_equal(filled[~hole], damaged[~hole])
    assert np.abs(filled - truth).max() < (0.02 if thick < 100 else 0.12)


def test_nothing_or_everything_marked_leaves_the_picture() -> None:
    picture = slope(20, 30)
    for hole in (np.zeros((20, 30), bool), np.ones((20, 30), bool)):
        assert smooth_fill(picture, hole) is picture


def test_holes_get_the_grain_that_surrounds_them() -> None:
    hole = crossed(300, 300, 12) > 0
    flat = np.full((300, 300), 100, np.float32)
    grainy = flat + np.random.default_rng(1).normal(0, 6, flat.shape).astype(np.float32)
    added = missing_grain(np.where(hole, 255, grainy).astype(np.float32), np.where(hole, flat, grainy), hole, 0)
    assert not added[~hole].any()
    assert 0.6 < added[hole].std() / 6 < 1.3
    assert abs(added[hole].mean()) < 1
    clean = missing_grain(np.where(hole, 255, flat).astype(np.float32), flat, hole, 0)
    assert np.abs(clean).max() < 0.1


@pytest.mark.parametrize("form", ["rgb24", "gray", "rgb48le", "yuv420p", "rgba"])
def test_only_marked_samples_of_any_format_change(form: str) -> None:
    mask = crossed(202, 304, 5)
    picture = np.rint(255 * slope(202, 304)).astype(np.uint8)
    picture[mask > 0] = 255
    frame = frame_of(picture, 0)
    frame = Frame(frame.image.reformat(format=form), 0, frame.time_base, color=frame.color)
    before = frame.image.to_ndarray().copy()
    filled = repairer().fill(frame, mask)
    assert filled is not None and np.array_equal(frame.image.to_ndarray(), before)  # the input is kept
    after, luma = filled.image.to_ndarray()[:202, :304], mask > 0
    before = before[:202, :304]
    assert np.array_equal(after[~luma], before[~luma])
    assert (np.abs(after[luma].astype(int) - before[luma]).reshape(luma.sum(), -1).max(1) > 0).mean() > 0.9
    if form == "rgba":
        assert np.array_equal(after[..., 3], before[..., 3])


def test_grey_mixes_and_a_region_limits() -> None:
    picture = np.full((64, 200, 3), 100, np.uint8)
    mask = np.zeros((64, 200), np.uint8)
    mask[20:30, 20:40], mask[20:30, 100:120], mask[20:30, 160:180] = 255, 128, 255
    picture[mask > 0] = 200
    whole, part = (repairer().fill(frame_of(picture, 0), mask, region) for region in (None, (0, 0, 130, 64)))
    assert whole is not None and part is not None
    a, b = (one.image.reformat(format="rgb24").to_ndarray().astype(int) for one in (whole, part))
    assert abs(a[25, 30] - 100).max() < 4 and abs(a[25, 110] - 150).max() < 4 and abs(a[25, 170] - 100).max() < 4
    assert np.array_equal(a[:, :130], b[:, :130]) and (b[20:30, 160:180] > 190).all()


def test_a_turned_still_is_filled_where_its_viewer_sees_the_mask() -> None:
    stored = np.rint(255 * slope(60, 90)).astype(np.uint8)
    frame = Frame(image_from_array(stored, "rgb"), 0, frame_of(stored, 0).time_base, display=Display(1, mirror=True))
    mask = np.zeros((90, 60), np.uint8)
    mask[10:14, 5:30] = 255
    filled = repairer().fill(frame, mask)
    assert filled is not None
    before, after = (upright(one).image.to_ndarray().astype(int) for one in (frame, filled))
    assert not np.abs(after - before)[mask == 0].any() and filled.image.width == 90


def test_large_scans_are_filled_in_tiles_without_seams() -> None:
    truth = np.rint(255 * slope(1700, 1500)).astype(np.uint8)
    mask = crossed(1700, 1500, 20)
    damaged = truth.copy()
    damaged[mask > 0] = 0
    frame = Frame(image_from_array(damaged, "rgb"), 0, frame_of(damaged, 0).time_base, color=Color("rgb", True))
    filled = repairer().fill(frame, mask)
    assert filled is not None
    error = np.abs(filled.image.to_ndarray().astype(int) - truth)
    assert error.max() <= 6


def test_a_white_mask_is_refused_and_a_black_one_does_nothing() -> None:
    frame = frame_of(np.full((20, 30, 3), 90, np.uint8), 0)
    with pytest.raises(UsageError, match="nothing is left to fill from"):
        repairer().fill(frame, np.full((20, 30), 255, np.uint8))
    assert repairer().fill(frame, np.zeros((20, 30), np.uint8)) is None


def test_the_map_shows_filled_samples_as_invented() -> None:
    mask = crossed(60, 80, 3)
    frame = replace(frame_of(np.zeros((120, 160, 3), np.uint8), 0), filled=mask, invented=None)
    shown = map_filled(frame).invented
    assert shown is not None and shown.shape == (120, 160)
    reach = np.repeat(np.repeat(cv2.dilate(mask, np.ones((13, 13), np.uint8)), 2, 0), 2, 1)  # of Lanczos and chroma
    assert (shown[reach > 0] == 255).all() and (shown == 0).mean() > 0.1


def test_boxes_contain_all_marked_pixels() -> None:
    mask = crossed(200, 403, 3)
    inside = np.zeros((400, 806), bool)
    for x0, y0, x1, y1 in boxes_of(mask, (2.0, 2.0)):
        inside[y0:y1, x0:x1] = True
    assert inside[np.repeat(np.repeat(mask > 0, 2, 0), 2, 1)].all() and not inside.all()
