"""Brightens dark frames with one smooth tone curve.

The curve follows the light of the scene slowly. Frames are brightened before faces are enhanced, so that the limits on
a correction's noise, contrast and colour apply to the frame that viewers see, and the tracker finds more faces.
Brightening afterwards would amplify a correction with all its faults.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import cast

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from rtface.device.cpu.crop import full_range
from rtface.device.cpu.view import native_image
from rtface.frame import Face, Float, Float32, Frame
from rtface.geometry.color_curves import code_range
from rtface.geometry.planes import Layout, Samples, layout, planes
from rtface.geometry.transforms import apply, plane_matrix
from rtface.live.gain import multiply, native, ramp

MAX_LIFT = math.log2(3.0)
"""Maximum lift: shadows become at most three times as bright."""

# Target luma (coded, 0…1) of a face, and of a frame without faces. Both are low enough that dark skin stays dark.
_FACE_TARGET, _FRAME_TARGET = 0.40, 0.36
# Below the coded luma `_SHADOW`, the lift falls to 0, so that black and its noise stay dark. Above `_BRIGHT`, the lift
# falls to half.
_SHADOW, _BRIGHT = 0.12, 0.6

_MAX_CHROMA_GAIN = 2.0

# Constants of the adaptation. Lifts and brightness levels are base-2 logarithms.
_MEMORY_S, _HOLD_S, _GAP_S = 1.0, 3.0, 2.0  # median window; use of a lost face; gap after which adaptation restarts
_DEAD_BAND, ARRIVED = 0.15, 0.02  # smallest difference from the target that starts and continues a change
_SLOW = (1.2, 0.5)  # time constant in seconds, largest change per second
_FAST = (0.12, 6.0)
_FAST_S = 0.6  # duration of fast adaptation
_LIGHTS_ON, _LIGHTS_ON_FRAMES = 0.5, 3  # a light was switched on: rise of brightness, for this many frames

_WEIGHTS = {"y": 1.0, "r": 0.299, "g": 0.587, "b": 0.114}


def curve(x: Float, lift: float) -> Float:
    """Returns coded luma 0…1 after brightening.

    The curve is strictly monotonic and leaves black and white unchanged.

    Args:
        x: coded luma before brightening, 0…1.
        lift: amount of brightening: mid shadows become 2^lift times as bright; 0 changes nothing.
    """
    a = 2.0**lift
    lifted = a * x / (1.0 + (a - 1.0) * x)
    return x + (lifted - x) * ramp(x, 0.0, _SHADOW) * (1.0 - 0.5 * ramp(x, _BRIGHT, 1.0))


def lift_for(luma: float, target: float) -> float:
    """Returns the lift that brings a coded luma to a target, 0…`MAX_LIFT`."""
    luma = min(max(luma, 1e-3), 1 - 1e-3)
    return min(MAX_LIFT, max(0.0, math.log2(target * (1 - luma) / (luma * (1 - target)))))


class BrightnessAdaptation:
    """Decides the lift of each frame, with smoothing and a dead band.

    The lift follows the median of the last second, so that a short event (a hand, a lost face) has no effect. The lift
    changes only when the median leaves a dead band. It jumps after a cut or a gap. It changes quickly when a light is
    switched on (too bright is worse than too dark) or the user changes the amount.
    """

    def __init__(self) -> None:
        self.lift = 0.0
        self._history: deque[tuple[float, float, float]] = deque(maxlen=256)
        self._last_time: float | None = None
        self._target, self._changing, self._fast_until = 0.0, False, -math.inf
        self._amount, self._bright_frames = 0.0, 0

    def update(self, time: float, frame_lift: float, scene: float, amount: float, *, cut: bool = False) -> float:
        """Returns the lift for this frame.

        Args:
            time: time of the frame in seconds.
            frame_lift: lift that this frame alone would get, at full amount.
            scene: mean coded luma of the whole frame, 0…1.
            amount: share of the lift to apply, 0…1.
            cut: whether a new scene starts.
        """
        previous_time, self._last_time = self._last_time, time
        level = math.log2(max(scene, 1e-3))
        if previous_time is None or cut or not 0.0 <= time - previous_time < _GAP_S:
            self._history.clear()
            self._history.append((time, frame_lift, level))
            self._target, self._changing, self._amount, self._bright_frames = frame_lift, False, amount, 0
            self.lift = frame_lift * amount
            return self.lift
        while self._history and self._history[0][0] < time - _MEMORY_S:
            self._history.popleft()
        self._detect_lights_on(time, level)
        self._history.append((time, frame_lift, level))
        if amount != self._amount:
            self._amount, self._fast_until = amount, time + _FAST_S
        median = float(np.median([w for _, w, _ in self._history]))
        fast = time < self._fast_until
        if fast or abs(median - self._target) > _DEAD_BAND:
            self._changing = True
        if self._changing:
            self._target = median
        elapsed, (constant, limit) = time - previous_time, _FAST if fast else _SLOW
        step = (self._target * amount - self.lift) * (1.0 - math.exp(-elapsed / constant))
        self.lift += min(limit * elapsed, max(-limit * elapsed, step))
        if not fast and abs(self._target * amount - self.lift) < ARRIVED:
            self._changing = False
        return self.lift

    def restart(self) -> None:
        """Discards earlier measurements and approaches the next target quickly."""
        self._history.clear()
        if self._last_time is not None:
            self._fast_until = self._last_time + _FAST_S

    def _detect_lights_on(self, time: float, level: float) -> None:
        if self._history and level > float(np.median([s for _, _, s in self._history])) + _LIGHTS_ON:
            self._bright_frames += 1
        else:
            self._bright_frames = 0
        if self._bright_frames >= _LIGHTS_ON_FRAMES:  # earlier measurements no longer count
            for _ in range(len(self._history) - _LIGHTS_ON_FRAMES + 1):
                self._history.popleft()
            self._bright_frames, self._fast_until = 0, time + _FAST_S


class Brightening:
    """Brightens the frames of one run in place, in their native planes.

    `curve` maps luma (for RGB, each component); chroma grows slightly, so that colours do not wash out. Frames are
    brightened before the analysis, which would otherwise find no fault in a dark face; later brightening would reveal
    the noise of the face.
    """

    def __init__(self) -> None:
        self.adaptation = BrightnessAdaptation()
        self._level: float | None = None
        self._face_at = -math.inf

    def apply(self, frame: Frame, amount: float, faces: Sequence[Face]) -> Frame:
        """Returns the brightened frame, or the same object if nothing changes.

        Args:
            frame: any frame. Frames on a GPU, and in pixel formats without native planes, are converted.
            amount: share of the lift to apply, 0…1; 0 returns the input bit for bit.
            faces: faces on this or the previous frame, in display space. Their brightness determines the lift; without
                faces, that of the whole frame does.
        """
        if amount <= 0.0 and self.adaptation.lift < ARRIVED:
            self.adaptation = BrightnessAdaptation()
            return frame
        image = native_image(frame.image)
        pixels = layout(image.format.name)
        assert pixels is not None
        lift = self.adaptation.update(frame.time, *self._assess(frame, image, pixels, faces), amount, cut=frame.cut)
        lift = round(lift * 256) / 256  # so that many frames share one table
        if lift <= 0.0:
            return frame
        frame = replace(frame, image=image, filtered=True, changed=None)
        full = full_range(pixels, frame.color)
        luma, gains = tables(image.format.name, full, lift)
        for target in filter(None, (frame, frame.source)):
            target.make_writable()
            views, span = planes(target.image, pixels), code_range(pixels.bits, full, chroma=True)
            if "u" in views:  # chroma grows as much as luma, so that colours do not wash out
                small = cv2.resize(native(views["y"], 0), views["u"].shape[::-1], interpolation=cv2.INTER_AREA)
                gain = cv2.LUT(small, gains) if pixels.dtype.itemsize == 1 else gains[cast(Samples, small)]
                for view in (views["u"], views["v"]):
                    multiply(view, pixels.shift, span, cast(Float32, gain))
            for view in (views[role] for role in views if role not in ("u", "v")):
                view[...] = cv2.LUT(view, luma) if view.dtype.isnative else luma[view]
        return frame

    def _assess(self, frame: Frame, image: av.VideoFrame, pixels: Layout, faces: Sequence[Face]) -> tuple[float, float]:
        """Returns the lift for this frame alone, and its mean luma (0…1)."""
        views = planes(image, pixels)
        span = code_range(pixels.bits, full_range(pixels, frame.color), chroma=False)

        def luma(x0: int, y0: int, x1: int, y1: int) -> Float:
            step = max(1, round(math.sqrt((x1 - x0) * (y1 - y0) / 4096)))
            weights = ((views[role], weight) for role, weight in _WEIGHTS.items() if role in views)
            total = sum(weight * (view[y0:y1:step, x0:x1:step] >> pixels.shift) for view, weight in weights)
            return np.asarray((total - span.offset) / span.scale)

        lumas = np.sort(luma(0, 0, image.width, image.height), axis=None)
        scene = float(lumas[len(lumas) * 3 // 10 : len(lumas) * 9 // 10 + 1].mean())  # excludes bars and lamps
        levels: list[tuple[float, float]] = []
        size = image.width, image.height
        for face in faces:
            corners = apply(plane_matrix(size, frame.display), face.box.reshape(2, 2))
            low, high = corners.min(0), corners.max(0)
            inset = 0.2 * (high - low)  # excludes hair and background
            x0, y0, x1, y1 = map(int, (*np.maximum(low + inset, 0), *np.minimum(high - inset, size)))
            if x1 - x0 > 1 and y1 - y0 > 1:
                levels.append((float(np.median(luma(x0, y0, x1, y1))), float(np.prod(high - low))))
        if levels:
            if self._level is None:  # until this first face, the whole frame determined the lift
                self.adaptation.restart()
            self._level = sum(level * size for level, size in levels) / sum(size for _, size in levels)
            self._face_at = frame.time
        if self._level is not None and 0.0 <= frame.time - self._face_at < _HOLD_S and not (frame.cut and not levels):
            return lift_for(self._level, _FACE_TARGET), scene
        return lift_for(scene, _FRAME_TARGET), scene


@lru_cache(maxsize=8)
def tables(pix_fmt: str, full: bool, lift: float) -> tuple[Samples, Float32]:
    """Returns tables by words of luma: brightened words, and chroma's gain."""
    pixels = layout(pix_fmt)
    assert pixels is not None
    codes = np.arange(1 << pixels.bits, dtype=np.float64)
    span = code_range(pixels.bits, full, chroma=False)
    x = (codes - span.offset) / span.scale
    luma = np.where((x > 0.0) & (x < 1.0), span.offset + span.scale * curve(np.clip(x, 0.0, 1.0), lift), codes)
    gains = np.clip((luma - span.offset) / np.maximum(codes - span.offset, 1.0), 1.0, _MAX_CHROMA_GAIN)
    code = np.minimum(np.arange(1 << (8 * pixels.dtype.itemsize)) >> pixels.shift, len(codes) - 1)
    return _table(pixels, np.rint(luma).astype(np.uint16)), gains[code].astype(np.float32)


def _table(pixels: Layout, codes: NDArray[np.uint16]) -> Samples:
    """Converts a table of code values into a table of storage words."""
    if pixels.dtype.itemsize == 1:
        return codes.astype(np.uint8)
    code = np.arange(1 << 16, dtype=np.uint16) >> pixels.shift
    return np.where(code < len(codes), codes[np.minimum(code, len(codes) - 1)], code).astype(np.uint16) << pixels.shift
