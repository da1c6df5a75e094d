"""Which pictures count as faded, and which curves there can be."""

from __future__ import annotations

import numpy as np
import pytest

from rtface.analysis.fading import curve_of, line_of, values_through
from tests.pipeline.fakes import portrait

SKIN = np.array([0.78, 0.58, 0.48])


def faded(picture: np.ndarray, powers: tuple[float, float, float], black: float = 0.07) -> np.ndarray:
    """A picture that lost density by channel, black of which is not quite black."""
    values = black + (1 - black) * picture / 255
    return np.rint(255 * values ** np.array(powers)).astype(np.uint8)


def sound() -> np.ndarray:
    return portrait(128, 128, scale=0.5, blur=0)[0]


def test_a_sound_picture_has_no_curve() -> None:
    line = line_of(sound(), SKIN)
    assert line is not None and curve_of([line], [SKIN]) is None


def test_the_channel_that_faded_is_the_one_that_is_restored() -> None:
    powers = (0.4, 0.9, 0.9)
    old = faded(sound(), powers)
    skin = (0.07 + 0.93 * SKIN) ** np.array(powers)
    line = line_of(old, skin)
    assert line is not None
    curve = curve_of([line], [skin])
    assert curve is not None and curve[0][0] > 1.3 + max(curve[1][0], curve[2][0]) - 1
    away = [np.abs(values - sound() / 255).mean() for values in (old / 255, values_through(old / 255, curve))]
    assert away[1] < 0.75 * away[0]


@pytest.mark.parametrize("tone", [(255, 225, 180), (200, 235, 210), (255, 255, 255)], ids=["sepia", "green", "grey"])
def test_toned_monochrome_says_nothing(tone: tuple[int, int, int]) -> None:
    grey = sound().mean(axis=2, keepdims=True) / 255
    assert line_of(np.rint(40 + (grey * (np.array(tone) - 40))).astype(np.uint8), SKIN) is None


def test_a_curve_that_makes_skin_blue_is_not_used() -> None:
    line = np.array([[0.8, 0.0], [0.4, 0.0], [0.0, 0.5]])
    assert curve_of([line], [np.array([0.5, 0.5, 0.6])]) is None


def test_a_curve_rises_everywhere() -> None:
    line = np.array([[5.0, 0.9], [0.9, 0.9], [-0.9, -0.9]])
    curve = curve_of([line], [SKIN])
    for each in (curve or ()), ((1.9, 0.6), (0.6, -0.3), (1.0, 0.0)):
        if each:
            assert (np.diff(values_through(np.linspace(0, 1, 300)[:, None] * np.ones(3), each), axis=0) >= 0).all()
