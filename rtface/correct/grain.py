"""Restores grain inside the mask to the level of the surrounding skin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rtface.correct.face_region import FaceRegion, middle_rows
from rtface.correct.mask import median_of, medians_of, smooth_ramp
from rtface.frame import Float32

# Standard deviations of missing grain: below the first, no grain is synthesised; above the second, all of it. With a
# hard threshold, two almost equal runs could differ by the grain of a whole face.
_VISIBLE_SD = 0.4 / 255.0, 0.8 / 255.0
# Standard deviations of the crop's texture. Up to the first, texture is due to rounding to 8 bits and
# the codec (0.23 to 0.36 of 255 in call clips at crf 31 and 37). From the second on, it is texture of
# the film or the skin (0.40 and more in television and old films).
_ROUNDING_SD, _TEXTURE_SD = 0.34 / 255.0, 0.42 / 255.0
_GRAINY_SD = 1.0 / 255.0, 1.6 / 255.0  # strong grain: from the second on, all is restored; skin and codecs have less
_COARSE_SHARE = 0.15  # extra share of strong grain, because its coarse part cannot be restored
_FINE_SD = 0.8 / 255.0  # texture up to this is restored, even if the surrounding skin has less
# Samples count as surrounding skin up to this difference from the face's median colour. The mean difference over 5×5
# samples must be as small, because single samples of leaves, stripes or text may have the colour of skin.
_SKIN_DIFFERENCE = 0.14
_MAX_SYNTHETIC_SD = 12.0 / 255.0
_LEVELS_S = 0.4  # time constant of the measured levels
SHEET = 512  # the side of a tile of synthetic grain


@dataclass(frozen=True, slots=True)
class Texture:
    """Fine structure of crop c and correction d, at every `step`-th sample.

    Attributes:
        crop: float32 n×n, the luma of c after a high-pass along the rows.
        change: float32, the same for d, on `rows`×`columns` of the area's part. Its edges are treated as the crop's.
        crop_grain: function that measures the crop's grain for restoration; called only when needed, because on the
            CPU it costs as much as everything else.
    """

    crop: Float32
    change: Float32
    crop_grain: Callable[[], OwnTexture]


@dataclass(frozen=True, slots=True)
class OwnTexture:
    """A crop's grain in an area's part: the luma after a wider high-pass.

    The high-pass is twice as wide as that of `Texture`, and filters in both directions.

    Attributes:
        grain: float32, the grain at the samples, rows×columns.
        middle: float32 m×w, the grain in `middle_rows`.
        above, below: float32 m×⌊w/4⌋, the local power in the `cell_rows` next to each of the `middle_rows`.
    """

    grain: Float32
    middle: Float32
    above: Float32
    below: Float32


@dataclass(frozen=True, slots=True)
class Grain:
    """Grain to add to a correction.

    Attributes:
        crop_share: factor of the crop's grain; 0 for none.
        deviation: standard deviation of the crop's grain, used to distinguish grain from edges.
        synthetic: standard deviation of the synthetic grain; 0 for none.
        coarseness: scale of the grain, for `sheet`: 1, 2, 4 or 8.
        at: x, y on the sheet for the first sample of the area's part.
    """

    crop_share: float = 0.0
    deviation: float = 0.0
    synthetic: float = 0.0
    coarseness: int = 1
    at: tuple[int, int] = (0, 0)


class GrainMatcher:
    """Restores the grain that an engine removed, with levels smoothed over time.

    Grain is the luma after a high-pass. Three figures are measured: σ_in, of the crop inside the mask; σ_ref, of the
    surrounding skin outside the mask (σ_in if there is no area of the face's colour); and the share of the crop's grain
    that survives the correction, f = 1 + ⟨hp(d), hp(c)⟩ / ⟨hp(c), hp(c)⟩. The missing grain is copied from the crop,
    but not at edges and artefacts. If the crop has less grain than the surrounding skin (because a codec smoothed the
    face), synthetic grain is added. It is spatially correlated like the source's grain, and a seed determines it. Faint
    texture of the crop that is stronger than that of rounding and codecs is restored even if the surrounding skin has
    less. Noise that an engine amplifies (f > 1) is reduced in the same way.
    """

    def __init__(self) -> None:
        self._levels: tuple[float, float, float] | None = None
        self._time = 0.0

    def decide(
        self, texture: Texture, samples: Float32, area: FaceRegion, *, time: float, seed: int = 0
    ) -> Grain | None:
        """Returns the grain to add to a correction, or None.

        Args:
            texture: texture of the crop, and of the correction without grain.
            samples: float32 3×n×n, the crop's colours at every `step`-th sample.
            area: the face in its crop.
            time: seconds; used to smooth the levels.
            seed: determines the synthetic grain (track and pts).
        """
        levels, calm = _levels_of(texture, samples, area)
        sigma, reference, surviving = self._smooth(levels, time)
        # A face noisier than its surroundings is restored only to their level, unless the film has strong grain.
        grainy = smooth_ramp(sigma, *_GRAINY_SD)
        level = max(reference, _FINE_SD, sigma * grainy)
        missing = (min(1.0, level / max(sigma, 1e-6)) - surviving) * smooth_ramp(sigma, _ROUNDING_SD, _TEXTURE_SD)
        missing *= 1.0 + _COARSE_SHARE * grainy
        share = deviation = 0.0
        if abs(missing) > 0.02 and calm.any():
            share, deviation = _crop_share(texture.crop_grain(), calm, area, sigma, missing)
        synthetic_level = float(np.sqrt(max(reference**2 - (1.15 * sigma) ** 2, 0.0)))
        synthetic = min(synthetic_level, _MAX_SYNTHETIC_SD) * smooth_ramp(synthetic_level, *_VISIBLE_SD)
        if synthetic > 0.0:
            coarseness = int(np.clip(2.0 ** round(np.log2(max(area.scale, 1.0))), 1.0, 8.0))
            return Grain(share, deviation, synthetic, coarseness, _place_on_sheet(seed))
        return Grain(share, deviation) if share else None

    def _smooth(self, levels: tuple[float, float, float], time: float) -> tuple[float, float, float]:
        previous = self._levels
        if previous is not None:
            weight = float(np.exp(-max(time - self._time, 0.0) / _LEVELS_S))
            levels = (
                weight * previous[0] + (1.0 - weight) * levels[0],
                weight * previous[1] + (1.0 - weight) * levels[1],
                weight * previous[2] + (1.0 - weight) * levels[2],
            )
        self._levels, self._time = levels, time
        return levels


def _levels_of(
    texture: Texture, samples: Float32, area: FaceRegion
) -> tuple[tuple[float, float, float], NDArray[np.bool_]]:
    """Measures σ_in, σ_ref and f in the calmer half of each region.

    Calmer halves contain little but grain. Also returns a mask of the face's calmer half in the part.
    """
    grid = texture.crop
    power: Any = cv2.blur(cv2.multiply(grid, grid), (5, 5))
    face = area.samples
    inside = face > 0.5
    if np.count_nonzero(inside) < 64:
        return (0.0, 0.0, 1.0), np.zeros(texture.change.shape, np.bool_)
    calm = inside & (power <= median_of(power[inside]))
    calm_part = calm[area.rows, area.columns]
    a, b = grid[area.rows, area.columns][calm_part], texture.change[calm_part]
    sigma = _deviation(np.abs(a))
    surviving = 1.0 + float(np.dot(a, b)) / max(float(np.dot(a, a)), 1e-9)
    difference: Any = np.zeros(face.shape, np.float32)
    for plane, middle in zip(samples, medians_of(samples, np.flatnonzero(inside)), strict=True):
        cv2.max(difference, cv2.absdiff(plane, middle), dst=difference)
    skin = (cv2.max(difference, cv2.blur(difference, (5, 5))) < _SKIN_DIFFERENCE) & (face == 0.0)
    reference = sigma
    if np.count_nonzero(skin) >= max(48, a.size // 8):
        skin &= power <= median_of(power[skin])
        reference = _deviation(np.abs(grid[skin]))
    return (sigma, reference, float(np.clip(surviving, 0.0, 2.0))), calm_part


def _crop_share(
    texture: OwnTexture, calm: NDArray[np.bool_], area: FaceRegion, sigma: float, missing: float
) -> tuple[float, float]:
    """Returns the factor of the crop's grain, and the grain's standard deviation. With this factor, the crop's
    high-pass rises by `missing` · sigma."""
    deviation = max(_deviation(np.abs(texture.grain[calm])), 1e-6)
    above, below = _grain_weight(texture.above, deviation), _grain_weight(texture.below, deviation)
    *_, nearness = cell_rows(area.part[3] - area.part[1])
    rows = above + (below - above) * nearness[:, None]
    weight: Any = cv2.resize(rows, texture.middle.shape[::-1], interpolation=cv2.INTER_LINEAR)
    cv2.multiply(texture.middle, weight, dst=weight)
    effective = highpass(weight, area.scale, rows=True)[area.middle > 0.5]
    effect = max(_deviation(np.abs(effective)) / sigma, 0.5)
    return float(np.clip(missing / effect, -1.0, 1.3)), deviation


class OwnGrain:
    """A crop's grain in full resolution, in an area's part (CPU).

    Args:
        luma: float32 h×w, luma of the part.
        scale: crop pixels per image pixel.
    """

    def __init__(self, luma: Float32, scale: float) -> None:
        # This band is wider than `Texture`'s, because real grain is correlated, and engines remove its coarse part too.
        self._grain = highpass(luma, 2.0 * max(scale, 1.0))
        h, w = luma.shape
        power: Any = cv2.multiply(self._grain, self._grain)
        cells = max(1, w // 4), max(1, h // 4)
        self._power: Any = cv2.blur(cv2.resize(power, cells, interpolation=cv2.INTER_AREA), (3, 3))

    def texture(self, step: int) -> OwnTexture:
        """Returns the samples of the grain that are measured."""
        h = len(self._grain)
        above, below, _ = cell_rows(h)
        return OwnTexture(
            self._grain[::step, ::step], self._grain[middle_rows(h)], self._power[above], self._power[below]
        )

    def share(self, factor: float, deviation: float) -> Float32:
        """Returns the grain times `factor`, weighted by its local power. Edges and artefacts, which have many times the
        power of grain, get a weight of almost 0."""
        weight = _grain_weight(self._power, deviation)
        full: Any = cv2.resize(weight, self._grain.shape[::-1], interpolation=cv2.INTER_LINEAR)
        cv2.multiply(self._grain, full, dst=full, scale=factor)
        limit = abs(factor) * 4.0 * deviation
        return np.clip(full, -limit, limit, out=full)


@lru_cache(maxsize=16)
def cell_rows(height: int) -> tuple[NDArray[np.intp], NDArray[np.intp], Float32]:
    """Returns the cell rows above and below each of the `middle_rows`. Also returns how near each row is to the
    cell row below, 0…1. There are a quarter as many cell rows as rows."""
    cells = max(1, height // 4)
    at = (np.arange(height)[middle_rows(height)] + 0.5) * (cells / height) - 0.5
    above = np.floor(at).astype(np.intp)
    return np.maximum(above, 0), np.minimum(above + 1, cells - 1), (at - above).astype(np.float32)


def _grain_weight(power: Float32, deviation: float) -> Float32:
    """Returns 1 where local power is 0, 1/2 at 2.5 × grain's power."""
    ratio = power * np.float32(1.0 / (2.5 * deviation * deviation))
    return np.reciprocal(ratio * ratio + np.float32(1.0))


def _deviation(absolute: NDArray[np.float32]) -> float:
    # The median of |x| of a Gaussian is 0.6745 σ.
    return median_of(absolute) / 0.6745 if absolute.size else 0.0


def gaussian(scale: float) -> tuple[int, float]:
    """Returns taps and sigma of the Gaussian that `highpass` subtracts."""
    sigma = min(max(scale, 1.0), 6.0)
    return 5 if sigma < 1.3 else 9 if sigma < 2.5 else 17 if sigma < 4.5 else 25, sigma


def highpass(luma: Float32, scale: float, *, rows: bool = False) -> Float32:
    """Subtracts a Gaussian of `scale` samples, in both directions or along rows."""
    side, sigma = gaussian(scale)
    smooth: Any = cv2.GaussianBlur(luma, (side, 1 if rows else side), sigma, borderType=cv2.BORDER_REPLICATE)
    cv2.subtract(luma, smooth, dst=smooth)
    return smooth


@lru_cache(maxsize=4)
def sheet(coarseness: float) -> Float32:
    """Returns correlated Gaussian noise: a 512×512 tile, repeated 2×2. Its high-pass has standard deviation 1."""
    white = np.random.default_rng(0).standard_normal((SHEET, SHEET)).astype(np.float32)
    soft: Any = cv2.GaussianBlur(np.tile(white, (3, 3)), (0, 0), 0.5 * max(coarseness, 1.0))
    filtered = highpass(soft, coarseness, rows=True)[SHEET : 2 * SHEET, SHEET : 2 * SHEET]
    return np.tile(soft[SHEET : 2 * SHEET, SHEET : 2 * SHEET] / filtered.std(), (2, 2)).astype(np.float32)


def sheet_part(shape: tuple[int, ...], coarseness: int, at: tuple[int, int]) -> Float32:
    """Returns synthetic grain, h×w, of standard deviation 1: the part of a sheet that starts at `at`."""
    (h, w), (x, y), tiles = shape, at, sheet(coarseness)
    return (
        tiles[y : y + h, x : x + w]
        if y + h <= len(tiles) and x + w <= len(tiles)
        else np.roll(tiles, (-y, -x), axis=(0, 1))[:h, :w]
    )


def _place_on_sheet(seed: int) -> tuple[int, int]:
    word = (seed * 0x9E3779B1 + 0x7F4A7C15) & 0xFFFFFFFF
    word = ((word ^ (word >> 15)) * 0x2C1B3C6D) & 0xFFFFFFFF
    return word & (SHEET - 1), (word >> 16) & (SHEET - 1)
