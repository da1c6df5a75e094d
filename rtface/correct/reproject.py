"""Warps the last keyframe's correction to frames between keyframes.

A keyframe stores the image that its correction D makes of its crop c under the weight a (mask times strength),
premultiplied: p = D + a·c. On a frame between keyframes

    D = g·(warp(p) − warp(a)·(c + up(e)))

so that this frame's noise is removed, as an engine would do. The crops are aligned by the track's similarity transform.
The warp follows motion within the face by optical flow (`rtface.correct.motion`). e is the low-frequency change of the
input, so that changes of light are preserved. The gate g falls to 0 where the keyframe's warped input and the input
differ: at a blink, a moving mouth, or a hand. The gate closes at once and opens within `_RELEASE_S`, on keyframes too;
otherwise, a blinking eye would alternate between corrected and uncorrected.

Alternatives were measured on films with ground truth. Moving D itself costs the same, and adds the
keyframe's noise to that of each frame (3 % more flicker). With the mesh instead of flow, or with the
similarity transform alone, the gate is open on only half of the face. Starting the flow search at the
mesh's motion changes nothing.
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
# Root mean square difference of inputs (0…1) at which the gate starts to close: the larger of a fixed value and a
# multiple of the noise. At twice this difference, the gate is closed.
_MIN_DIFFERENCE, _MIN_DIFFERENCE_NOISES = 5.0 / 255.0, 3.0
_MAX_BRIGHTNESS_CHANGE = 12.0 / 255.0  # largest change of the whole face for which the gate stays open
_MAX_KEYFRAME_AGE_S = 2.0  # age at which a keyframe is no longer used
_REACH_SAMPLES = 2  # a face may exceed its keyframe's box by this number of samples of the small crop

Shaped = tuple[Float32, Float32]


@dataclass(slots=True)
class _Keyframe:
    """A keyframe that is prepared for other frames.

    Attributes:
        small: float32 3×S/4×S/4, the keyframe's reduced crop.
        target: float32 h×w×4, p and a of the module's docstring in the box.
        box: x0, y0, x1, y1, multiples of `SHRINK`; a is 0 outside the box.
        inside: flat indices of the small crop's samples inside the mask.
    """

    small: Float32
    target: Float32
    box: tuple[int, int, int, int]
    inside: Any


class Reprojection:
    """State of one track's keyframes for the frames between them."""

    def __init__(self) -> None:
        self._key: tuple[Float32, Float32, Float32, float] | None = None
        self._prepared_key: _Keyframe | None = None
        self._previous_engine: _Keyframe | None = None  # keyframe of the engine that fades out
        self._share = 1.0  # share of the engine in the last keyframe
        self._gate: Float32 | None = None
        self._key_time = self._time = 0.0

    def ready(self, time: float) -> bool:
        """Returns whether there is a keyframe that is not too old."""
        return self._key is not None and time - self._key_time <= _MAX_KEYFRAME_AGE_S

    def key(self, c: Float32, shaped: Shaped, strength: float, time: float, scale: float, share: float = 1.0) -> Shaped:
        """Stores a keyframe: its crop, its shaped correction, and the correction's strength.

        Crop and correction must not change afterwards. Returns the correction to show: `shaped`, weakened where the
        gate was closed recently. With a `share` below 1, the correction is mixed with the one shown before `share`
        fell, which came from another engine, or from the same engine with other weights.
        """
        if strength <= 0.0:
            self._key = self._prepared_key = None
            return shaped
        if share < self._share and self._key is not None:
            self._previous_engine = self._prepare()
        self._share = share
        if share >= 1.0:
            self._previous_engine = None
        elif self._previous_engine is not None and self._previous_engine.small.shape[1] * SHRINK == c.shape[1]:
            d, previous_mask = self._warp_to(self._previous_engine, c, strength, scale, None)
            blend: Any = cv2.addWeighted(shaped[0], share, d, 1.0 - share, 0.0)
            shaped = blend, np.maximum(shaped[1], previous_mask)
        # The keyframe is stored without the gate, because the gate is applied again on the frames in between.
        self._key, self._prepared_key, self._key_time = (c, *shaped, strength), None, time
        gate = self._open_gate(time)
        if gate is not None:
            full: Any = cv2.resize(gate, shaped[1].shape[::-1], interpolation=cv2.INTER_LINEAR)
            shaped = shaped[0] * full[..., None], shaped[1] * full
        return shaped

    def carry(self, c: Float32, strength: float, time: float, scale: float) -> Shaped:
        """Returns the correction of a frame between keyframes. Requires `ready`.

        Args:
            c: float32 3×S×S, the frame's crop; if S differs from the keyframe's, the correction is 0.
            strength: 0…1.5.
            time: seconds, rising.
            scale: crop pixels per image pixel.

        Returns:
            The masked correction, float32 S×S×3, and the mask, S×S.
        """
        size = c.shape[1]
        key = self._prepare()
        if key.small.shape[1] * SHRINK != size:
            return np.zeros((size, size, 3), np.float32), np.zeros((size, size), np.float32)
        return self._warp_to(key, c, strength, scale, time)

    def _prepare(self) -> _Keyframe:
        """Returns the last keyframe. Prepares it when it is used first."""
        if self._prepared_key is None:
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
            # Stored for strength 1, because `_warp_to` applies the strength of the current frame.
            added = cv2.split(correction[part])
            planes = [
                cv2.scaleAdd(d, 1.0 / strength, cv2.multiply(plane[part], weight))
                for plane, d in zip(c, added, strict=True)
            ]
            target: Any = cv2.merge([*planes, np.ascontiguousarray(weight)])
            small_mask: Any = cv2.resize(mask, (n, n), interpolation=cv2.INTER_AREA)
            self._prepared_key = _Keyframe(small, target, box, np.flatnonzero(small_mask > 0.5))
        return self._prepared_key

    def _warp_to(self, key: _Keyframe, c: Float32, strength: float, scale: float, time: float | None) -> Shaped:
        """Moves a keyframe to another crop. With `time` None, the stored gate is neither used nor changed."""
        size, small, key_small = c.shape[1], small_of(c), key.small
        n = small.shape[1]
        out, mask = np.zeros((size, size, 3), np.float32), np.zeros((size, size), np.float32)
        flow = motion_between(small, key_small)
        if flow is not None:
            key_small = warped(key_small, flow, (slice(0, n), slice(0, n)), cv2.INTER_LINEAR)
        change: Any = cv2.subtract(small, key_small)
        gate = _gate(change, key.inside, noise_of(c[1, ::ROWS], scale))
        if time is not None:
            previous_gate: Any = self._open_gate(time)
            if previous_gate is not None:  # its size differs after a change of the engine
                gate = np.minimum(gate, cv2.resize(previous_gate, (n, n), interpolation=cv2.INTER_LINEAR))
            self._gate = gate
        x0, y0, x1, y1 = key.box
        low = (
            slice(max(0, y0 // SHRINK - _REACH_SAMPLES), min(n, y1 // SHRINK + _REACH_SAMPLES)),
            slice(max(0, x0 // SHRINK - _REACH_SAMPLES), min(n, x1 // SHRINK + _REACH_SAMPLES)),
        )
        rows, columns = (slice(s.start * SHRINK, s.stop * SHRINK) for s in low)
        height, width = rows.stop - rows.start, columns.stop - columns.start
        full_flow = np.zeros((n, n, 2), np.float32) if flow is None else flow
        x, y = sampling_coordinates(full_flow, low, SHRINK)
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
        for plane, image, change_plane in zip(c, images, light, strict=True):
            e: Any = cv2.resize(
                change_plane, (light.shape[2] * factor, light.shape[1] * factor), interpolation=cv2.INTER_LINEAR
            )
            d: Any = cv2.subtract(plane[rows, columns], e[rows, columns])
            cv2.multiply(d, weight, dst=d)
            cv2.subtract(image, d, dst=d)
            cv2.multiply(d, full, dst=d, scale=strength)
            planes.append(d)
        cv2.mixChannels(planes, [out[rows, columns]], [0, 0, 1, 1, 2, 2])
        cv2.multiply(weight, full, dst=mask[rows, columns])
        return out, mask

    def _open_gate(self, time: float) -> Float32 | None:
        """Opens the last gate according to the elapsed time. Returns None if fully open."""
        elapsed, self._time = max(time - self._time, 0.0), time
        if self._gate is not None:
            self._gate = np.minimum(self._gate + np.float32(elapsed / _RELEASE_S), np.float32(1.0))
            if float(self._gate.min()) >= 1.0:
                self._gate = None
        return self._gate


def _gate(change: Float32, inside: Any, noise: float) -> Float32:
    """Returns 1 where two small inputs agree, 0 where not. `change` is their difference, float32 3×n×n. A change of
    light on the whole face is ignored."""
    error: Any = np.zeros(change.shape[1:], np.float32)
    for plane in change:
        light = median_of(plane.ravel()[inside]) if inside.size else 0.0
        difference = plane - np.float32(min(max(light, -_MAX_BRIGHTNESS_CHANGE), _MAX_BRIGHTNESS_CHANGE))
        cv2.max(error, cv2.boxFilter(cv2.multiply(difference, difference), -1, (3, 3)), dst=error)
    threshold = np.float32(max(_MIN_DIFFERENCE, _MIN_DIFFERENCE_NOISES * noise))
    x = np.clip(np.float32(2.0) - cv2.sqrt(error) / threshold, 0.0, 1.0)
    gate = x * x * (np.float32(3.0) - 2 * x)
    # The closed part is made one sample wider, to protect the rim of an occluder too.
    return cast(Float32, cv2.GaussianBlur(cv2.erode(gate, np.ones((3, 3), np.uint8)), (3, 3), 0.8))
