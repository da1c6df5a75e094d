"""Steadiness for engines without a memory of their own: a gated average of the restored crop."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from rtface.correct.mask import median_of
from rtface.frame import Float32

_SHRINK = 4  # motion and gate are worked out on crops this much smaller
_NOISE_FLOOR = 1.5 / 255.0
_STILL = 0.06  # mean flow, in samples of the small crop, below which nothing is warped
_FINE = 1.4  # crop pixels per picture pixel from which on bilinear warping costs no sharpness that the picture shows


class TemporalAverage:
    """r̄ₜ = g·warp(r̄ₜ₋₁) + (1 − g)·rₜ for one track, with a gate g per pixel.

    The crops are aligned to each other by the track's own similarity; what moves within the face (the head turning,
    the jaw) is followed by dense inverse search flow (Kroeger et al. 2016) between the small inputs. g is exp(−Δt/τ)
    where the warped average of the previous inputs agrees with this one within the noise, and falls to 0 where it does
    not: blink, mouth, light, a hand. The input is averaged with the same gate, so that slow drifts add up and are seen.
    The noise level is the calm part (20th percentile) of the difference between inputs, at most what the fine
    structure of the input itself allows for, so that motion all over the crop is not taken for noise.

    Averaging r instead of d = r − c: an average of d would leave the noise of this very frame in the picture.
    """

    def __init__(self, seconds: float = 0.12, gap: float = 0.5) -> None:
        """Args: seconds: τ, the time constant. gap: after a pause of this many seconds it starts anew."""
        self._seconds, self._gap = seconds, gap
        self._mean: Float32 | None = None
        self._spare: Float32 | None = None
        self._input: Float32 | None = None
        self._time = 0.0
        self._search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)

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
        size = r.shape[1] // _SHRINK
        now = np.empty((3, size, size), np.float32)
        for plane, out in zip(c, now, strict=True):
            cv2.resize(plane, (size, size), dst=out, interpolation=cv2.INTER_AREA)
        elapsed = time - self._time
        self._time = time
        mean, before = self._mean, self._input
        if mean is None or before is None or mean.shape != r.shape or not 0.0 <= elapsed <= self._gap:
            self._mean, self._spare, self._input = r.copy(), np.empty_like(r), now
            return self._mean
        answer = self._spare if self._spare is not None else np.empty_like(r)
        np.copyto(answer, r)
        flow = self._flow(now, before)
        if flow is not None:
            before = _warped(before, flow, (slice(0, size), slice(0, size)), cv2.INTER_LINEAR)
        gate = self._gate(now, before, _noise_of(c, scale)) * np.float32(np.exp(-elapsed / self._seconds))
        for new, old in zip(now, before, strict=True):
            old -= new
            old *= gate
            old += new
        x0, y0, x1, y1 = box or (0, 0, r.shape[2], r.shape[1])
        low = slice(y0 // _SHRINK, -(-y1 // _SHRINK)), slice(x0 // _SHRINK, -(-x1 // _SHRINK))
        part = tuple(slice(s.start * _SHRINK, s.stop * _SHRINK) for s in low)
        if flow is None:
            old_part = mean[:, part[0], part[1]]
        else:
            old_part = _warped(mean, flow, low, cv2.INTER_LINEAR if scale >= _FINE else cv2.INTER_CUBIC)
        height, width = old_part.shape[1:]
        full: Any = cv2.resize(gate[low], (width, height), interpolation=cv2.INTER_LINEAR)
        for new, old in zip(answer[:, part[0], part[1]], old_part, strict=True):
            change: Any = cv2.subtract(old, new)
            cv2.multiply(change, full, dst=change)
            new += change
        self._mean, self._spare, self._input = answer, mean, before
        return answer

    def _flow(self, now: Float32, before: Float32) -> Float32 | None:
        """Where in the previous small input each sample of this one was, n×n×2; None where nothing moves."""
        a, b = (cv2.convertScaleAbs(p[1], alpha=255.0) for p in (now, before))
        flow: Any = self._search.calc(a, b, np.zeros((*a.shape, 2), np.float32))
        return flow if float(np.abs(flow).mean()) > _STILL else None

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


def _warped(picture: Float32, flow: Float32, low: tuple[slice, slice], interpolation: int) -> Float32:
    """The part `low` (in samples of the flow) of a picture 3×n×n, fetched from where the flow says it was."""
    factor = picture.shape[1] // flow.shape[0]
    rows, columns = (np.arange(s.start * factor, s.stop * factor, dtype=np.float32) for s in low)
    moved: Any = cv2.resize(flow[low], (len(columns), len(rows)), interpolation=cv2.INTER_LINEAR) if factor > 1 \
        else flow[low].copy()
    moved *= np.float32(factor)
    x, y = moved[..., 0] + columns, moved[..., 1] + rows[:, None]
    return np.stack([cv2.remap(plane, x, y, interpolation, borderMode=cv2.BORDER_REPLICATE) for plane in picture])


def _noise_of(c: Float32, scale: float) -> float:
    """The largest difference that noise can make between two small inputs, from second differences along some rows."""
    lag = max(1, round(scale))
    rows = c[1, ::16]
    second = np.abs(rows[:, lag:-lag] - np.float32(0.5) * (rows[:, 2 * lag:] + rows[:, :-2 * lag]))
    sigma = median_of(second) / 0.6745 / np.sqrt(1.5)
    # Of two pictures: √2. Averaging 4×4 leaves 1/4 of white noise and all of very coarse noise; between the two.
    return 0.6 * float(np.sqrt(2.0)) * sigma
