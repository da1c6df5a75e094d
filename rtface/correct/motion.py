"""Estimates motion within a face between two crops, and their agreement.

The crops are aligned to each other by the track's similarity transform. Motion within the face (the head turning, the
jaw) is followed by dense inverse search flow (Kroeger et al. 2016) between the small inputs. All costly steps run on
1/16 of the samples.
"""

from __future__ import annotations

import threading
from typing import Any, cast

import cv2
import numpy as np

from rtface.correct.colour import cells_of
from rtface.correct.mask import median_of
from rtface.frame import Bytes, Float32

SHRINK = 4
"""Factor by which crops are reduced for motion and agreement."""
ROWS = 16
"""Distance of the crop's rows on which noise is measured."""
FINE = 1.4
"""From this many crop pixels per image pixel on, bilinear warping causes no visible loss of sharpness."""
_NOISE_FLOOR = 4.0 / 255.0  # difference between frames that a codec causes on a motionless face
_MIN_FLOW_SAMPLES = 0.06  # smaller mean flow, in samples of the small crop, counts as no motion
_MIN_RELIABLE_FLOW_SAMPLES = 0.01  # the same, for the reliable part of the flow
_MIN_EXPLAINED, _MIN_RMS = 0.1, 0.3 / 255.0  # flow counts if it reduces the difference by more than this share
_MAX_CHANGE_SHARE = 0.8  # if a uniform shift leaves less than this share of the change, the whole image moves
_NEIGHBOURHOOD_SAMPLES = 3.0  # standard deviation of the local mean of differences
# Inputs disagree if they differ by the first multiple of the noise; the second is the width of the ramp below it.
_DIFFERENCE_NOISES, _DIFFERENCE_RAMP_NOISES = 3.0, 1.5


