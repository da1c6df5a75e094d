"""Steadiness for engines without a memory of their own: a gated average of the restored crop."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from rtface.correct.motion import FINE, SHRINK, Motion, agreement, noise_of, small_of, warped
from rtface.frame import Float32


class TemporalAverage:
    """r̄ₜ = g·warp(r̄ₜ₋₁) + (1 − g)·rₜ for one track, with a gate g per pixel.

    What moves within the face is followed (`rtface.correct.motion`). g is exp(−Δt/τ) where the warped average of the
    previous inputs agrees with this one within the noise, and falls to 0 where it does not: blink, mouth, light, a
    hand. The input is averaged with the same gate, so that slow drifts add up and are seen.

    Averaging r instead of d = r − c: an average of d would leave the noise of this very frame in the picture.
    """

    def __init__(self, seconds: float = 0.12, gap: float = 0.5) -> None:
        """Args: seconds: τ, the time constant. gap: after a pause of this many seconds it starts anew."""
        self._seconds, self._gap = seconds, gap
        self._mean: Float32 | None = None
        self._spare: Float32 | None = None
        self._input: Float32 | None = None
        self._time = 0.0
        self._motion = Motion()

    def reset(self) -> None:
        """Forgets the track: after a cut or a seek."""
        self._mean = None

    def update(self, r: Float32, c: Float32, time: float, scale: float = 1.0,
               box: tuple[int, int, int, int] | None = None) -> Float32:
        """Takes in one restored crop.

        Args:
            r: float32 3×S×S, the restored crop; not changed.
            c: float32 3×S×S, the crop it was made from.
            time: seconds, rising.
            scale: crop pixels per picture pixel; noise in an enlarged crop is as coarse.
            box: x0, y0, x1, y1 of the part that matters (the mask's support); the rest of the answer is `r` itself.

        Returns:
            float32 3×S×S, the average; valid until the next call.
        """
        now = small_of(c)
        size = now.shape[1]
        elapsed = time - self._time
        self._time = time
        mean, before = self._mean, self._input
        if mean is None or before is None or mean.shape != r.shape or not 0.0 <= elapsed <= self._gap:
            self._mean, self._spare, self._input = r.copy(), np.empty_like(r), now
            return self._mean
        answer = self._spare if self._spare is not None else np.empty_like(r)
        np.copyto(answer, r)
        flow = self._motion.between(now, before)
        if flow is not None:
            before = warped(before, flow, (slice(0, size), slice(0, size)), cv2.INTER_LINEAR)
        gate = agreement(now, before, noise_of(c, scale)) * np.float32(np.exp(-elapsed / self._seconds))
        for new, old in zip(now, before, strict=True):
            old -= new
            old *= gate
            old += new
        x0, y0, x1, y1 = box or (0, 0, r.shape[2], r.shape[1])
        low = slice(y0 // SHRINK, -(-y1 // SHRINK)), slice(x0 // SHRINK, -(-x1 // SHRINK))
        part = tuple(slice(s.start * SHRINK, s.stop * SHRINK) for s in low)
        if flow is None:
            old_part = mean[:, part[0], part[1]]
        else:
            old_part = warped(mean, flow, low, cv2.INTER_LINEAR if scale >= FINE else cv2.INTER_CUBIC)
        height, width = old_part.shape[1:]
        full: Any = cv2.resize(gate[low], (width, height), interpolation=cv2.INTER_LINEAR)
        for new, old in zip(answer[:, part[0], part[1]], old_part, strict=True):
            change: Any = cv2.subtract(old, new)
            cv2.multiply(change, full, dst=change)
            new += change
        self._mean, self._spare, self._input = answer, mean, before
        return answer
