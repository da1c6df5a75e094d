"""The frame that viewers see while the source is away."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from rtface.frame import Color
from rtface.live.protocols import VideoFormat
from rtface.live.slate import slate


@pytest.mark.parametrize("size", [(320, 180), (180, 320), (1920, 1080)])
def test_words_stand_in_the_middle(size: tuple[int, int]):
    width, height = size
    image = slate(VideoFormat(width, height, "yuv420p", Fraction(30), Color("bt709")))
    assert (image.width, image.height, image.format.name) == (width, height, "yuv420p")
    rows, columns = np.nonzero(image.to_ndarray(format="rgb24").max(2) > 120)
    assert abs(rows.min() + rows.max() - height) < 0.14 * height
    assert abs(columns.min() + columns.max() - width) < 0.05 * width and columns.min() > 0.03 * width
