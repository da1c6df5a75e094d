"""The screen of a halftone print (dots): found in the spectrum of a face, and filtered out.

A screen is periodic, so that its energy lies at the points of a lattice in the frequency plane, where faces have next
to none. The filter takes these points out (a notch filter; Sidorov and Kokaram 2002, "Suppression of moiré patterns
via spectral analysis", do the same with scans).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from rtface.frame import Float32

_RINGS = 64  # rings per cycle/pixel in which the spectrum of everything but the screen is estimated
_LOWEST = 0.08  # cycles/pixel below which a screen is too coarse to be told from a face
_PERIODS = 14  # of a screen across a face, at least
_SLANT = 0.18  # |sine| of the angle to both axes below which a peak may come from blocks, scan lines or fields
# Power of a peak by the median of its ring: no screen, and surely one.
_MIN_PEAK_RATIO, _SURE_PEAK_RATIO = 400.0, 1000.0
_NEIGHBOUR = 0.03  # cycles/pixel around a peak in which no second one is looked for
_LENGTH_RATIOS = (0.7, 1.45)  # length of the second lattice vector by that of the first
_ACROSS = 0.75  # |sine| of the angle between the two, at least
_FACE = 0.6  # length below which a frequency is the face's, by that of the first vector
_PASS = 0.8  # frequency that is kept by half, by that of the first vector
_HARMONICS = 2  # of both vectors that are taken out
_NOTCH = 0.2  # standard deviation of a notch, by the length of the first vector


@dataclass(frozen=True, slots=True)
class Screen:
    """A screen that was found.

    Attributes:
        first, second: vectors (x, y) of the lattice of its dots, cycles/pixel.
        share: how surely there is one, 0…1; what is filtered out is scaled with it.
    """

    first: tuple[float, float]
    second: tuple[float, float]
    share: float


def screen_of(image: Float32, face: Float32) -> Screen | None:
    """The screen that a face is printed with; None where there is none.

    Args:
        image: float32 h×w×3, RGB 0…1, at the resolution of the frame: shrinking destroys the lattice.
        face: float32 h×w, 0…1, the mask of the face; smooth, because its edge is the window of the spectrum.
    """
    area = float(face.sum())
    if area * _LOWEST**2 < _PERIODS**2 / 16:  # no lattice that could be seen has enough periods on it
        return None
    luma: Any = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    mean = float((luma * face).sum()) / area
    power = np.abs(np.fft.rfft2((luma - mean) * face)) ** 2
    y, x = np.fft.fftfreq(len(image))[:, None], np.fft.rfftfreq(image.shape[1])[None]
    radius = np.hypot(x, y)
    ratio = power / _level(power, radius)
    slanted = np.minimum(np.abs(x), np.abs(y)) > _SLANT * radius
    ratio[~slanted | (radius < _LOWEST) | (radius * math.sqrt(area) < _PERIODS)] = 0.0
    first, sure = _peak(ratio, x, y)
    if sure <= _MIN_PEAK_RATIO:
        return None
    length = math.hypot(*first)
    near = np.hypot(x - first[0], y - first[1]) < _NEIGHBOUR
    across = np.abs(x * first[1] - y * first[0]) > _ACROSS * radius * length
    alike = (radius > _LENGTH_RATIOS[0] * length) & (radius < _LENGTH_RATIOS[1] * length)
    ratio[near | ~across | ~alike] = 0.0
    second, also = _peak(ratio, x, y)
    if also <= _MIN_PEAK_RATIO:  # lines, as of an engraving, are left
        return None
    return Screen(
        first,
        second,
        min(1.0, math.log(min(sure, also) / _MIN_PEAK_RATIO) / math.log(_SURE_PEAK_RATIO / _MIN_PEAK_RATIO)),
    )


def without_screen(image: Float32, screen: Screen) -> Float32:
    """The image (float32 h×w×3) with the screen filtered out as far as it is sure."""
    height, width = image.shape[:2]
    margin = math.ceil(3.0 / math.hypot(*screen.first))
    wide: Any = cv2.copyMakeBorder(image, margin, margin, margin, margin, cv2.BORDER_REFLECT_101)
    y, x = np.fft.fftfreq(len(wide))[:, None], np.fft.rfftfreq(wide.shape[1])[None]
    keep = _kept(x, y, screen)[..., None]
    smooth = np.fft.irfft2(np.fft.rfft2(wide, axes=(0, 1)) * keep, s=wide.shape[:2], axes=(0, 1))
    smooth = smooth[margin : margin + height, margin : margin + width]
    return np.clip(image + screen.share * (smooth - image), 0.0, 1.0).astype(np.float32)


def _level(power: np.ndarray[Any, Any], radius: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The median power of the ring that each frequency lies on."""
    ring = np.minimum((radius * _RINGS).astype(np.intp), _RINGS // 2)
    level = np.array([np.median(power[ring == k]) if (ring == k).any() else np.inf for k in range(_RINGS // 2 + 1)])
    return np.maximum(level[ring], 1e-12)


def _peak(
    ratio: np.ndarray[Any, Any], x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]
) -> tuple[tuple[float, float], float]:
    """Frequency (x, y) and height of the highest value."""
    row, column = np.unravel_index(int(ratio.argmax()), ratio.shape)
    return (float(x[0, column]), float(y[row, 0])), float(ratio[row, column])


def _kept(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any], screen: Screen) -> np.ndarray[Any, Any]:
    """What is kept of each frequency, 0…1."""
    (ax, ay), (bx, by) = screen.first, screen.second
    length = math.hypot(ax, ay)
    # Above the screen's frequency a print holds more of its dots than of the face.
    keep = 1.0 / (1.0 + (np.hypot(x, y) / (_PASS * length)) ** 4)
    several = range(-_HARMONICS, _HARMONICS + 1)
    for m, n in ((m, n) for m in several for n in several):
        # Harmonics above half the sampling rate are folded, as sampling does; some fall among the face's own.
        px, py = _folded(m * ax + n * bx), _folded(m * ay + n * by)
        if math.hypot(px, py) > _FACE * length:
            keep *= 1.0 - np.exp(-(_folded(x - px) ** 2 + _folded(y - py) ** 2) / (2.0 * (_NOTCH * length) ** 2))
    return keep


def _folded(frequency: Any) -> Any:
    return (frequency + 0.5) % 1.0 - 0.5
