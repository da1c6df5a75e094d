"""A synthetic dot through every combination of turn, mirror, aspect, subsampling, siting and field."""

from fractions import Fraction

import cv2
import numpy as np
import pytest

from rtface.frame import Display
from rtface.geometry.transforms import (
    apply,
    chroma_from_luma,
    compose,
    display_size,
    footprint,
    invert,
    plane_matrix,
    sample_to_display,
    scaling,
    to_cv2,
    translation,
)
from tests.pairs import pairs

DOT = np.array([41.3, 58.9])  # display space


def upright_dot(width: int, height: int) -> np.ndarray:
    x, y = np.arange(width) + 0.5, np.arange(height) + 0.5
    return np.exp(-((x[None] - DOT[0]) ** 2 + (y[:, None] - DOT[1]) ** 2) / (2 * 5.0**2))


def centroid(plane: np.ndarray) -> np.ndarray:
    x, y = np.arange(plane.shape[1]) + 0.5, np.arange(plane.shape[0]) + 0.5
    return np.array([(plane * x[None]).sum(), (plane * y[:, None]).sum()]) / plane.sum()


def subsample(plane: np.ndarray, factor: int, axis: int, *, cosited: bool) -> np.ndarray:
    """Chroma by explicit taps: symmetric about luma sample factor·i, or the mean of each group of `factor`."""
    plane = np.moveaxis(plane, axis, 0)
    if factor > 1 and cosited:
        taps = np.convolve(np.ones(factor), np.ones(factor)) / factor**2
        pad = np.pad(plane, [(factor - 1, factor - 1), (0, 0)])
        plane = sum(t * pad[k : k + len(plane)] for k, t in enumerate(taps))[::factor]
    elif factor > 1:
        plane = plane.reshape(-1, factor, plane.shape[1]).mean(axis=1)
    return np.moveaxis(plane, 0, axis)


def stored(display: Display, upright: np.ndarray) -> np.ndarray:
    """What is stored so that aspect, clockwise turns and mirror show `upright`."""
    picture = upright[:, ::-1] if display.mirror else upright
    picture = np.rot90(picture, display.quarter_turns)
    width = picture.shape[1] / display.aspect
    assert width.denominator == 1
    return cv2.resize(np.ascontiguousarray(picture), (int(width), picture.shape[0]), interpolation=cv2.INTER_AREA)


TURNED = [(turns, mirror) for turns in range(4) for mirror in (False, True)]
STRETCHED = pairs(
    [(1, 1), (2, 1), (2, 2), (4, 1), (1, 2), (4, 4)],
    [Fraction(1), Fraction(2), Fraction(4, 3), Fraction(1, 2)],
    [(2, 2)],
)


@pytest.mark.parametrize(("stretched", "turned"), pairs(STRETCHED, TURNED, [((2, 2), Fraction(4, 3))]), ids=str)
def test_dot_lands_where_plane_matrix_says(stretched, turned):
    (subsampling, aspect), (turns, mirror) = stretched, turned
    for fields in ("progressive", "tff", "bff"):
        display = Display(turns, mirror, aspect, fields)
        luma = stored(display, upright_dot(128, 96))
        assert display_size(luma.shape[1], luma.shape[0], display) == (128, 96)
        for siting in ("left", "center", "topleft"):
            plane = subsample(luma, subsampling[0], 1, cosited=siting != "center")
            plane = subsample(plane, subsampling[1], 0, cosited=siting == "topleft")
            for field in (None,) if fields == "progressive" else (None, 0, 1):
                seen = plane
                if field is not None:
                    top_first = fields == "tff"
                    seen = plane[(0 if field == 0 else 1) if top_first else (1 if field == 0 else 0) :: 2]
                matrix = plane_matrix(
                    (luma.shape[1], luma.shape[0]), display, subsampling=subsampling, siting=siting, field=field
                )
                # A dot of sigma 5 is sampled finely enough everywhere but in 4-fold subsampled fields.
                np.testing.assert_allclose(
                    apply(matrix, DOT), centroid(seen), atol=0.02, err_msg=f"{display} {siting} {field}"
                )


def test_interlaced_420_chroma_is_a_quarter_field_row_from_luma():
    # MPEG-2: chroma of the top field lies 1/4 of a field row below luma row 0 of that field, of the bottom field 3/4.
    for parity, offset in ((0, 0.25), (1, 0.75)):
        display = Display(fields="tff")
        to_luma = plane_matrix((64, 64), display, field=parity)
        to_chroma = plane_matrix((64, 64), display, subsampling=(2, 2), siting="left", field=parity)
        first_chroma_row = apply(compose(to_luma, invert(to_chroma)), np.array([0.5, 0.5]))
        assert first_chroma_row[1] - 0.5 == pytest.approx(offset)


def test_turns_are_clockwise_and_come_before_the_mirror():
    # The stored top-left corner of a 4×3 picture: one clockwise turn brings it to the top right, the mirror back left.
    corner = np.array([0.0, 0.0])
    np.testing.assert_allclose(apply(sample_to_display(4, 3, Display(1)), corner), (3, 0))
    np.testing.assert_allclose(apply(sample_to_display(4, 3, Display(1, mirror=True)), corner), (0, 0))
    np.testing.assert_allclose(apply(sample_to_display(4, 3, Display(2)), corner), (4, 3))
    np.testing.assert_allclose(apply(sample_to_display(4, 3, Display(3)), corner), (0, 4))


def test_cv2_convention_is_the_same_map():
    image = upright_dot(128, 96).astype(np.float32)
    matrix = compose(translation(7.25, -3.5), scaling(0.8, 0.8), np.array([(0.96, -0.28, 12.0), (0.28, 0.96, 4.0)]))
    warped = cv2.warpAffine(image, to_cv2(matrix), (128, 128))
    np.testing.assert_allclose(centroid(warped.astype(np.float64)), apply(matrix, DOT), atol=0.02)


def test_the_footprint_does_not_depend_on_the_rotation():
    for angle in np.linspace(0.0, 6.0, 7):
        c, s = 0.4 * np.cos(angle), 0.4 * np.sin(angle)
        assert footprint(invert(np.array([(c, -s, 1.0), (s, c, 2.0)]))) == pytest.approx((2.5, 2.5))
    assert footprint(invert(chroma_from_luma(2, 1, "left"))) == pytest.approx((2.0, 1.0))
