"""Averages restored crops over time, gated, for engines without recurrent state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from rtface.correct.motion import FINE, ROWS, SHRINK, agreement, motion_between, noise_of, small_of, warped
from rtface.frame import Float32

_TAU_S, _MAX_GAP_S = 0.12, 0.5
"""Time constant τ, and the gap after which the average restarts."""


@dataclass(frozen=True, slots=True)
class Blend:
    """Blend of the running average into the next frame, at n = S/4.

    Attributes:
        flow: float32 n×n×2, position in the average (x and y, in samples of n×n); None without motion.
        gate: float32 n×n, 0…1, weight of the average.
    """

    flow: Float32 | None
    gate: Float32

    @property
    def nbytes(self) -> int:
        return self.gate.nbytes + (0 if self.flow is None else self.flow.nbytes)


class TemporalAverage:
    """Averages one track: r̄ₜ = g·warp(r̄ₜ₋₁) + (1 − g)·rₜ, with a gate g per pixel.

    Motion within the face is followed (`rtface.correct.motion`). g is exp(−Δt/τ) where the warped average of the
    previous inputs agrees with this input within the noise, and falls to 0 where they differ: blink, mouth, light, a
    hand. The input is averaged with the same gate, so that slow drifts add up and are detected.

    r is averaged rather than d = r − c: an average of d would leave this frame's noise in the image.

    `update` does everything on the CPU. A GPU keeps the average itself and calls `follow` for the rest.

    Attributes:
        kept: the average so far, in any form that suits the device; None without one.
    """

    def __init__(self) -> None:
        self.kept: Any = None
        self._spare: Float32 | None = None
        self._input: Float32 | None = None
        self._time = 0.0

    def reset(self) -> None:
        """Resets the average, after a cut or a seek."""
        self.kept = self._spare = self._input = None

    def update(
        self, r: Float32, c: Float32, time: float, scale: float = 1.0, box: tuple[int, int, int, int] | None = None
    ) -> Float32:
        """Adds one restored crop, and returns the average.

        Args:
            r: float32 3×S×S, the restored crop; not changed.
            c: float32 3×S×S, the engine's input.
            time: seconds, rising.
            scale: crop pixels per image pixel: noise is coarser by this factor.
            box: x0, y0, x1, y1 of the part to average (the mask's support); the rest of the result is `r`.

        Returns:
            float32 3×S×S, the average; valid until the next call.
        """
        now = small_of(c)
        mean: Float32 | None = self.kept if isinstance(self.kept, np.ndarray) and self.kept.shape == r.shape else None
        blend = self.follow(now, c[1, ::ROWS], time, scale, has_average=mean is not None)
        if mean is None or blend is None:
            self.kept, self._spare = r.copy(), np.empty_like(r)
            return self.kept
        average = self._spare if self._spare is not None else np.empty_like(r)
        np.copyto(average, r)
        x0, y0, x1, y1 = low_box(box or (0, 0, r.shape[2], r.shape[1]))
        low = slice(y0, y1), slice(x0, x1)
        part = tuple(slice(s.start * SHRINK, s.stop * SHRINK) for s in low)
        if blend.flow is None:
            old_part = mean[:, part[0], part[1]]
        else:
            old_part = warped(mean, blend.flow, low, cv2.INTER_LINEAR if scale >= FINE else cv2.INTER_CUBIC)
        height, width = old_part.shape[1:]
        full: Any = cv2.resize(blend.gate[low], (width, height), interpolation=cv2.INTER_LINEAR)
        for new, old in zip(average[:, part[0], part[1]], old_part, strict=True):
            change: Any = cv2.subtract(old, new)
            cv2.multiply(change, full, dst=change)
            new += change
        self.kept, self._spare = average, mean
        return average

    def follow(self, now: Float32, rows: Float32, time: float, scale: float, *, has_average: bool) -> Blend | None:
        """Adds the next small input, and returns its blend. None for a restart.

        Args:
            now: float32 3×n×n, n = S/4: c averaged over 4×4 samples. It is stored.
            rows: float32 m×S, every 16th row of c's green.
            time, scale: as in `update`.
            has_average: whether `kept` is an average of such crops.
        """
        size, before = now.shape[1], self._input
        elapsed, self._time = time - self._time, time
        if not has_average or before is None or before.shape != now.shape or not 0.0 <= elapsed <= _MAX_GAP_S:
            self._input = now
            return None
        flow = motion_between(now, before)
        if flow is not None:
            before = warped(before, flow, (slice(0, size), slice(0, size)), cv2.INTER_LINEAR)
        gate = agreement(now, before, noise_of(rows, scale)) * np.float32(np.exp(-elapsed / _TAU_S))
        for new, old in zip(now, before, strict=True):
            old -= new
            old *= gate
            old += new
        self._input = before
        return Blend(flow, gate)


def low_box(box: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """Returns the samples of a small input that a crop's box covers."""
    x0, y0, x1, y1 = box
    return x0 // SHRINK, y0 // SHRINK, -(-x1 // SHRINK), -(-y1 // SHRINK)
