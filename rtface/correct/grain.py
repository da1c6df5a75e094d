"""The film's texture: noise inside the mask brought back to the level of the skin beside it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rtface.correct.colour import luma_of
from rtface.frame import Float32

_VISIBLE = 0.6 / 255.0  # below this standard deviation there is no grain to match
_STEP = 4  # statistics are taken from every 4th sample of every 4th row
_SKIN = 0.14  # largest difference from the face's median colour that still counts as the skin beside it
_MAX_SYNTHETIC = 12.0 / 255.0


class GrainMatcher:
    """Returns to a correction the grain that the engine took away; the levels are smoothed over a track.

    Grain is what a high-pass leaves of the luma. Three figures are measured: σ_in of the crop inside the mask, σ_ref
    of the skin beside it (outside the mask, of the face's own colour; σ_in where there is none), and how much of the
    crop's own grain survives the correction, f = 1 + ⟨hp(d), hp(c)⟩ / ⟨hp(c), hp(c)⟩. What lacks comes from the
    crop's own residual, faded out where that is an edge or an artefact. Where the crop itself holds less
    than the skin beside it (a codec smoothed the face) synthetic grain fills up, spatially correlated like the
    source's and fixed by a seed. An engine that amplifies the noise is damped the same way (f > 1).
    """

    def __init__(self, seconds: float = 0.4) -> None:
        self._seconds = seconds
        self._levels: tuple[float, float, float] | None = None
        self._time = 0.0

    def reset(self) -> None:
        """Forgets the track."""
        self._levels = None

    def add(self, d: Float32, c: Float32, mask: Float32, box: tuple[int, int, int, int], *, time: float,
            seed: int = 0, scale: float = 1.0) -> None:
        """Adds grain to a correction, in place.

        Args:
            d: float32 3×S×S, changed inside `box`.
            c: float32 3×S×S, the crop.
            mask: float32 S×S.
            box: x0, y0, x1, y1 of the mask's support.
            time: seconds, for the smoothing.
            seed: fixes the synthetic grain (track and pts).
            scale: crop pixels per picture pixel; grain in an enlarged crop is as coarse.
        """
        x0, y0, x1, y1 = box
        luma = luma_of(c)
        own = _highpass(luma, scale)
        changed = _highpass(luma_of(d[:, y0:y1, x0:x1]), scale)
        sigma, reference, kept = self._smoothed(self._measure(own, changed, c, mask, box), time)
        if max(sigma, reference) < _VISIBLE:
            return
        # A face that is noisier than its surroundings keeps no more than those have.
        missing = min(1.0, reference / max(sigma, 1e-6)) - kept
        grain = None
        if abs(missing) > 0.02 and sigma >= _VISIBLE:
            grain = self._own_grain(luma[y0:y1, x0:x1], mask[y0:y1, x0:x1], sigma, missing, scale)
        lacking = float(np.sqrt(max(reference**2 - (1.15 * sigma) ** 2, 0.0)))
        if lacking > _VISIBLE:
            made = _synthetic((y1 - y0, x1 - x0), scale, seed) * np.float32(min(lacking, _MAX_SYNTHETIC))
            grain = made if grain is None else grain + made
        if grain is not None:
            for plane in d:
                target = plane[y0:y1, x0:x1]
                target += grain

    @staticmethod
    def _own_grain(luma: Float32, mask: Float32, sigma: float, missing: float, scale: float) -> Float32:
        """The crop's own grain in the strength that brings its high-pass up by `missing` · sigma."""
        # A wider band than is measured: real grain is correlated, and its coarse part is taken away as well.
        grain = _highpass(luma, 2.0 * max(scale, 1.0))
        inside = mask[::_STEP, ::_STEP] > 0.5
        grain = _without_edges(grain, max(_deviation(np.abs(grain[::_STEP, ::_STEP][inside])), 1e-6))
        middle = slice(max(0, luma.shape[0] // 2 - 32), luma.shape[0] // 2 + 32)
        seen = _highpass(grain[middle], scale)[mask[middle] > 0.5]
        effect = max(_deviation(np.abs(seen[::4])) / sigma, 0.5)
        grain *= np.float32(np.clip(missing / effect, -0.5, 1.3))
        return grain

    @staticmethod
    def _measure(own: Float32, changed: Float32, c: Float32, mask: Float32,
                 box: tuple[int, int, int, int]) -> tuple[float, float, float]:
        """σ_in, σ_ref, f of one crop."""
        x0, y0, x1, y1 = box
        step = slice(None, None, _STEP)
        weight = mask[y0:y1, x0:x1][step, step] > 0.5
        a, b = own[y0:y1, x0:x1][step, step][weight], changed[step, step][weight]
        if a.size < 64:
            return 0.0, 0.0, 1.0
        sigma = _deviation(np.abs(a))
        calm = np.abs(a) < 3.0 * sigma + 1e-6
        kept = 1.0 + float((a[calm] * b[calm]).sum() / max(float((a[calm] ** 2).sum()), 1e-9))
        small: Any = c[:, step, step]
        face = mask[step, step]
        colour = np.median(small[:, face > 0.5], axis=1)[:, None, None]
        beside = (np.abs(small - colour).max(axis=0) < _SKIN) & (face == 0.0)
        outside = np.abs(own[step, step][beside])
        reference = _deviation(outside) if outside.size >= max(64, a.size // 16) else sigma
        return sigma, reference, float(np.clip(kept, 0.0, 2.0))

    def _smoothed(self, levels: tuple[float, float, float], time: float) -> tuple[float, float, float]:
        before = self._levels
        if before is not None:
            keep = float(np.exp(-max(time - self._time, 0.0) / self._seconds))
            levels = (keep * before[0] + (1.0 - keep) * levels[0], keep * before[1] + (1.0 - keep) * levels[1],
                      keep * before[2] + (1.0 - keep) * levels[2])
        self._levels, self._time = levels, time
        return levels


def noise_level(luma: Float32, where: NDArray[np.bool_], scale: float = 1.0) -> float:
    """Standard deviation of a picture's grain inside `where`: the median absolute deviation of a high-pass.

    `luma` is float32 h×w, `where` bool h×w, `scale` as in `GrainMatcher.add`.
    """
    return _deviation(np.abs(_highpass(luma, scale)[where]))


def _deviation(absolute: NDArray[np.float32]) -> float:
    # Of a Gaussian the median of |x| is 0.6745 σ.
    return float(np.median(absolute)) / 0.6745 if absolute.size else 0.0


def _highpass(luma: Float32, scale: float) -> Float32:
    sigma = min(max(scale, 1.0), 6.0)
    side = 5 if sigma < 1.3 else 9 if sigma < 2.5 else 17 if sigma < 4.5 else 25
    smooth: Any = cv2.GaussianBlur(luma, (side, side), sigma, borderType=cv2.BORDER_REPLICATE)
    cv2.subtract(luma, smooth, dst=smooth)
    return smooth


def _without_edges(residual: Float32, sigma: float) -> Float32:
    """The residual where its local power is that of grain; edges and artefacts, of many times that power, fade out."""
    h, w = residual.shape
    power: Any = cv2.multiply(residual, residual, scale=1.0 / (4.0 * sigma * sigma))
    cells: Any = cv2.blur(cv2.resize(power, (max(1, w // 4), max(1, h // 4)), interpolation=cv2.INTER_AREA), (3, 3))
    weight: Any = cv2.resize(1.0 / (1.0 + cells * cells), (w, h), interpolation=cv2.INTER_LINEAR)
    cv2.multiply(residual, weight, dst=weight)
    return np.clip(weight, -4.0 * sigma, 4.0 * sigma, out=weight)


@lru_cache(maxsize=4)
def _sheet(coarseness: float) -> Float32:
    """512×512 of correlated Gaussian noise whose high-pass has standard deviation 1; it tiles."""
    white = np.random.default_rng(0).standard_normal((512, 512)).astype(np.float32)
    soft: Any = cv2.GaussianBlur(np.tile(white, (3, 3)), (0, 0), 0.5 * max(coarseness, 1.0))
    passed = _highpass(soft, coarseness)[512:1024, 512:1024]
    return np.tile(soft[512:1024, 512:1024] / passed.std(), (2, 2)).astype(np.float32)


def _synthetic(shape: tuple[int, ...], scale: float, seed: int) -> Float32:
    word = (seed * 0x9E3779B1 + 0x7F4A7C15) & 0xFFFFFFFF
    word = ((word ^ (word >> 15)) * 0x2C1B3C6D) & 0xFFFFFFFF
    x, y = word & 511, (word >> 16) & 511
    sheet = _sheet(float(np.clip(2.0 ** round(np.log2(max(scale, 1.0))), 1.0, 8.0)))
    h, w = shape
    return sheet[y:y + h, x:x + w] if y + h <= 1024 and x + w <= 1024 else \
        np.roll(sheet, (-y, -x), axis=(0, 1))[:h, :w]
