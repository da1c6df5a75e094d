"""Scores the degradation of a face, from the luma of its core.

The core spans eyes to mouth. Everything is measured on the *native* grid, before any resampling: 8×8 blocks, repeated
rows and pixel noise exist only there. A face whose core is larger than `SIDE` is reduced to it for all but the
block and row measures, because no engine uses more detail.

Each score is 0 for a clean face and 1 if little is left of it; at about 0.2 a difference to the original becomes
visible. All are robust statistics of band-pass energies, in the tradition of Immerkær's noise and Wang, Sheikh and
Bovik's blockiness estimators; the constants come from some 1,900 portraits and their degradations.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from typing import Any, TypeVar, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from rtface.frame import Bytes, Float32

P = TypeVar("P", Float32, NDArray[np.uint8])

SIDE = 256
"""Largest side of the measured patch in pixels: a core this large fills a 512 crop."""

CORE = 0.9
"""Side of the core as a fraction of the face's width."""


@dataclass(frozen=True, slots=True)
class Analysis:
    """Degradation of a face, each score 0 (none) … 1 (little is left).

    Attributes:
        motion_blur: detail is missing along one direction only.
        low_resolution: detail is missing in all directions: upscaled or out of focus.
        compression: score of the codec's quantiser step if that is known (10 of 255 gives 0.2, 40 gives 0.6); otherwise
            of block edges, and of flat blocks next to sharp edges.
        pixelation: rows and columns of pixels repeat (mosaic, nearest-neighbour scaling).
        missing: score of the core's share in flat patches with a hard edge: dropouts, tape, stickers, torn paper.
        noise: grain and sensor noise; a standard deviation of 2 of 255 gives 0.2, of 6 0.5, of 20 0.9; less on a
            small face, whose texture hides it.
        under_exposure: even the brightest parts are dark.
        over_exposure: highlights are clipped.
        low_contrast: even the darkest parts are light.
        motion_angle: direction of the motion, degrees 0…180, 0 along x, 90 along y; meaningful only with motion_blur.
        detail: width in pixels that would suffice for the face's detail.
        error, remaining: expected mean squared errors in the face's oval, in squared 8-bit code values, before and
            after the first stage (`rtface.enhance.coded_stage`); 0 if not measured.
        ring_error, ring_remaining: the same round the oval: hair, ears, neck and background.
        step: geometric mean of the codec's quantiser steps in the face (`rtface.frame.Quantisers`); 0 if unknown.
        unreached: share of the gain predicted from errors and step that this codec does not reach, 0…1.
        shown: factor by which the face is enlarged (``--scale``) from the size at which it was measured.
        hidden: how surely the face was hidden on purpose (`rtface.analysis.hidden`), 0…1.
    """

    motion_blur: float = 0.0
    low_resolution: float = 0.0
    compression: float = 0.0
    pixelation: float = 0.0
    missing: float = 0.0
    noise: float = 0.0
    under_exposure: float = 0.0
    over_exposure: float = 0.0
    low_contrast: float = 0.0
    motion_angle: float = 0.0
    detail: float = 0.0
    error: float = 0.0
    remaining: float = 0.0
    ring_error: float = 0.0
    ring_remaining: float = 0.0
    step: float = 0.0
    unreached: float = 0.0
    shown: float = 1.0
    hidden: float = 0.0

    def scores(self) -> dict[str, float]:
        """Returns the nine scores by name."""
        return {name: value for name, value in asdict(self).items() if name in SCORES}


_VALUES = ("motion_angle", "detail", "error", "remaining", "ring_error", "ring_remaining", "step", "unreached", "shown")
SCORES: tuple[str, ...] = tuple(f.name for f in fields(cast(Any, Analysis)) if f.name not in (*_VALUES, "hidden"))


def compression_of(step: float) -> float:
    """Returns the compression score for a quantiser step (`rtface.frame.Quantisers`)."""
    return 1 - math.exp(-step / 40.0)


def luma(rgb: Bytes) -> Float32:
    """Converts H×W×3 uint8 to H×W float32, 0…255 (BT.601). Rounding is avoided: it would look like flat blocks."""
    return cast(Float32, cv2.cvtColor(rgb.astype(np.float32), cv2.COLOR_RGB2GRAY))


