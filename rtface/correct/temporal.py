"""Averages restored crops over time where they agree, for engines without memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from rtface.correct.motion import FINE, ROWS, SHRINK, agreement, motion_between, noise_of, small_of, warped
from rtface.frame import Float32

_TAU_S, _MAX_GAP_S = 0.12, 0.5
"""Time constant τ; gap between frames after which the average restarts."""


@dataclass(frozen=True, slots=True)
class Blend:
    """Blend of the running average with the next frame, at n = S/4.

    Attributes:
        flow: float32 n×n×2, motion to the average (x and y, in samples of n×n); None without motion.
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
    previous inputs agrees with this input within the noise. It falls to 0 where they differ: at a blink, a moving
    mouth, changed light, or a hand. The input is averaged with the same gate, so slow drifts add up and are detected.

    r is averaged rather than d = r − c, because an average of d would leave this frame's noise in the image.

    `update` does everything on the CPU. A GPU device stores the average itself, and gets each blend from `follow`.

    Attributes:
        kept: the average so far, in the device's own type; None if there is none.
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
            scale: crop pixels per image pixel; noise is coarser by this factor.
            box: the part to average: x0, y0, x1, y1 (the mask's support); outside it, the result is `r`.

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
        """Adds the next small input, and returns its blend. Returns None if the average restarts.

        Args:
            now: float32 3×n×n, n = S/4: averages of c over 4×4 samples; the array is stored.
            rows: float32 m×S, every 16th row of c's green channel.
            time, scale: as in `update`.
            has_average: whether `kept` is an average of such crops.
        """
        size, previous = now.shape[1], self._input
        elapsed, self._time = time - self._time, time
        if not has_average or previous is None or previous.shape != now.shape or not 0.0 <= elapsed <= _MAX_GAP_S:
            self._input = now
            return None
        flow = motion_between(now, previous)
        if flow is not None:
            previous = warped(previous, flow, (slice(0, size), slice(0, size)), cv2.INTER_LINEAR)
        gate = agreement(now, previous, noise_of(rows, scale)) * np.float32(np.exp(-elapsed / _TAU_S))
        for new, old in zip(now, previous, strict=True):
            old -= new
            old *= gate
            old += new
        self._input = previous
        return Blend(flow, gate)


def low_box(box: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """Returns the box of a small input that covers a crop's box."""
    x0, y0, x1, y1 = box
    return x0 // SHRINK, y0 // SHRINK, -(-x1 // SHRINK), -(-y1 // SHRINK)