def small_of(c: Float32) -> Float32:
    """Returns area averages of a crop, 3×S/4×S/4."""
    return cells_of(c, c.shape[1] // SHRINK)


_searches = threading.local()  # shared by all tracks, because each search occupies a few hundred kB


def dense_flow(now: Bytes, before: Bytes, *, fine: bool = False) -> Float32:
    """Returns where each sample was in the earlier picture, float32 h×w×2.

    Args:
        now, before: the later and the earlier picture, uint8 h×w.
        fine: search one octave finer, with refinement. This takes 1 ms per pair instead of 0.25 ms.
    """
    # After a change of size, OpenCV's search still contains samples of the previous pair, which may show another face.
    name = f"{now.shape} {fine}"
    if (search := getattr(_searches, name, None)) is None or now.shape[0] % 32:
        search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        if fine:
            search.setFinestScale(1)
            search.setVariationalRefinementIterations(2)
        setattr(_searches, name, search)
    return cast(Float32, search.calc(now, before, np.zeros((*now.shape, 2), np.float32)))


def motion_between(now: Float32, before: Float32) -> Float32 | None:
    """Returns where each sample was in the earlier small input, n×n×2. None without motion."""
    small: list[Any] = [cv2.convertScaleAbs(p[1], alpha=255.0) for p in (now, before)]
    flow = dense_flow(*small)
    if float(np.abs(flow).mean()) <= _MIN_FLOW_SAMPLES:
        return None
    flow = reliable_flow(flow, now[1], before[1])
    return flow if float(np.abs(flow).mean()) > _MIN_RELIABLE_FLOW_SAMPLES else None


def reliable_flow(flow: Float32, now: Float32, before: Float32, expected: Float32 | None = None) -> Float32:
    """Weights a flow by how much better than expected it explains change.

    Without this, warped images would jitter, because dense flow of a compressed face jitters by some tenths of a pixel.

    Args:
        flow: float32 n×n×2, from `now` to `before`.
        now, before: float32 n×n, 0…1.
        expected: float32 n×n×2, the flow to use where `flow` is not better. None: no motion, or uniform
            motion if it explains clearly more of the change.
    """
    base: Any = expected
    if expected is None:
        uniform: Any = np.full(flow.shape, cv2.mean(flow)[:2], np.float32)
        moves = cv2.norm(now, shifted(before, uniform), cv2.NORM_L1) < _MAX_CHANGE_SHARE * cv2.norm(
            now, before, cv2.NORM_L1
        )
        base = uniform if moves else np.zeros_like(flow)
    base_rms = _rms(now - shifted(before, base))
    flow_rms = _rms(now - shifted(before, flow))
    weight = np.clip((base_rms - flow_rms) / (flow_rms + np.float32(_MIN_RMS)) - np.float32(_MIN_EXPLAINED), 0.0, 1.0)
    weight = cv2.GaussianBlur(weight, (0, 0), 2.0)[..., None]
    return base + weight * (flow - base)


def shifted(plane: Float32, flow: Float32) -> Float32:
    """Warps an image, float32 n×n, along the flow."""
    x, y = sampling_coordinates(flow, (slice(0, len(flow)), slice(0, len(flow))), 1)
    return cast(Float32, cv2.remap(plane, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def _rms(difference: Float32) -> Float32:
    return cast(Float32, cv2.sqrt(cv2.GaussianBlur(difference * difference, (0, 0), _NEIGHBOURHOOD_SAMPLES)))


def warped(image: Float32, flow: Float32, low: tuple[slice, slice], interpolation: int) -> Float32:
    """Warps a part of an image, 3×n×n, along the flow. `low` is the part, in samples of the flow."""
    x, y = sampling_coordinates(flow, low, image.shape[1] // flow.shape[0])
    return cast(
        Float32, np.stack([cv2.remap(plane, x, y, interpolation, borderMode=cv2.BORDER_REPLICATE) for plane in image])
    )


def sampling_coordinates(flow: Float32, low: tuple[slice, slice], factor: int) -> tuple[Float32, Float32]:
    """Returns columns and rows for `cv2.remap` of the part `low`. The image is `factor` times as large as the flow."""
    rows, columns = (np.arange(s.start * factor, s.stop * factor, dtype=np.float32) for s in low)
    offsets: Any = (
        cv2.resize(flow[low], (len(columns), len(rows)), interpolation=cv2.INTER_LINEAR)
        if factor > 1
        else flow[low].copy()
    )
    offsets *= np.float32(factor)
    x: Float32 = offsets[..., 0] + columns
    y: Float32 = offsets[..., 1] + rows[:, None]
    return x, y


def agreement(now: Float32, before: Float32, ceiling: float) -> Float32:
    """Returns 1 where two small inputs agree within noise, 0 elsewhere.

    The noise level is the 20th percentile of the difference, but at most `ceiling` (`noise_of` the crop's rows), so
    that motion all over the crop is not mistaken for noise.
    """
    square: Any = np.zeros(now.shape[1:], np.float32)
    for a, b in zip(now, before, strict=True):
        difference: Any = cv2.subtract(a, b)
        square = np.maximum(square, cv2.boxFilter(cv2.multiply(difference, difference), -1, (3, 3)))
    difference = np.sqrt(square)
    # For noise, this percentile of the maximum of three channels (root mean squares of 9 samples) is about sigma.
    sampled = difference[::2, ::2].ravel()
    calm = float(np.partition(sampled, sampled.size // 5)[sampled.size // 5])
    level = max(min(calm, ceiling), _NOISE_FLOOR)
    gate = np.clip(
        (np.float32(_DIFFERENCE_NOISES) - difference / np.float32(level)) / np.float32(_DIFFERENCE_RAMP_NOISES),
        0.0,
        1.0,
    )
    return cast(Float32, cv2.erode(gate.astype(np.float32), np.ones((3, 3), np.uint8)))


def noise_of(rows: Float32, scale: float) -> float:
    """Estimates the largest difference that noise causes between two small inputs. `rows` is every `ROWS`-th row of the
    crop's green channel, float32 m×S; `scale` is crop pixels per image pixel."""
    lag = max(1, round(scale))
    second_differences = np.abs(rows[:, lag:-lag] - np.float32(0.5) * (rows[:, 2 * lag :] + rows[:, : -2 * lag]))
    sigma = median_of(second_differences) / 0.6745 / np.sqrt(1.5)
    # √2, because both inputs contain noise. Averaging 4×4 leaves 1/4 of white noise, and all of coarse noise: 0.6.
    return 0.6 * float(np.sqrt(2.0)) * sigma
