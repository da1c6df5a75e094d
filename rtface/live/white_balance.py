"""Removes the colour of a lamp or a screen.

The white of the eyes has nearly the same colour in all people, skin has not. A frame's colours change only if both are
much warmer, or much cooler, than in well-balanced portraits, and the bright surroundings have no neutral part.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import cv2
import numpy as np

from rtface.device.cpu.crop import full_range
from rtface.device.cpu.device import CpuDevice
from rtface.device.cpu.view import native_image
from rtface.frame import Face, Float, Float32, Frame
from rtface.geometry.color_curves import code_range, ycbcr_from_rgb
from rtface.geometry.planes import Samples, layout, planes
from rtface.geometry.transforms import apply, compose, scaling, translation
from rtface.live.gain import depth, native, ramp, store

EYES = (
    ((33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7), (468, 469, 470, 471, 472)),
    ((263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249), (473, 474, 475, 476, 477)),
)  # mesh points: outlines of the eyes; centres and rims of the irises
_SKIN = (50, 280, 205, 425, 101, 330, 36, 266, 151, 9, 108, 337, 117, 346)  # cheeks and forehead
# Median natural logarithms of R/G and B/G in linear light, of 700 portraits; direction of warm light in their plane.
_SKIN_COLOUR, _WHITE_COLOUR, _WARM = np.array([0.69, -0.29]), np.array([0.37, -0.11]), np.array([0.34, -0.94])
_NATURAL, _CAST, _SHARE = 0.4, 0.6, 0.9  # differences without, and with full effect; share that is removed
_MOST = 0.9
_SMALLEST, _WIDTH = 96.0, 160  # face width in pixels: smallest one, and of the crop
_MEASURE_S, _SMOOTH_S, _GAP_S, _GAMMA = 0.5, 1.5, 2.0, 2.2


class WhiteBalance:
    """Balances the colours of a run's frames, in place."""

    def __init__(self) -> None:
        self._device = CpuDevice()
        self._measured_at, self._time, self._cast, self._shift = -math.inf, -math.inf, 0.0, 0.0

    def apply(self, frame: Frame, amount: float, faces: Sequence[Face]) -> Frame:
        """Returns the balanced frame, or the same object if nothing changes.

        Args:
            frame: any frame. Frames on a GPU, and in pixel formats without native planes, are converted.
            amount: share of the correction to apply, 0…1; 0 returns the input bit for bit.
            faces: faces on this or the previous frame, in display space. The largest one is measured.
        """
        if amount <= 0.0:
            return frame
        face = max(faces, key=lambda face: face.width, default=None)
        elapsed, self._time = frame.time - self._time, frame.time
        starts = frame.cut or not 0.0 <= elapsed < _GAP_S
        if starts or frame.time - self._measured_at >= _MEASURE_S:
            self._measured_at = frame.time
            if face is not None and face.mesh is not None and face.width >= _SMALLEST:
                self._cast = self._measure(frame, face.mesh, face.width)
        self._shift = self._cast if starts else self._shift + min(1.0, elapsed / _SMOOTH_S) * (self._cast - self._shift)
        shift = round(amount * self._shift, 2)
        image = native_image(frame.image)
        pixels = layout(image.format.name)
        if not shift or frame.color.transfer != "sdr" or pixels is None or pixels.kind == "gray":
            return frame
        red, blue = (float(gain) for gain in np.exp(-shift * _WARM / _GAMMA))
        full, is_yuv = full_range(pixels, frame.color), pixels.kind == "yuv"
        bright = code_range(pixels.bits, full, chroma=False)
        frame = replace(frame, image=image, filtered=True, changed=None)
        for target in filter(None, (frame, frame.source)):
            target.make_writable()
            views, to_luma = planes(target.image, pixels), ycbcr_from_rgb(frame.color.matrix)[0]
            first, second = (views["u"], views["v"]) if is_yuv else (views["b"], views["r"])
            luma = native(first, pixels.shift)  # has no part in RGB
            if is_yuv:
                small = cv2.resize(native(views["y"], 0), first.shape[::-1], interpolation=cv2.INTER_AREA)
                luma = native(cast(Samples, small), pixels.shift)
            for view, gain, weight in ((first, blue, to_luma[2]), (second, red, to_luma[0])):
                span, share, codes = code_range(pixels.bits, full, chroma=is_yuv), 0.0, native(view, pixels.shift)
                if is_yuv:  # B' = Y' + 2 (1 - weight) Cb, and R' likewise; luma stays
                    share = (gain - 1.0) / (2.0 * (1.0 - weight)) * span.scale / bright.scale
                constant = (1.0 - gain) * span.offset - share * bright.offset
                mixed = cv2.addWeighted(codes, gain, luma, share, constant, dtype=depth(view))
                store(view, pixels.shift, span, codes, mixed)
        return frame

    def _measure(self, frame: Frame, mesh: Float, width: float) -> float:
        """Returns the colour cast to remove, along `_WARM`; negative for cool light."""
        low, scale = mesh[:, :2].min(0), _WIDTH / width
        high = (mesh[:, :2].max(0) - low) * scale
        matrix = compose(scaling(scale, scale), translation(*-low))
        crop = self._device.view(frame).crop(matrix, (math.ceil(high[0]), math.ceil(high[1]))) / np.float32(255.0)
        points, linear = apply(matrix, mesh[:, :2]), crop**_GAMMA
        white = np.zeros(crop.shape[:2], np.uint8)
        for outline, (middle, *rim) in EYES:
            eye = points[list(outline)]
            eye = (eye - eye.mean(0)) * (0.95, 0.8) + eye.mean(0)
            cv2.fillPoly(white, [np.rint(eye * 8).astype(np.int32)], 1, shift=3)
            radius = float(np.linalg.norm(points[rim] - points[middle], axis=1).mean())
            cv2.circle(white, np.rint(points[middle]).astype(int).tolist(), math.ceil(1.1 * radius), 0, -1)
        eyes = linear[white > 0]
        if len(eyes) < 12:
            return 0.0
        bright = eyes[eyes.sum(1) >= np.median(eyes.sum(1))]
        grey = 1.0 - bright.min(1) / np.maximum(bright.max(1), 1e-3)
        columns, rows = np.clip(np.rint(points[list(_SKIN)]), 0, np.array(crop.shape[1::-1]) - 1).astype(int).T
        skin = cv2.blur(linear, (5, 5))[rows, columns]
        small, sx, sy = self._device.view(frame).thumbnail(64)
        around = np.ones(small.shape[:2], bool)
        x0, y0, x1, y1 = np.rint(np.array([*low, *mesh[:, :2].max(0)]) / (sx, sy, sx, sy)).astype(int)
        around[max(0, y0) : max(0, y1), max(0, x0) : max(0, x1)] = False
        rest = (small[around] / np.float32(255.0)) ** _GAMMA
        if len(rest) < len(around):
            return 0.0
        bright_rest = rest[np.argsort(rest.sum(1))[-len(rest) // 4 :]]
        eyes_cast, skin_cast = (
            float(_casts(colour[None], usual)[0])
            for colour, usual in (
                (np.median(bright[grey <= np.median(grey)], 0), _WHITE_COLOUR),
                (np.median(skin, 0), _SKIN_COLOUR),
            )
        )
        # A tenth of the bright surroundings that has no cast, as a white shirt, forbids the change.
        frame_cast = float(np.percentile(_casts(bright_rest, np.zeros(2)), 10 if eyes_cast > 0.0 else 90))
        if min(eyes_cast * skin_cast, eyes_cast * frame_cast) <= 0.0:
            return 0.0
        sure = float(ramp(min(abs(eyes_cast), abs(skin_cast)), _NATURAL, _CAST))
        most = min(abs(frame_cast), _MOST)  # bright areas do not get the opposite colour
        return math.copysign(_SHARE * sure * min(abs(eyes_cast + skin_cast) / 2, most), eyes_cast)


def _casts(colours: Float | Float32, usual: Float) -> Float:
    """Returns how much warmer than usual linear colours are, along `_WARM`."""
    return (np.log(np.maximum(colours[:, [0, 2]], 1e-3) / np.maximum(colours[:, 1:2], 1e-3)) - usual) @ _WARM
