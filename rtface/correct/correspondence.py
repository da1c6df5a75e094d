"""Matches two frames of a track by optical flow. A gate shows their agreement.

Dense flow is used only where it explains the change better than the expected flow does
(`motion.reliable_flow`). In a film, the speed of every sample is expected to be constant (`speed_of`,
the slope of a line through the flows to neighbouring frames). A film's flow is estimated twice: on
the light engine's answers, and then more finely on answers averaged over some frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import cv2
import numpy as np

from rtface.correct.colour import luma_of
from rtface.correct.mask import face_mask, median_of
from rtface.correct.motion import dense_flow, reliable_flow, shifted, warped
from rtface.frame import Box, Float32

SIDE = 128
"""Side in samples of the images on which optical flow and agreement are computed."""
FACE = face_mask(SIDE)
"""float32 SIDE×SIDE, weight of the face."""
_INSIDE = np.flatnonzero(FACE > 0.5)
_ROWS, _COLUMNS = np.mgrid[:SIDE, :SIDE].astype(np.float32)
# Root mean square difference at which the gate starts to close, and its upper bound.
_MIN_GATE_RMS, _MAX_GATE_RMS = 6.0 / 255.0, 14.0 / 255.0
_MEAN_SD_SAMPLES = 2.0  # standard deviation of the local mean square
_MIN_FLOW_SAMPLES = 0.01  # flow below this is treated as no motion


@dataclass(slots=True)
class FaceFeatures:
    """A face on one frame.

    Attributes:
        time: seconds.
        guide: float32 3×n×n, 0…1, input for motion and agreement: the light engine's answer, which
            is cleaner than its crop; the crop in runs that do not wait for the answer.
        light: float32 3×n×n, 0…1, the light engine's answer; None until it is available.
        key: float32 3×S×S, the heavy engine's answer without random differences; None between
            keyframes.
        added: float32 3×n×n, the heavy engine's full answer minus `light`; set with `key`.
        changed: float32 SIDE×SIDE, mean square difference between `key` and the output without
            `key`; set with `key`.
        speed: float32 SIDE×SIDE×2, samples per frame; None until estimated.
        few, luma, grey: `guide` at SIDE×SIDE in RGB, its luma in 0…1, and its luma as uint8.
    """

    time: float
    guide: Float32
    light: Float32 | None = None
    key: Float32 | None = None
    added: Float32 | None = None
    changed: Float32 | None = None
    speed: Float32 | None = None
    few: Float32 = field(init=False)
    luma: Float32 = field(init=False)
    grey: Any = field(init=False)

    def __post_init__(self) -> None:
        self.few = resized(self.guide, SIDE)
        self.luma = luma_of(self.few)
        self.grey = cv2.convertScaleAbs(self.luma, alpha=255.0)

    def show_at(self, side: int) -> None:
        """Resizes `key` to the size of the current crops."""
        assert self.key is not None and self.light is not None
        if self.key.shape[1] == side:
            return
        self.key = resized(self.key, side)
        if self.light.shape[1] == side:  # larger crops make the output without a keyframe coarser
            self.changed = energy(self.key - self.light)


@dataclass(frozen=True, slots=True)
class Warp:
    """Optical flow from one frame's face to another's, and a gate. The flow is SIDE×SIDE×2, or None
    without motion. The gate, SIDE×SIDE, is 1 where both frames agree, and 0 where they differ."""

    flow: Float32 | None
    gate: Float32

    def fetch(self, image: Float32, box: Box = (0, 0, SIDE, SIDE)) -> Float32:
        """Warps the part `box` of the other frame's image to this frame. The image is float32
        3×m×m; the box is in samples of SIDE×SIDE."""
        k, (x0, y0, x1, y1) = image.shape[1] // SIDE, box
        if self.flow is None:
            return image[:, y0 * k : y1 * k, x0 * k : x1 * k]
        return warped(image, self.flow, (slice(y0, y1), slice(x0, x1)), cv2.INTER_CUBIC)


def warp_between(
    face: FaceFeatures, other: FaceFeatures, expected: Float32 | None = None, *, fine: bool = False
) -> Warp:
    """Estimates the warp between two frames by dense optical flow (DIS).

    Args:
        expected: float32 SIDE×SIDE×2, the flow to use where the estimate does not explain the change
            better; None as in `reliable_flow`.
        fine: as in `dense_flow`. On averaged answers, errors are 20 % smaller; on others, the flow follows noise.
    """
    flow: Float32 | None = reliable_flow(dense_flow(face.grey, other.grey, fine=fine), face.luma, other.luma, expected)
    if expected is None and float(np.abs(flow).max()) < _MIN_FLOW_SAMPLES:
        flow = None
    warped_planes = list(other.few) if flow is None else [shifted(plane, flow) for plane in other.few]
    return Warp(flow, _gate([a - b for a, b in zip(face.few, warped_planes, strict=True)]))


def speed_of(features: FaceFeatures, around: Sequence[tuple[int, FaceFeatures]], *, fine: bool) -> Float32:
    """Returns the speed in samples per frame, SIDE×SIDE×2: the slope of a line through the flows to other frames.

    Args:
        features: features of this frame.
        around: for each other frame, its distance in frames (negative if it is earlier) and its features.
        fine: as in `warp_between`.
    """
    slope = np.zeros((SIDE, SIDE, 2), np.float32)
    for distance, other in around:
        slope += np.float32(distance) * dense_flow(features.grey, other.grey, fine=fine)
    slope /= np.float32(max(sum(distance * distance for distance, _ in around), 1))
    return cast(Float32, cv2.GaussianBlur(slope, (0, 0), 2.0))


def flow_along(sequence: Sequence[FaceFeatures]) -> Float32:
    """Returns the flow from the first frame to the last: the sum of the speeds of all frames but the
    last."""
    forward = sequence[-1].time >= sequence[0].time
    x, y = _COLUMNS.copy(), _ROWS.copy()
    for features in sequence[:-1]:
        assert features.speed is not None
        step: Any = cv2.remap(features.speed, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        x += step[..., 0] if forward else -step[..., 0]
        y += step[..., 1] if forward else -step[..., 1]
    return cast(Float32, cv2.merge([x - _COLUMNS, y - _ROWS]))


def resized(image: Float32, side: int) -> Float32:
    """Resizes an image, c×n×n, to side×side."""
    shrinks = image.shape[1] > side
    return np.stack(
        [
            cv2.resize(plane, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
            for plane in image
        ]
    )


def energy(difference: Sequence[Float32] | Float32, size: tuple[int, int] = (SIDE, SIDE)) -> Float32:
    """Returns the local mean square of an image difference. `size` is its width and height; the
    difference has three planes, float32 h×w."""
    square: Any = cv2.multiply(difference[0], difference[0])
    for plane in difference[1:]:
        square += cv2.multiply(plane, plane)
    mean_square: Any = cv2.resize(square, size, interpolation=cv2.INTER_AREA)
    mean_square *= np.float32(1.0 / 3.0)
    return cast(Float32, cv2.GaussianBlur(mean_square, (0, 0), _MEAN_SD_SAMPLES))


def _gate(change: Sequence[Float32]) -> Float32:
    """Returns the gate: 1 where two frames agree, 0 where they differ. A change of light on the whole
    face is ignored."""
    error: Any = np.zeros((SIDE, SIDE), np.float32)
    for plane in change:
        difference = plane - np.float32(median_of(plane.ravel()[_INSIDE]))
        cv2.max(error, cv2.boxFilter(difference * difference, -1, (5, 5)), dst=error)
    error = np.sqrt(error)
    threshold = np.float32(min(max(_MIN_GATE_RMS, 3.0 * median_of(error.ravel()[_INSIDE])), _MAX_GATE_RMS))
    x = np.clip(np.float32(2.0) - error / threshold, 0.0, 1.0)
    gate = x * x * (np.float32(3.0) - 2 * x)
    return cast(Float32, cv2.GaussianBlur(cv2.erode(gate, np.ones((3, 3), np.uint8)), (5, 5), 1.2))
