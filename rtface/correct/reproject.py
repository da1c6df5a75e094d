"""Warps the last keyframe's correction to frames between keyframes.

A keyframe stores the image that its correction D makes of its crop c under the weight a (mask times strength),
premultiplied: p = D + a·c. On a frame between keyframes

    D = g·(warp(p) − warp(a)·(c + up(e)))

so that this frame's noise is removed, as an engine would do. The crops are aligned by the track's similarity transform;
warp follows motion within the face by optical flow (`rtface.correct.motion`). e is the low-frequency change of the
input, so that changing light stays as in the image. The gate g falls to 0 where the keyframe's warped input and the
input differ: blink, mouth, hand. It closes at once and opens within `_RELEASE_S`, on keyframes too; otherwise a
blinking eye would be shown with and without correction by turns.

Alternatives were measured on films with known truth. Carrying D itself costs the same, and adds the
keyframe's noise to that of each frame (3 % more flicker). With the mesh instead of flow, or with the
similarity transform alone, only half of the face's gate stays open. Using the mesh as the first guess
of the flow search changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import cv2
import numpy as np

from rtface.correct.colour import low_frequencies
from rtface.correct.mask import median_of, support_box
from rtface.correct.motion import FINE, ROWS, SHRINK, motion_between, noise_of, sampling_coordinates, small_of, warped
from rtface.frame import Float32

_RELEASE_S = 0.1
# Root mean square difference of inputs from which the gate falls, as values of 0…1 and in units of the noise; at twice
# this difference the gate is closed.
_MIN_DIFFERENCE, _MIN_DIFFERENCE_NOISES = 5.0 / 255.0, 3.0
_MAX_BRIGHTNESS_CHANGE = 12.0 / 255.0  # largest change of the whole face for which the gate stays open
_MAX_KEYFRAME_AGE_S = 2.0  # age from which a keyframe is no longer used
_REACH_SAMPLES = 2  # samples of the small crop by which a face may outgrow its keyframe's box

Shaped = tuple[Float32, Float32]


@dataclass(slots=True)
class _Carried:
    """A keyframe, ready to be carried.

    Attributes:
        small: float32 3×S/4×S/4, the keyframe's reduced crop.
        target: float32 h×w×4, p and a of the module's docstring in the box.
        box: x0, y0, x1, y1, whole samples of the small crop; a is 0 outside it.
        inside: flat indices of the small crop's samples well inside the mask.
    """

    small: Float32
    target: Float32
    box: tuple[int, int, int, int]
    inside: Any


class Reprojection:
    """State of one track's keyframes for the frames between them."""

    def __init__(self) -> None:
        self._key: tuple[Float32, Float32, Float32, float] | None = None
        self._carried: _Carried | None = None
        self._before: _Carried | None = None  # shown when a fade between two engines began
        self._share = 1.0  # share of the engine in the last keyframe
        self._gate: Float32 | None = None
        self._key_time = self._time = 0.0

    def ready(self, time: float) -> bool:
        """Returns whether there is a keyframe that is not too old."""
        return self._key is not None and time - self._key_time <= _MAX_KEYFRAME_AGE_S

    def key(self, c: Float32, shaped: Shaped, strength: float, time: float, scale: float, share: float = 1.0) -> Shaped:
        """Stores a keyframe: its crop, its shaped correction, and the correction's strength.

        Crop and correction must not change afterwards. Returns the correction to show: `shaped`, weakened where the
        gate was closed just before. With a `share` below 1, the rest comes from the correction shown before `share`
        fell: by another engine, or by the same engine with other weights.
        """
        if strength <= 0.0:
            self._key = self._carried = None
            return shaped
        if share < self._share and self._key is not None:
            self._before = self._prepared()
        self._share = share
        if share >= 1.0:
            self._before = None
        elif self._before is not None and self._before.small.shape[1] * SHRINK == c.shape[1]:
            d, m = self._moved(self._before, c, strength, scale, None)
            mixed: Any = cv2.addWeighted(shaped[0], share, d, 1.0 - share, 0.0)
            shaped = mixed, np.maximum(shaped[1], m)
        # Stored without the gate, which is applied again on the frames between.
        self._key, self._carried, self._key_time = (c, *shaped, strength), None, time
        gate = self._released(time)
        if gate is not None:
            full: Any = cv2.resize(gate, shaped[1].shape[::-1], interpolation=cv2.INTER_LINEAR)
            shaped = shaped[0] * full[..., None], shaped[1] * full
        return shaped

    def carry(self, c: Float32, strength: float, time: float, scale: float) -> Shaped:
        """Returns the correction of a frame between keyframes. Only when `ready`.

        Args:
            c: float32 3×S×S, the frame's crop; if S differs from the keyframe's, nothing is added.
            strength: 0…1.5.
            time: seconds, rising.
            scale: crop pixels per image pixel.

        Returns:
            The masked correction, float32 S×S×3, and the mask, S×S.
        """
        size = c.shape[1]
        key = self._prepared()
        if key.small.shape[1] * SHRINK != size:
            return np.zeros((size, size, 3), np.float32), np.zeros((size, size), np.float32)
        return self._moved(key, c, strength, scale, time)

    def _prepared(self) -> _Carried:
        """Returns the prepared keyframe, computed only when it is first carried."""
        if self._carried is None:
            assert self._key is not None
            c, correction, mask, strength = self._key
            size, small = len(mask), small_of(c)
            n = size // SHRINK
            x0, y0, x1, y1 = support_box(mask) or (0, 0, 1, 1)
            box = (
                x0 // SHRINK * SHRINK,
                y0 // SHRINK * SHRINK,
                min(-(-x1 // SHRINK), n) * SHRINK,
                min(-(-y1 // SHRINK), n) * SHRINK,
            )
            part = np.s_[box[1] : box[3], box[0] : box[2]]
            weight = mask[part]
            # Stored for strength 1, because `_moved` applies the strength of the current frame.
            added = cv2.split(correction[part])
            planes = [
                cv2.scaleAdd(d, 1.0 / strength, cv2.multiply(plane[part], weight))
                for plane, d in zip(c, added, strict=True)
            ]
            target: Any = cv2.merge([*planes, np.ascontiguousarray(weight)])
            few: Any = cv2.resize(mask, (n, n), interpolation=cv2.INTER_AREA)
            self._carried = _Carried(small, target, box, np.flatnonzero(few > 0.5))
        return self._carried

    def _moved(self, key: _Carried, c: Float32, strength: float, scale: float, time: float | None) -> Shaped:
        """Moves a keyframe to another crop. With `time` None the stored gate is not used or changed."""
        size, now, before = c.shape[1], small_of(c), key.small
        n = now.shape[1]
        out, mask = np.zeros((size, size, 3), np.float32), np.zeros((size, size), np.float32)
        flow = motion_between(now, before)
        if flow is not None:
            before = warped(before, flow, (slice(0, n), slice(0, n)), cv2.INTER_LINEAR)
        change: Any = cv2.subtract(now, before)
        gate = _gate(change, key.inside, noise_of(c[1, ::ROWS], scale))
        if time is not None:
            released: Any = self._released(time)
            if released is not None:  # its size differs if the engine has just changed
                gate = np.minimum(gate, cv2.resize(released, (n, n), interpolation=cv2.INTER_LINEAR))
            self._gate = gate
        x0, y0, x1, y1 = key.box
        low = (
            slice(max(0, y0 // SHRINK - _REACH_SAMPLES), min(n, y1 // SHRINK + _REACH_SAMPLES)),
            slice(max(0, x0 // SHRINK - _REACH_SAMPLES), min(n, x1 // SHRINK + _REACH_SAMPLES)),
        )
        rows, columns = (slice(s.start * SHRINK, s.stop * SHRINK) for s in low)
        height, width = rows.stop - rows.start, columns.stop - columns.start
        moves = np.zeros((n, n, 2), np.float32) if flow is None else flow
        x, y = sampling_coordinates(moves, low, SHRINK)
        target: Any = cv2.remap(
            key.target,
            x - np.float32(x0),
            y - np.float32(y0),
            cv2.INTER_LINEAR if scale >= FINE else cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=0.0,
        )
        *images, weight = cv2.split(target)
        np.maximum(weight, 0.0, out=weight)  # cubic interpolation may undershoot
        full: Any = cv2.resize(gate[low], (width, height), interpolation=cv2.INTER_LINEAR)
        light = low_frequencies(change)
        factor = size // light.shape[1]
        planes: list[Float32] = []
        for plane, image, wandered in zip(c, images, light, strict=True):
            e: Any = cv2.resize(
                wandered, (light.shape[2] * factor, light.shape[1] * factor), interpolation=cv2.INTER_LINEAR
            )
            d: Any = cv2.subtract(plane[rows, columns], e[rows, columns])
            cv2.multiply(d, weight, dst=d)
            cv2.subtract(image, d, dst=d)
            cv2.multiply(d, full, dst=d, scale=strength)
            planes.append(d)
        cv2.mixChannels(planes, [out[rows, columns]], [0, 0, 1, 1, 2, 2])
        cv2.multiply(weight, full, dst=mask[rows, columns])
        return out, mask

    def _released(self, time: float) -> Float32 | None:
        """Opens the last gate by the elapsed time. Returns None if fully open."""
        elapsed, self._time = max(time - self._time, 0.0), time
        if self._gate is not None:
            self._gate = np.minimum(self._gate + np.float32(elapsed / _RELEASE_S), np.float32(1.0))
            if float(self._gate.min()) >= 1.0:
                self._gate = None
        return self._gate


def _gate(change: Float32, inside: Any, noise: float) -> Float32:
    """Returns 1 where two small inputs agree, 0 where they do not. Their difference is float32 3×n×n; light on the
    whole face does not count."""
    error: Any = np.zeros(change.shape[1:], np.float32)
    for plane in change:
        light = median_of(plane.ravel()[inside]) if inside.size else 0.0
        rest = plane - np.float32(min(max(light, -_MAX_BRIGHTNESS_CHANGE), _MAX_BRIGHTNESS_CHANGE))
        cv2.max(error, cv2.boxFilter(cv2.multiply(rest, rest), -1, (3, 3)), dst=error)
    threshold = np.float32(max(_MIN_DIFFERENCE, _MIN_DIFFERENCE_NOISES * noise))
    x = np.clip(np.float32(2.0) - cv2.sqrt(error) / threshold, 0.0, 1.0)
    gate = x * x * (np.float32(3.0) - 2 * x)
    # The closed part is one sample wider, to protect the rim of an object too.
    return cast(Float32, cv2.GaussianBlur(cv2.erode(gate, np.ones((3, 3), np.uint8)), (3, 3), 0.8))
