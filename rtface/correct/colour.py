"""Colour of a correction: `lock` keeps the film's own, `restore` lets one smooth curve a track through.

All images are planar float32, 3×S×S, RGB 0…1; corrections the same, −1…1.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from rtface.frame import Box, Float, Float32

GRID, CELLS = 32, 64
LUMA_LIMIT = 6.0 / 255.0
CHROMA_LIMIT = 1.0 / 255.0
COLOURLESS = 0.2  # of its own mean chroma an image's chroma may be moved: a grey film keeps its grey
LUMA = (0.299, 0.587, 0.114)


def luma_of(rgb: Float32) -> Float32:
    """h×w luma (BT.601 weights, as in the training loss) of 3×h×w."""
    out: Any = cv2.addWeighted(rgb[0], LUMA[0], rgb[1], LUMA[1], 0.0)
    return cv2.scaleAdd(rgb[2], LUMA[2], out, dst=out)


def cells_of(image: Float32, side: int = CELLS) -> Float32:
    """3×side×side: area averages of 3×S×S."""
    out = np.empty((3, side, side), np.float32)
    for plane, cells in zip(image, out, strict=True):
        cv2.resize(plane, (side, side), dst=cells, interpolation=cv2.INTER_AREA)
    return out


def low_frequencies(image: Float32) -> Float32:
    """3×32×32: area average onto the grid, then a 5-tap Gaussian of sigma 1 with the border replicated.

    `image` is 3×S×S, or `cells_of` it: area averages of area averages are the same.
    """
    small = cells_of(image, GRID)
    for plane in small:
        cv2.GaussianBlur(plane, (5, 5), 1.0, dst=plane, borderType=cv2.BORDER_REPLICATE)
    return small


def chroma_limit(c: Float32) -> float:
    """How far the low frequencies of the chroma of a crop, float32 3×S×S, may be moved: below one code value of 8 bits,
    which is less than what a codec does to them, and next to nothing where the crop has no colour."""
    step = max(1, c.shape[1] // GRID)
    sample = np.ascontiguousarray(c[:, ::step, ::step])
    return min(CHROMA_LIMIT, COLOURLESS * float(np.abs(sample - luma_of(sample)).mean()))


def lock_colour(d: Float32, low: Float32 | None = None, box: Box | None = None,
                luma: float = LUMA_LIMIT, chroma: float = CHROMA_LIMIT) -> Float32:
    """Limits the low frequencies of a correction, in place.

    On the grid of `low_frequencies`, with y the luma of low(d), z the rest of it and m the largest |z| of its channels,

        kept = luma·tanh(y/luma) + z·chroma/m·tanh(m/chroma)        d ← d − up(low(d) − kept)

    where up is bilinear (half-pixel centres). The training loss contains the same operation, so that nothing is trained
    that is thrown away here.

    Args:
        d: float32 3×S×S.
        low: `low_frequencies(d)` where the caller has them.
        box: x0, y0, x1, y1: do it there only; the rest of `d` keeps its values.
        luma: how far luma may be moved; 0 takes all low frequencies out of it.
        chroma: the same of each channel of the chroma, see `chroma_limit`.

    Returns:
        d.
    """
    size = int(d.shape[1])
    removed = excess(low_frequencies(d) if low is None else low, luma, chroma)
    return subtract_low_frequencies(d, removed, box or (0, 0, size, size))


def excess(low: Float32, luma: float = LUMA_LIMIT, chroma: float = CHROMA_LIMIT) -> Float32:
    """low − kept of `lock_colour`: 3×32×32."""
    light = luma_of(low)
    removed = low - light
    if chroma > 1e-5:
        most = np.maximum(np.abs(removed).max(axis=0), np.float32(1e-9))
        removed *= 1.0 - chroma * np.tanh(most / chroma) / most
    removed += light
    if luma > 0.0:
        removed -= luma * np.tanh(light / luma)
    return removed


def subtract_low_frequencies(d: Float32, cells: Float32, box: Box) -> Float32:
    """d − up(cells) in the box, in place: `d` 3×S×S, `cells` 3×n×n."""
    size = int(d.shape[1])
    x0, y0, x1, y1 = box
    for plane, few in zip(d, cells, strict=True):
        inner = plane[y0:y1, x0:x1]
        cv2.subtract(inner, enlarged(few, size, box), dst=inner)
    return d


@lru_cache(maxsize=16)
def enlarging(side: int, size: int) -> Float32:
    """size×side: what makes `size` samples of `side` by linear interpolation (half-pixel centres)."""
    out: Any = cv2.resize(np.eye(side, dtype=np.float32), (side, size), interpolation=cv2.INTER_LINEAR)
    out.flags.writeable = False
    return out


def enlarged(cells: Float32, size: int, box: Box) -> Float32:
    """The part `box` of n×n cells, enlarged to `size` as by `enlarging`."""
    n, (x0, y0, x1, y1) = len(cells), box
    k = size // n
    left = top = 0
    if size == k * n:  # the cells around the box will do
        left, top = max(0, x0 // k - 1), max(0, y0 // k - 1)
        cells = cells[top:-(-y1 // k) + 1, left:-(-x1 // k) + 1]
        h, w = cells.shape[0] * k, cells.shape[1] * k
    else:
        h = w = size
    out: Any = cv2.resize(cells, (w, h), interpolation=cv2.INTER_LINEAR)
    return out[y0 - top * k:y1 - top * k, x0 - left * k:x1 - left * k]


class ExposureCurve:
    """`--colour restore`: gain and offset that correct fading and exposure, smoothed over a track.

    One straight line of luma for the whole face, drawn along with the track. It joins what the engine changes (a line
    from the crop to its restoration; next to nothing with engines that are trained with `lock_colour`) and a stretch of
    the levels: blacks that a faded film or print has lifted are lowered, and a scene without highlights is brightened.
    Both take the surroundings in the crop into account: a dark face near a white shirt is well exposed. They stay as
    they are, so the stretch goes part of the distance, the face's mean luma moves by `SHIFT` at most and only towards
    what is around the face, and its mean chroma stays: it keeps the tint of neck, ears and paper.
    """

    GAIN = (0.7, 1.6)
    SHIFT = 10.0 / 255.0
    """How far the mean luma of the face may be moved."""
    BLACK, WHITE = 0.06, 0.75
    """Levels of 0…1 that blacks are lowered to and highlights raised to."""
    SHARE = 0.5
    """How far."""

    def __init__(self, seconds: float = 1.0) -> None:
        self._seconds = seconds
        self._value: Float | None = None
        self._time = 0.0

    def reset(self) -> None:
        """Forgets the track."""
        self._value = None

    def update(self, c: Float32, r: Float32, weight: Float32, time: float, samples: Float32 | None = None) -> Float:
        """Takes in one crop and its restoration.

        Args:
            c, r: 3×n×n, small (32×32 will do).
            weight: n×n, the face mask.
            time: seconds.
            samples: float32 3×m×m, the crop at every `step`-th sample, for its levels; None leaves them.

        Returns:
            float64 2×3: gain and offset per channel.
        """
        w = weight / max(float(weight.sum()), 1e-6)
        light_c, light_r = luma_of(c), luma_of(r)
        mean_c, mean_r = float((w * light_c).sum()), float((w * light_r).sum())
        spread_c, spread_r = (float(np.sqrt((w * (light - mean) ** 2).sum()))
                              for light, mean in ((light_c, mean_c), (light_r, mean_r)))
        gain = min(max((spread_r + 0.01) / (spread_c + 0.01), self.GAIN[0]), self.GAIN[1])
        offset = mean_r - gain * mean_c
        if samples is not None:
            stretch, shift = self._levels(gain * luma_of(np.ascontiguousarray(samples)) + np.float32(offset))
            gain, offset = min(stretch * gain, self.GAIN[1]), stretch * offset + shift
        apart = _around(light_c, weight, mean_c) - mean_c
        moved = min(max((gain - 1.0) * mean_c + offset, -self.SHIFT, min(apart, 0.0)), self.SHIFT, max(apart, 0.0))
        tones = (w * c).sum(axis=(1, 2), dtype=np.float64)  # a channel is stretched about its own mean
        now = np.stack([np.full(3, gain), moved - (gain - 1.0) * tones])
        if self._value is None:
            self._value = now
        else:
            a = float(np.exp(-max(time - self._time, 0.0) / self._seconds))
            self._value = a * self._value + (1.0 - a) * now
        self._time = time
        return self._value

    def _levels(self, light: Float32) -> tuple[float, float]:
        """Gain and offset from the darkest and the brightest hundredth of a crop's luma."""
        luma = np.sort(light, axis=None)
        count = max(1, luma.size // 100)
        black, white = float(luma[count - 1]), float(luma[-count])
        to_black = black - self.SHARE * max(black - self.BLACK, 0.0)
        to_white = white + self.SHARE * max(self.WHITE - white, 0.0)
        gain = min(max((to_white - to_black) / max(white - black, 0.1), 1.0), 1.3)
        return gain, to_black - gain * black


def _around(light: Float32, weight: Float32, face: float) -> float:
    """The mean luma of what is around a face: light and mask n×n; that of the face where nothing is."""
    side = 2 * (len(weight) // 8) + 1
    near: Any = cv2.dilate(weight, np.ones((side, side), np.uint8))
    ring = (near > 0.0) & (weight <= 0.0)
    return float(light[ring].mean()) if ring.any() else face
