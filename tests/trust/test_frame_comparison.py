"""A square in a coarse frame is never within an encoder's error."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from rtface.frame import Color, Display, Frame
from rtface.trust.check_result import CheckResult
from rtface.trust.frame_comparison import FrameComparison


def grey(samples: np.ndarray) -> Frame:
    """A frame of grey samples, 0…255."""
    image = av.VideoFrame.from_ndarray(np.clip(samples, 0, 255).astype(np.uint8), format="gray")
    return Frame(image=image, pts=0, time_base=Fraction(1, 25), color=Color(), display=Display())


@pytest.mark.parametrize("deviation", [0, 6, 12, 16])
def test_a_square_is_never_an_encoder_s_error(deviation: int) -> None:
    random = np.random.default_rng(1)
    old = 128 + 20 * np.sin(np.arange(320) / 9) * np.ones((240, 1))
    new = old + random.normal(0, deviation, old.shape)
    new[64:128, 64:128] += 45
    compared = FrameComparison({}, lossless=False)
    compared.frame(0, grey(new), grey(old))
    compared.end(checked := CheckResult())
    assert checked.problems or checked.gaps
