"""The film's texture: noise inside the mask brought back to the level of the skin beside it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rtface.correct.colour import luma_of
from rtface.correct.mask import median_of
from rtface.frame import Float32

_VISIBLE = 0.6 / 255.0  # below this standard deviation there is no grain to match
_GRID = 64  # statistics are taken on a grid of this many samples a side
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
        step = max(2, c.shape[1] // _GRID)
        # Aligned to the grid, so that what is measured on the part lies on the samples measured on the whole.
        x0, y0 = box[0] // step * step, box[1] // step * step
        part = (slice(y0, box[3]), slice(x0, box[2]))
        levels, calm = _measure(d, c, mask, part, step, scale)
        sigma, reference, kept = self._smoothed(levels, time)
        if max(sigma, reference) < _VISIBLE:
            return
        # A face that is noisier than its surroundings keeps no more than those have.
        missing = min(1.0, reference / max(sigma, 1e-6)) - kept
        grain = None
        if abs(missing) > 0.02 and sigma >= _VISIBLE and calm.any():
            grain = _own_grain(luma_of(c[:, *part]), mask[part], calm, step, sigma, missing, scale)
        lacking = float(np.sqrt(max(reference**2 - (1.15 * sigma) ** 2, 0.0)))
        if lacking > _VISIBLE:
            made = _synthetic(mask[part].shape, scale, seed) * np.float32(min(lacking, _MAX_SYNTHETIC))
            grain = made if grain is None else grain + made
        if grain is not None:
            for plane in d:
                target = plane[part]
                target += grain

    def _smoothed(self, levels: tuple[float, float, float], time: float) -> tuple[float, float, float]:
        before = self._levels
        if before is not None:
            keep = float(np.exp(-max(time - self._time, 0.0) / self._seconds))
            levels = (keep * before[0] + (1.0 - keep) * levels[0], keep * before[1] + (1.0 - keep) * levels[1],
                      keep * before[2] + (1.0 - keep) * levels[2])
        self._levels, self._time = levels, time
        return levels


def _measure(d: Float32, c: Float32, mask: Float32, part: tuple[slice, slice], step: int,
             scale: float) -> tuple[tuple[float, float, float], NDArray[np.bool_]]:
    """σ_in, σ_ref, f of one crop, in the calmer half of each region, where there is grain and little else.

    Also where in the part that calm half is, on the grid. Only every `step`-th row is looked at, filtered along itself.
    """
    every = slice(None, None, step)
    grid = np.ascontiguousarray(_highpass(luma_of(c[:, every]), scale, rows=True)[:, every])
    changed = _highpass(luma_of(d[:, part[0].start:part[0].stop:step, part[1]]), scale, rows=True)[:, every]
    power: Any = cv2.blur(cv2.multiply(grid, grid), (5, 5))
    face = mask[every, every]
    inside = face > 0.5
    rows, columns = (slice(p.start // step, -(-p.stop // step)) for p in part)
    if np.count_nonzero(inside) < 64:
        return (0.0, 0.0, 1.0), np.zeros(changed.shape, np.bool_)
    calm = inside & (power <= median_of(power[inside]))
    within = calm[rows, columns]
    a, b = grid[rows, columns][within], changed[within]
    sigma = _deviation(np.abs(a))
    kept = 1.0 + float(np.dot(a, b)) / max(float(np.dot(a, a)), 1e-9)
    small: Any = c[:, every, every]
    colour = np.array([median_of(plane[inside]) for plane in small], np.float32)[:, None, None]
    beside = (np.abs(small - colour).max(axis=0) < _SKIN) & (face == 0.0)
    reference = sigma
    if np.count_nonzero(beside) >= max(48, a.size // 8):
        beside &= power <= median_of(power[beside])
        reference = _deviation(np.abs(grid[beside]))
    return (sigma, reference, float(np.clip(kept, 0.0, 2.0))), within


def _own_grain(luma: Float32, mask: Float32, calm: NDArray[np.bool_], step: int, sigma: float, missing: float,
               scale: float) -> Float32:
    """The crop's own grain, in the strength that brings its high-pass up by `missing` · sigma."""
    # A wider band than is measured: real grain is correlated, and its coarse part is taken away as well.
    grain = _highpass(luma, 2.0 * max(scale, 1.0))
    grain = _without_edges(grain, max(_deviation(np.abs(grain[::step, ::step][calm])), 1e-6))
    middle = slice(max(0, luma.shape[0] // 2 - 32), luma.shape[0] // 2 + 32)
    seen = _highpass(grain[middle][::4], scale, rows=True)[mask[middle][::4] > 0.5]
    effect = max(_deviation(np.abs(seen)) / sigma, 0.5)
    grain *= np.float32(np.clip(missing / effect, -1.0, 1.3))
    return grain


def noise_level(luma: Float32, where: NDArray[np.bool_], scale: float = 1.0) -> float:
    """Standard deviation of a picture's grain inside `where`: the median absolute deviation of a high-pass.

    `luma` is float32 h×w, `where` bool h×w, `scale` as in `GrainMatcher.add`.
    """
    return _deviation(np.abs(_highpass(luma, scale)[where]))


def _deviation(absolute: NDArray[np.float32]) -> float:
    # Of a Gaussian the median of |x| is 0.6745 σ.
    return median_of(absolute) / 0.6745 if absolute.size else 0.0


def _highpass(luma: Float32, scale: float, *, rows: bool = False) -> Float32:
    """What a Gaussian of `scale` samples leaves over, in both directions or along the rows only."""
    sigma = min(max(scale, 1.0), 6.0)
    side = 5 if sigma < 1.3 else 9 if sigma < 2.5 else 17 if sigma < 4.5 else 25
    smooth: Any = cv2.GaussianBlur(luma, (side, 1 if rows else side), sigma, borderType=cv2.BORDER_REPLICATE)
    cv2.subtract(luma, smooth, dst=smooth)
    return smooth


def _without_edges(residual: Float32, sigma: float) -> Float32:
    """The residual where its local power is that of grain; edges and artefacts, of many times that power, fade out."""
    h, w = residual.shape
    power: Any = cv2.multiply(residual, residual, scale=1.0 / (2.5 * sigma * sigma))
    cells: Any = cv2.blur(cv2.resize(power, (max(1, w // 4), max(1, h // 4)), interpolation=cv2.INTER_AREA), (3, 3))
    weight: Any = cv2.resize(1.0 / (1.0 + cells * cells), (w, h), interpolation=cv2.INTER_LINEAR)
    cv2.multiply(residual, weight, dst=weight)
    return np.clip(weight, -4.0 * sigma, 4.0 * sigma, out=weight)


@lru_cache(maxsize=4)
def _sheet(coarseness: float) -> Float32:
    """512×512 of correlated Gaussian noise whose high-pass has standard deviation 1; it tiles."""
    white = np.random.default_rng(0).standard_normal((512, 512)).astype(np.float32)
    soft: Any = cv2.GaussianBlur(np.tile(white, (3, 3)), (0, 0), 0.5 * max(coarseness, 1.0))
    passed = _highpass(soft, coarseness, rows=True)[512:1024, 512:1024]
    return np.tile(soft[512:1024, 512:1024] / passed.std(), (2, 2)).astype(np.float32)


def _synthetic(shape: tuple[int, ...], scale: float, seed: int) -> Float32:
    word = (seed * 0x9E3779B1 + 0x7F4A7C15) & 0xFFFFFFFF
    word = ((word ^ (word >> 15)) * 0x2C1B3C6D) & 0xFFFFFFFF
    x, y = word & 511, (word >> 16) & 511
    sheet = _sheet(float(np.clip(2.0 ** round(np.log2(max(scale, 1.0))), 1.0, 8.0)))
    h, w = shape
    return sheet[y:y + h, x:x + w] if y + h <= 1024 and x + w <= 1024 else \
        np.roll(sheet, (-y, -x), axis=(0, 1))[:h, :w]
