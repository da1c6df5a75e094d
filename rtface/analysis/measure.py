"""Degradation scores of one face, from the luma of its core (eyes to mouth) on the grid it was stored on.

Everything is measured on the *native* grid, before any resampling: an 8×8 block, a repeated row or a pixel's noise
only exist there. A face whose core is larger than `SIDE` is shrunk to it for all but the grid's own measures,
because no engine works on more detail than that.

Each score is 0 for what a clean face shows and 1 for what leaves little of it; 0.2 is about where one begins to see
it beside the original. All are robust statistics of band-pass energies, in the tradition of Immerkær's noise and
Wang, Sheikh and Bovik's blockiness estimators; the constants come from some 1,900 portraits and their degradations.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from rtface.frame import Bytes, Float32

SIDE = 256
"""Largest side in pixels of the patch that is measured: a core this large fills a 512 crop."""

CORE = 0.9
"""Side of the core as a fraction of the face's width."""


@dataclass(frozen=True, slots=True)
class Analysis:
    """What is wrong with a face, each 0 (nothing) … 1 (little is left).

    Attributes:
        motion_blur: detail is missing along one direction only.
        low_resolution: detail is missing in all directions: upscaled or out of focus.
        compression: block edges, and flat blocks beside sharp edges.
        pixelation: rows and columns of pixels repeat (mosaic, nearest-neighbour scaling).
        missing: share of the core in flat patches with a hard edge: dropouts, tape, stickers, torn paper.
        noise: grain and sensor noise; 1 is a standard deviation of 20 of 255.
        under_exposure: even the brightest parts are dark.
        over_exposure: highlights are clipped.
        motion_angle: direction of the motion, degrees 0…180, 0 along x, 90 along y; only of use with motion_blur.
        detail: width in pixels that the face would need to hold the detail it has.
    """

    motion_blur: float = 0.0
    low_resolution: float = 0.0
    compression: float = 0.0
    pixelation: float = 0.0
    missing: float = 0.0
    noise: float = 0.0
    under_exposure: float = 0.0
    over_exposure: float = 0.0
    motion_angle: float = 0.0
    detail: float = 0.0

    def scores(self) -> dict[str, float]:
        """The eight scores by name."""
        return {name: value for name, value in asdict(self).items() if name in SCORES}


SCORES: tuple[str, ...] = tuple(f.name for f in fields(cast(Any, Analysis))
                                if f.name not in ("motion_angle", "detail"))


def luma(rgb: Bytes) -> Float32:
    """H×W×3 uint8 → H×W float32, 0…255 (BT.601, not rounded: rounding would look like flat blocks)."""
    return cast(Float32, cv2.transform(rgb.astype(np.float32), _LUMA))


_LUMA = np.array([[0.299, 0.587, 0.114]], np.float32)


def measure(patch: Float32, width: float, grid: Float32 | None = None) -> Analysis:
    """All scores of one patch.

    Args:
        patch: luma of the face's core, float32 h×w, 0…255, not rounded; 24…`SIDE` px a side. On the native grid, or
            shrunk to `SIDE` where the core is larger.
        width: of the face in the patch's pixels.
        grid: a part of the core on the native grid where `patch` was shrunk; the block and row measures look there.
    """
    pixelation = _pixelation(patch if grid is None else grid)
    blocks = _blockiness(patch if grid is None else grid)
    levels = [patch, _half(patch)]
    levels += [_half(levels[-1])]
    levels += [_half(levels[-1])]
    usable, missing = _usable(patch)
    fine = [_fine(level, usable) for level in levels[:2]]
    noise = 1.12 * fine[0][0]
    energy, coherence, angle = _bands(levels, (fine[0][0], fine[1][0]))

    motion = sum(_ramp(c, 0.3, 0.8) for c in coherence) / 3
    lost = sum(max(0.0, _CLEAN_STEP - math.log2(max(a, 1e-3) / max(b, 1e-2)))
               for a, b in pairwise(energy))
    factor = 2 ** (0.53 * lost)
    flat = math.log2((fine[1][1] + 0.1) / (fine[1][0] + 0.1))
    compression = max(blocks, _ramp(flat, 3.0, 4.2))
    bright = float(np.partition(patch[::2, ::2].ravel(), int(patch[::2, ::2].size * 0.95))[
        int(patch[::2, ::2].size * 0.95)])
    clipped = float(np.count_nonzero(patch > 250.0)) / patch.size
    return Analysis(
        motion_blur=motion,
        low_resolution=(1 - 1 / factor) * (1 - motion),
        compression=compression * (1 - pixelation),
        pixelation=pixelation,
        missing=missing,
        noise=1 - math.exp(-max(0.0, noise - 1.7) / 6),
        under_exposure=_ramp(-bright, -150.0, -30.0),
        over_exposure=1 - math.exp(-max(0.0, clipped - 0.04) / 0.3),
        motion_angle=angle,
        detail=width / factor,
    )


# log2 of the band energy of one octave over that of the next coarser one, for clean faces' lower end.
_CLEAN_STEP = -1.3


def _ramp(x: float, low: float, high: float) -> float:
    return min(1.0, max(0.0, (x - low) / (high - low)))


def _half(level: Float32) -> Float32:
    h, w = level.shape[0] // 2, level.shape[1] // 2
    return cast(Float32, cv2.resize(level[:2 * h, :2 * w], (w, h), interpolation=cv2.INTER_AREA))


def _cells(values: Float32, n: int) -> Float32:
    """Means over n×n cells."""
    h, w = values.shape[0] // n, values.shape[1] // n
    return cast(Float32, cv2.resize(values[:h * n, :w * n], (w, h), interpolation=cv2.INTER_AREA))


