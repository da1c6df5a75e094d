"""Steadiness for engines without a memory of their own: a gated average of the restored crop."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from rtface.correct.mask import median_of
from rtface.frame import Float32

_SHRINK = 4  # the gate is worked out on crops this much smaller
_NOISE_FLOOR = 0.8 / 255.0


class TemporalAverage:
    """r̄ₜ = g·r̄ₜ₋₁ + (1 − g)·rₜ for one track, with a gate g per pixel.

    The crops are aligned to each other by the track's own similarity: that is the warp. g is exp(−Δt/τ) where the
    averaged previous inputs agree with this one within the noise, and falls to 0 where they do not: blink, mouth,
    light, a hand, a turning head. The input is averaged with the same gate, so that slow drifts add up and are seen.
    The noise level is the calm part (20th percentile) of the difference between inputs, at most what the fine
    structure of the input itself allows for, so that motion all over the crop is not taken for noise.

    Averaging r instead of d = r − c: an average of d would leave the noise of this very frame in the picture.
    """

    def __init__(self, seconds: float = 0.12, gap: float = 0.5) -> None:
        """Args: seconds: τ, the time constant. gap: after a pause of this many seconds it starts anew."""
        self._seconds, self._gap = seconds, gap
        self._mean: Float32 | None = None
        self._input: Float32 | None = None
        self._time = 0.0

    def reset(self) -> None:
        """Forgets the track: after a cut or a seek."""
        self._mean = None

    def update(self, r: Float32, c: Float32, time: float, scale: float = 1.0) -> Float32:
        """Takes in one restored crop.

        Args:
            r: float32 3×S×S, the restored crop; not changed.
            c: float32 3×S×S, the crop it was made from.
            time: seconds, rising.
            scale: crop pixels per picture pixel; noise in an enlarged crop is as coarse.

        Returns:
            float32 3×S×S, the average; valid until the next call.
        """
        size = r.shape[1] // _SHRINK
        small = np.empty((3, size, size), np.float32)
        for plane, out in zip(c, small, strict=True):
            cv2.resize(plane, (size, size), dst=out, interpolation=cv2.INTER_AREA)
        elapsed = time - self._time
        self._time = time
        mean, before = self._mean, self._input
        if mean is None or before is None or mean.shape != r.shape or not 0.0 <= elapsed <= self._gap:
            self._mean, self._input = r.copy(), small
            return self._mean
        gate = self._gate(small, before, _noise_of(c, scale)) * np.float32(np.exp(-elapsed / self._seconds))
        for now, then in zip(small, before, strict=True):
            then -= now
            then *= gate
            then += now
        full: Any = cv2.resize(gate, (r.shape[2], r.shape[1]), interpolation=cv2.INTER_LINEAR)
        for now, then in zip(r, mean, strict=True):
            cv2.subtract(then, now, dst=then)
            cv2.multiply(then, full, dst=then)
            cv2.add(then, now, dst=then)
        return mean

    @staticmethod
    def _gate(now: Float32, before: Float32, ceiling: float) -> Float32:
        """1 where two small inputs agree within the noise, 0 where they do not."""
        square: Any = np.zeros(now.shape[1:], np.float32)
        for a, b in zip(now, before, strict=True):
            difference: Any = cv2.subtract(a, b)
            square = np.maximum(square, cv2.boxFilter(cv2.multiply(difference, difference), -1, (3, 3)))
        difference = np.sqrt(square)
        # The larger of three channels, each the root mean square of 9: its 20th percentile is close to sigma.
        some = difference[::2, ::2].ravel()
        calm = float(np.partition(some, some.size // 5)[some.size // 5])
        level = max(min(calm, ceiling), _NOISE_FLOOR)
        gate = np.clip((np.float32(3.0) - difference / np.float32(level)) / np.float32(1.5), 0.0, 1.0)
        out: Any = cv2.erode(gate.astype(np.float32), np.ones((3, 3), np.uint8))
        return out


def _noise_of(c: Float32, scale: float) -> float:
    """The largest difference that noise can make between two small inputs, from second differences along some rows."""
    lag = max(1, round(scale))
    rows = c[1, ::16]
    second = np.abs(rows[:, lag:-lag] - np.float32(0.5) * (rows[:, 2 * lag:] + rows[:, :-2 * lag]))
    sigma = median_of(second) / 0.6745 / np.sqrt(1.5)
    # Of two pictures: √2. Averaging 4×4 leaves 1/4 of white noise and all of very coarse noise; between the two.
    return 0.6 * float(np.sqrt(2.0)) * sigma