def measure(patch: Float32, width: float, grid: Float32 | None = None) -> Analysis:
    """Measures all scores of a patch.

    Args:
        patch: luma of the face's core, float32 h×w, 0…255, not rounded; 24…`SIDE` px a side. On the native grid, or
            reduced to `SIDE` if the core is larger.
        width: width of the face in the patch's pixels.
        grid: luma around the face on the native grid, if `patch` was reduced or is small; for the block and row
            measures, which need many blocks.
    """
    steps = _steps(patch)
    # Mean steps from each row, and from each column.
    means = [
        cv2.reduce(step, 1 - axis, cv2.REDUCE_AVG) for axis, step in enumerate(steps if grid is None else _steps(grid))
    ]
    lines = [cast(Float32, mean).ravel() for mean in means]
    fewest = min(line.size for line in lines)
    blocks = ramp(sum(_blockiness(line) for line in lines) / 2, max(0.25, 34 / fewest), 1.6)
    levels = [patch]
    for _ in range(3):
        levels.append(_half(levels[-1]))
    usable, missing = _usable(patch)
    smooth = [_smooth_cell(level, usable) for level in levels[:3]]
    lost_octaves, contrast, coherence, angle = _bands(levels, smooth)

    motion = sum(ramp(c, 0.3, 0.8) for c in coherence) / 3
    factor = 2 ** (0.53 * lost_octaves)
    # A smaller face has more texture in every cell, and fewer cells to average over. Values of clean faces were
    # measured at nine widths from 45 to 285 px.
    texture_factor = (width / 285) ** 0.3
    low_resolution = (1 - 1 / factor) * (1 - motion)
    equal = ramp(_equal_share(steps, usable, contrast) / factor, 0.21 * texture_factor, 0.45 * texture_factor)
    # Grain may be coarser than a pixel: upscaled, or smoothed by a camera.
    expected = (1.3 + 185 / width, 3.1 + 24e3 / width**2, 2.2 + 125e3 / width**2)
    noise = max(
        math.sqrt(max(0.0, (1.12 * deviation) ** 2 - clean**2))
        for deviation, clean, level in zip(smooth, expected, levels, strict=False)
        if level is patch or min(level.shape) >= 48
    )  # at smaller sizes every cell contains a feature of the face
    sample = patch[::4, ::4].ravel()
    count = sample.size // 100
    ordered = np.partition(sample, (count, -1 - count))
    dark, bright = float(ordered[count]), float(ordered[-1 - count])
    clipped = np.count_nonzero(patch > 250.0) / patch.size
    overexposed = 1 - math.exp(-max(0.0, clipped - 0.04) / 0.3)
    repetition = max(min(_repetition(line) for line in lines), min(_comb_factor(line) for line in lines))
    pixelation = repetition * (1 - overexposed)  # clipped rows repeat too
    evidence = ramp(np.count_nonzero(usable) / usable.size, 0.1, 0.5)  # few usable pixels are no evidence
    return Analysis(
        motion_blur=motion,
        low_resolution=low_resolution,
        compression=(1 - (1 - blocks) * (1 - equal)) * max(0.0, 1 - 2 * pixelation) * evidence,
        pixelation=pixelation,
        missing=missing * (1 - pixelation) * (1 - blocks),  # blocks of one colour are flat with hard edges too
        noise=1 - math.exp(-noise / 9),
        under_exposure=ramp(-bright, -130.0, -45.0),
        over_exposure=overexposed,
        # Blur and overexposure lighten pupils too.
        low_contrast=ramp(dark, 25.0, 95.0) * (1 - motion) * (1 - low_resolution) * (1 - overexposed),
        motion_angle=angle,
        detail=width / factor,
    )


# Minimum size of a hole, as a share of the patch; minimum edge all round a hole, and all round a white hole. The last
# is higher, because clipped light and a white wall behind a cheek have edges of up to 93.
_MIN_HOLE_SHARE, _MIN_EDGE, _MIN_WHITE_EDGE = 0.002, 20.0, 110.0

# log2 of the band energy of one octave over that of the next coarser one: the tenth percentile of clean faces.
_CLEAN_STEP = -1.55
# _GRAIN: energy of the grain over that of the calmest tenth of 8×8 cells, where the face itself has almost no energy;
# _MIN_CELLS: minimum number of cells for that; _MIN_REST_SHARE: minimum share of an octave that is not grain;
# _GRAIN_OCTAVES: tolerance for an octave of only grain, because what remains after subtraction is uncertain.
_GRAIN, _MIN_CELLS, _MIN_REST_SHARE, _GRAIN_OCTAVES = 1.3, 36, 0.03, 0.9


def ramp(x: float, low: float, high: float) -> float:
    """Returns 0 up to `low`, 1 from `high` on, linear between."""
    return float(min(1.0, max(0.0, (x - low) / (high - low))))


def _half(level: Float32) -> Float32:
    h, w = level.shape[0] // 2, level.shape[1] // 2
    return cast(Float32, cv2.resize(level[: 2 * h, : 2 * w], (w, h), interpolation=cv2.INTER_AREA))