def _usable(patch: Float32) -> tuple[NDArray[np.bool_], float]:
    """Which 8×8 cells carry picture (neither clipped nor missing), and the share that is missing.

    Missing is a flat patch (the picture is constant over at least a cell) whose rim is a hard edge; a clipped
    highlight or a black background fades into its surroundings, a hole does not.
    """
    h, w = patch.shape[0] // 8 * 8, patch.shape[1] // 8 * 8
    kernel = np.ones((5, 5), np.uint8)
    spread = cv2.dilate(patch[:h, :w], kernel) - cv2.erode(patch[:h, :w], kernel)
    flat = (spread < 1.0).astype(np.uint8)
    clipped = _cells(patch[:h, :w], 8)
    usable = (clipped > 5.0) & (clipped < 250.0)
    share = 0.0
    if cv2.countNonZero(flat) > 0.002 * flat.size:
        count, labels, stats, _ = cv2.connectedComponentsWithStats(flat, connectivity=4)
        for i in range(1, count):
            area = int(stats[i, cv2.CC_STAT_AREA])
            if area < max(12, 0.001 * flat.size):
                continue
            x, y, bw, bh = (int(v) for v in stats[i, :4])
            box = np.s_[max(0, y - 6):y + bh + 6, max(0, x - 6):x + bw + 6]
            inside = (labels[box] == i).astype(np.uint8)
            # `flat` is eroded by two pixels: the rim of the patch itself lies two to four pixels outside.
            rim = cv2.dilate(inside, np.ones((11, 11), np.uint8)) - cv2.dilate(inside, np.ones((3, 3), np.uint8))
            step = spread[box][rim > 0]
            if step.size and float(np.median(step)) > 12.0:
                share += cv2.countNonZero(cv2.dilate(inside, kernel)) / flat.size
                usable &= ~(_cells(cast(Float32, (labels == i).astype(np.float32)), 8) > 0.1)
    return usable, min(1.0, 2.5 * math.sqrt(share)) if share else 0.0


def _fine(level: Float32, usable: NDArray[np.bool_]) -> tuple[float, float]:
    """Standard deviation of the diagonal Haar band in a smooth and in a busy cell (25th and 95th percentile)."""
    a, b, c, d = level[:-1:2, :-1:2], level[:-1:2, 1::2], level[1::2, :-1:2], level[1::2, 1::2]
    diagonal = (a - b - c + d) * np.float32(0.5)
    cells = _cells(diagonal * diagonal, 4)
    if usable.shape != cells.shape:
        usable = cv2.resize(usable.astype(np.uint8), cells.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
    values = np.sort(cells[usable] if np.count_nonzero(usable) >= 8 else cells, axis=None)
    return math.sqrt(values[len(values) // 4]), math.sqrt(values[int(len(values) * 0.95)])


def _bands(levels: list[Float32], noise: tuple[float, float]) -> tuple[list[float], list[float], float]:
    """Energy of each octave's band-pass gradients less that of the noise, their coherence, and the blur's angle.

    Coherence is (λ1 − λ2)/(λ1 + λ2) of the structure tensor: motion leaves gradients across its path only.
    """
    energies: list[float] = []
    coherences: list[float] = []
    sxx = syy = sxy = 0.0
    for i, level in enumerate(levels):
        band = level - cv2.GaussianBlur(level, (5, 5), 0)
        dx, dy = band[1:-1, 2:] - band[1:-1, :-2], band[2:, 1:-1] - band[:-2, 1:-1]
        xx, yy, xy = (float(np.vdot(p, q)) / (4 * dx.size) for p, q in ((dx, dx), (dy, dy), (dx, dy)))
        whole = xx + yy
        spent = noise[i] ** 2 if i < 2 else 0.0
        energies.append(max(whole - spent, 0.05 * whole, 1e-6))
        coherences.append(math.hypot(xx - yy, 2 * xy) / energies[-1])
        sxx, syy, sxy = sxx + xx / (whole + 1e-6), syy + yy / (whole + 1e-6), sxy + xy / (whole + 1e-6)
    across = 0.5 * math.degrees(math.atan2(2 * sxy, sxx - syy))
    return energies, [min(1.0, c) for c in coherences[:3]], (across + 90.0) % 180.0


def _pixelation(patch: Float32) -> float:
    """1 − 1/f where whole rows and columns repeat f times; 0 where they do not.

    A row's step is its mean distance from the one before. Repeated rows have steps of (nearly) nothing between
    large ones; no texture, blur or transform codec does that over the whole width of a face.
    """
    shares: list[float] = []
    for axis in (0, 1):
        steps = np.abs(np.diff(patch, axis=axis)).mean(axis=1 - axis)
        large = np.sort(steps)[int(len(steps) * 0.95)] + 0.05
        still = steps < 0.08 * large
        shares.append(float(np.mean(still)) if np.mean(still) > 0.3 else 0.0)
    return min(shares)


def _blockiness(patch: Float32) -> float:
    """How much steps at one phase of an 8-pixel grid exceed the others (Wang, Sheikh, Bovik 2002), any phase."""
    ratios: list[float] = []
    for axis in (0, 1):
        steps = np.abs(np.diff(patch, axis=axis)).mean(axis=1 - axis)
        n = len(steps) // 8
        if n < 3:
            return 0.0
        phases = steps[:8 * n].reshape(n, 8).mean(axis=0)
        peak = float(phases.max())
        ratios.append(peak / ((float(phases.sum()) - peak) / 7 + 0.1))
    return _ramp(math.log2(math.sqrt(ratios[0] * ratios[1])), 0.25, 1.6)
