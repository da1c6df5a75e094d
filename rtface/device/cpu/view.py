"""Views of frames in host memory, for tracker, analysis and crops."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from rtface.device.cpu.crop import from_planes, full_range, sample, sample_bytes, sample_rgb
from rtface.device.cpu.swscale import Swscale
from rtface.device.view import FrameView
from rtface.errors import InputError
from rtface.frame import Bytes, Color, Float, Float32, Frame
from rtface.geometry.color_curves import curve_of
from rtface.geometry.planes import Layout, Role, Samples, fallback, layout, planes
from rtface.geometry.transforms import Field, apply, compose, field_parity, invert
from rtface.util.av_gpu import software

if TYPE_CHECKING:
    import av

_EDGE = 1e-6  # maximum rounding error of a corner, in display pixels


def native_image(image: av.VideoFrame) -> av.VideoFrame:
    """Converts an image to `planes.fallback` if the frame path cannot read it.

    Raises:
        InputError: swscale cannot read the format (raw Bayer).
    """
    image = software(image)
    name = image.format.name
    if layout(name) is not None:
        return image
    try:
        return image.reformat(format=fallback(name), threads=1)
    except (ValueError, OSError) as error:
        raise InputError(
            "pixel format {name} cannot be converted ({why}); convert the input to yuv420p or rgb24 first",
            code="pixel_format",
            name=name,
            why=error,
        ) from error


class CpuView(FrameView):
    """A view of a frame in host memory. Frames in GPU memory are copied to the host."""

    def __init__(self, frame: Frame, swscale: Swscale) -> None:
        super().__init__(frame)
        self.image = native_image(frame.image)
        form = layout(self.image.format.name)
        assert form is not None
        self._form: Layout = form
        # The frame caches the view. A reference back to the frame would be a cycle, which is only freed late.
        self._color, self._display = frame.color, frame.display
        self._field: Field | None = frame.field
        self._parity = field_parity(frame.display, frame.field)
        self._samples: tuple[dict[Role, Samples], Layout, Color, dict[Role, Float]] | None = None
        self._swscale = swscale

    def _render(self, width: int, height: int) -> Bytes:
        """Scales the frame with swscale, which is faster. Fields and HDR curves need the base class's method."""
        if self._parity is not None or curve_of(self._color) is not None:
            return super()._render(width, height)
        display, color = self._display, self._color
        turns = display.quarter_turns % 4
        w, h = (height, width) if turns % 2 else (width, height)
        shrinks = self.image.width > 1.5 * w
        small = self._swscale.rgb(self.image, (w, h), color.matrix, full=full_range(self._form, color), area=shrinks)
        memory: Any = small.planes[0]
        pixels = np.rot90(np.ndarray((h, w, 3), np.uint8, memory, 0, (small.planes[0].line_size, 3, 1)), -turns)
        return np.ascontiguousarray(pixels[:, ::-1] if display.mirror else pixels)

    def _read(self) -> tuple[dict[Role, Samples], Layout, Color, dict[Role, Float]]:
        if self._samples is None:
            places = from_planes(
                self._form, self._color, (self.image.width, self.image.height), self._display, self._field
            )
            self._samples = planes(self.image, self._form, self._parity), self._form, self._color, places
        return self._samples

    def rgb(self, matrix: Float, size: tuple[int, int], *, native: bool = False) -> Float32:
        """Returns the region that `matrix` (display → region) maps to `size` (w, h).

        RGB float32 3×h×w, 0…1; edges replicate. With `native`, HDR values stay as coded.
        """
        return sample_rgb(*self._read(), matrix, size, native=native)

    def crop(self, matrix: Float, size: tuple[int, int]) -> Bytes:
        out = sample_bytes(*self._read(), matrix, size)
        w, h = self._size
        if not _within(matrix, size, w, h):
            corners = apply(matrix, np.array([(0.0, 0.0), (w, 0.0), (w, h), (0.0, h)]))
            inside = np.zeros((size[1], size[0]), np.uint8)
            cv2.fillConvexPoly(inside, np.rint((corners - 0.5) * 16.0).astype(np.int32), 255, shift=4)
            out[inside == 0] = 0
        return out

    def luma(self, matrix: Float, size: tuple[int, int]) -> Bytes:
        """Returns the luma without colour conversion. YUV and gray keep the upper 8 bits of their codes."""
        if self._form.kind == "rgb":
            return super().luma(matrix, size)
        views, form, _, places = self._read()
        out: Any = sample(views["y"], compose(matrix, places["y"]), size, form.shift)
        return out if out.dtype == np.uint8 else cv2.convertScaleAbs(out, alpha=2.0 ** (8 - form.bits))


def _within(matrix: Float, size: tuple[int, int], width: float, height: float) -> bool:
    """Returns whether a region lies inside the frame. `matrix` (display → region) maps it to `size`."""
    (a, b, tx), (c, d, ty) = invert(matrix).tolist()
    corners = [(a * x + b * y + tx, c * x + d * y + ty) for x in (0, size[0]) for y in (0, size[1])]
    return all(-_EDGE <= x <= width + _EDGE and -_EDGE <= y <= height + _EDGE for x, y in corners)