def _cells(values: P, n: int) -> P:
    """Returns means over n×n cells."""
    h, w = values.shape[0] // n, values.shape[1] // n
    return cast(P, cv2.resize(values[: h * n, : w * n], (w, h), interpolation=cv2.INTER_AREA))


def _resize_mask(mask: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Returns the mask of cells at another size."""
    return cv2.resize(mask, shape[::-1], interpolation=cv2.INTER_NEAREST).view(np.bool_)


def _usable(patch: Float32) -> tuple[NDArray[np.uint8], float]:
    """Returns a mask of usable 8×8 cells (0 or 1), and `missing`.

    Cells are usable if neither clipped nor missing. A missing part is a flat patch whose whole rim is a hard edge: a
    clipped highlight or a black background fades into its surroundings somewhere, but a hole does not.
    """
    cropped = patch[: patch.shape[0] // 8 * 8, : patch.shape[1] // 8 * 8]
    inside = ((cropped > 5.0) & (cropped < 250.0)).view(np.uint8) * np.uint8(255)
    kernel = np.ones((5, 5), np.uint8)
    codes = cropped.astype(np.uint8)
    spread = cv2.subtract(cv2.dilate(codes, kernel), cv2.erode(codes, kernel))
    flat = (spread == 0).view(np.uint8)
    share = 0.0
    smallest = max(24.0, _MIN_HOLE_SHARE * flat.size)
    if cv2.countNonZero(flat) >= smallest:
        count, labels, stats, _ = cv2.connectedComponentsWithStats(flat, connectivity=4)
        for i in range(1, count):
            x, y, w, h, area = (int(v) for v in stats[i])
            if area < smallest:
                continue
            box = np.s_[max(0, y - 6) : y + h + 6, max(0, x - 6) : x + w + 6]
            hole = (labels[box] == i).view(np.uint8)
            # `flat` is eroded by two pixels, so the edge of the hole is two to four pixels outside.
            white = codes[box][hole > 0][0] > 250
            reach = np.ones((7, 7) if white else (11, 11), np.uint8)
            rim = cv2.dilate(hole, reach) - cv2.dilate(hole, np.ones((3, 3), np.uint8))
            edge = np.sort(spread[box][rim > 0])
            if edge.size and edge[edge.size // 5] > (_MIN_WHITE_EDGE if white else _MIN_EDGE):
                grown = cv2.dilate(hole, kernel)
                share += cv2.countNonZero(grown) / flat.size
                inside[box][grown > 0] = 0
    return (_cells(inside, 8) > 229).view(np.uint8), min(1.0, 2.5 * math.sqrt(share))


def _smooth_cell(level: Float32, usable: NDArray[np.uint8]) -> float:
    """Returns the deviation of the diagonal Haar band in smooth cells. The 25th percentile of 8×8 cells is noise, not
    texture."""
    if min(level.shape) < 16:
        return 0.0
    a, b, c, d = level[:-1:2, :-1:2], level[:-1:2, 1::2], level[1::2, :-1:2], level[1::2, 1::2]
    diagonal = cast(Float32, a - b - c + d)
    cells = _cells(diagonal * diagonal, 4) / np.float32(4)
    values = cells[_resize_mask(usable, cells.shape)]
    # Unusable cells are mostly smooth and count as such; otherwise texture in the usable ones would count as noise.
    quarter = max(0, cells.size // 4 - (cells.size - values.size))
    return math.sqrt(np.partition(values, quarter)[quarter]) if values.size >= 8 else 0.0


def _equal_share(steps: tuple[Float32, Float32], usable: NDArray[np.uint8], contrast: float) -> float:
    """Returns the share of neighbouring pixels that are almost equal.

    A codec that drops residuals copies or extends blocks. Almost equal means half a code value at a usual face's
    contrast (band energy 150 at 1/8 of the size), and less at a lower contrast. Below a third of the usual contrast,
    rounding makes pixels equal, and the share is 0.
    """
    relative = min(1.0, math.sqrt(contrast / 150.0))
    mask = _resize_mask(usable, (steps[0].shape[0] + 1, steps[0].shape[1]))
    total = count = 0
    for step, used in zip(steps, (mask[1:], mask[:, 1:]), strict=True):
        count += np.count_nonzero((step < 0.5 * relative) & used)
        total += np.count_nonzero(used)
    return count / total * ramp(relative, 0.35, 0.7) if total else 0.0


def _bands(levels: list[Float32], noise: list[float]) -> tuple[float, float, list[float], float]:
    """Measures octaves: how many are lost, energy, coherence, and the blur's angle.

    The energy is that of the coarsest octave's gradients; the coherence is that of the finer octaves. An octave is
    judged by its energy minus white noise, and by its energy minus grain of any size, which the calmest cells show:
    grain is everywhere, detail only at a face's features. The larger loss is used.
    Coherence is (λ1 − λ2)/(λ1 + λ2) of the structure tensor: motion leaves only gradients across its path.
    """
    energies: list[tuple[float, float, float]] = []  # minus white noise, minus grain, share of grain
    coherences: list[float] = []
    sxx = syy = sxy = 0.0
    for i, level in enumerate(levels):
        band = cv2.subtract(level, cv2.GaussianBlur(level, (5, 5), 0))
        dx = cv2.subtract(band[1:-1, 2:], band[1:-1, :-2])
        dy = cv2.subtract(band[2:, 1:-1], band[:-2, 1:-1])
        xx, yy, xy = (float(np.vdot(p, q)) / (4 * dx.size) for p, q in ((dx, dx), (dy, dy), (dx, dy)))
        total = xx + yy
        floor = noise[i] ** 2 if i < len(noise) else 0.0
        energy = max(total - floor, 0.05 * total, 1e-6)
        coherences.append(math.hypot(xx - yy, 2 * xy) / energy)
        if i < len(noise) and min(dx.shape) >= 8 and (cells := _cells(dx * dx + dy * dy, 8)).size >= _MIN_CELLS:
            floor = max(floor, _GRAIN / 4 * float(np.partition(cells.ravel(), cells.size // 10)[cells.size // 10]))
        signal = max(total - floor, _MIN_REST_SHARE * total, 1e-6)
        energies.append((energy, signal, 1.0 - signal / max(total, 1e-6)))
        sxx, syy, sxy = sxx + xx / (total + 1e-6), syy + yy / (total + 1e-6), sxy + xy / (total + 1e-6)
    lost = sum(
        max(0.0, _CLEAN_STEP - math.log2(a / b), _CLEAN_STEP - _GRAIN_OCTAVES * grain - math.log2(c / d))
        for (a, c, grain), (b, d, _) in pairwise(energies)
    )
    across = 0.5 * math.degrees(math.atan2(2 * sxy, sxx - syy))
    return lost, energies[3][0], [min(1.0, c) for c in coherences[:3]], (across + 90.0) % 180.0


def _steps(patch: Float32) -> tuple[Float32, Float32]:
    """Returns absolute differences down the columns and along the rows."""
    return (cast(Float32, cv2.absdiff(patch[1:], patch[:-1])), cast(Float32, cv2.absdiff(patch[:, 1:], patch[:, :-1])))


def _repetition(line: Float32) -> float:
    """Returns 1 − 1/f if rows (columns) repeat f times, else 0.

    Repeated rows have steps of almost 0 between large ones; no texture, blur or transform codec does that
    over the whole width of a face.
    """
    large = np.partition(line, -1 - line.size // 20)[-1 - line.size // 20] + 0.05
    share = int(np.count_nonzero(line < 0.12 * large)) / line.size
    return share if share > 0.3 else 0.0


def _comb_factor(line: Float32) -> float:
    """Returns 1 − 1/f if steps peak at regular distances f, else 0.

    The rows between the peaks may differ after coding. Codecs' block sizes are excluded; `_blockiness` measures these.
    """
    peaks = 1 + np.flatnonzero(line[1:-1] > 2.0 * np.maximum(line[:-2], line[2:]) + 0.2)
    if peaks.size < 6:
        return 0.0
    gaps = np.diff(peaks)
    distances = np.maximum(1.0, np.rint(gaps / np.median(gaps)))  # in blocks, because some steps are too small to peak
    factor = float(gaps.sum() / distances.sum())
    is_regular = np.count_nonzero(np.abs(gaps - factor * distances) <= 1.0) >= 0.8 * gaps.size
    if not is_regular or factor * peaks.size < 0.5 * line.size or min(abs(factor - n) for n in (4, 8, 16)) < 0.1:
        return 0.0
    return 1 - 1 / factor


def _blockiness(line: Float32) -> float:
    """Compares the strongest phase's step with the others (log2). By Wang, Sheikh, Bovik 2002, on an 8-pixel grid."""
    n = line.size // 8
    if n < 3:
        return 0.0
    phases = np.sort(line[: 8 * n].reshape(n, 8), axis=0)[n // 2]  # median, because one hard edge is not a grid
    peak = float(phases.max())
    return math.log2(max(1.0, peak / ((float(phases.sum()) - peak) / 7 + 0.1)))
