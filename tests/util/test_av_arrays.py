"""Callers' pictures: what is refused says the fix; nothing of the caller's is written."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest

from rtface.errors import RtfaceError
from rtface.util.av_arrays import check_format, copy_image, image_from_array


@pytest.mark.parametrize("fmt", ["rgb", "bgr"])
def test_round_trip_is_exact_and_in_new_memory(fmt: Any) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (37, 106, 3), dtype=np.uint8)[::-1, ::2]
    image = image_from_array(picture, fmt)
    back = image.to_ndarray()
    assert np.array_equal(back, picture)
    assert not np.shares_memory(back, picture)


@pytest.mark.parametrize(
    ("picture", "fix"),
    [
        (np.zeros((4, 4, 3), np.float32), "255"),
        (np.zeros((4, 4, 3), np.uint16), ">> 8"),
        (np.zeros((4, 4), np.uint8), "repeat"),
        (np.zeros((2, 4, 4, 3), np.uint8), "transpose"),
        (np.zeros((0, 4, 3), np.uint8), "not empty"),
        ([[1]], "asarray"),
    ],
)
def test_refused_with_the_fix(picture: Any, fix: str) -> None:
    with pytest.raises(RtfaceError) as info:
        image_from_array(picture, "rgb")
    assert isinstance(info.value, ValueError)
    assert fix in str(info.value)
    assert "\n" not in str(info.value)


def test_unknown_format_names_both() -> None:
    with pytest.raises(ValueError, match=r'"rgb".*"bgr"'):
        check_format("rgba")


@pytest.mark.parametrize("fmt", ["yuv422p10le", "nv12", "rgb24"])
def test_a_copied_image_has_its_own_equal_samples_and_tags(fmt: str) -> None:
    image = av.VideoFrame(50, 34, fmt)
    for k, plane in enumerate(image.planes):
        np.frombuffer(plane, np.uint8)[:] = 3 + k
    image.pts, image.time_base, image.colorspace = 5, Fraction(1, 30), 1
    copy = copy_image(image)
    assert (copy.format.name, copy.pts, copy.time_base, copy.colorspace) == (fmt, 5, Fraction(1, 30), 1)
    for k, (a, b) in enumerate(zip(image.planes, copy.planes, strict=True)):
        assert a.buffer_ptr != b.buffer_ptr
        assert (np.frombuffer(b, np.uint8)[: b.width] == 3 + k).all()
