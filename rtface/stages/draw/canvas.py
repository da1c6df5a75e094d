"""Draws on native planes, in display space."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import ceil, floor, hypot

import av
import numpy as np

from rtface.errors import UsageError
from rtface.frame import Box, Float, Float32, Frame
from rtface.geometry.planes import Layout, Role, Samples, layout, planes
from rtface.geometry.transforms import compose, display_size, plane_matrix
from rtface.stages.draw.blend import blend, codes
from rtface.stages.draw.sprite import Sprite
from rtface.stages.draw.veil import blur, pixelate, veiled

Rectangle = Sequence[float]
"""x0, y0, x1, y1 in display pixels."""


class Canvas:
    """Draws into the planes of a frame.

    Coordinates are display space: upright, square pixels, the origin in the upper left corner of the frame, as the
    viewer sees it. The canvas handles rotation, pixel shape, chroma subsampling and siting, bit depth, range and HDR.
    Samples outside a drawing stay bit-identical; drawn samples are rounded once.

    Args:
        frame: frame to draw on; its image is in host memory, and is written to after `make_writable()`.

    Attributes:
        width, height: size of the frame in display pixels; fractional if samples are not square.

    Raises:
        UsageError: the frame is on a GPU, or its format needs conversion; neither happens in a stage.
    """

    def __init__(self, frame: Frame) -> None:
        plane_layout = layout(frame.image.format.name)
        if plane_layout is None:
            raise UsageError(
                "nothing can be drawn into {name}; convert the frame first",
                code="canvas_format",
                name=frame.image.format.name,
            )
        self._layout: Layout = plane_layout
        self._frame = frame
        self._has_drawing = False
        self._views: dict[Role, Samples] = {}
        size = (frame.image.width, frame.image.height)
        self.width, self.height = display_size(*size, frame.display)
        matrices = {
            sub: plane_matrix(size, frame.display, subsampling=sub, siting=frame.color.siting)
            for sub in {plane_layout.role_subsampling(role) for role in plane_layout.components}
        }
        self._to_planes: dict[Role, Float] = {
            role: matrices[plane_layout.role_subsampling(role)] for role in plane_layout.components
        }

    @property
    def frame(self) -> Frame:
        """The frame with all drawings, for a stage to return."""
        return replace(self._frame, touched=True, changed=None) if self._has_drawing else self._frame

    def draw(self, sprite: Sprite, place: Float | Rectangle, opacity: float = 1.0) -> None:
        """Blends a sprite into the frame. It is low-pass filtered if it shrinks.

        Args:
            sprite: sprite to draw.
            place: the rectangle to fill, or a float64 2×3 matrix from the sprite's pixels to display space.
            opacity: 0…1, factor of the sprite's alpha.
        """
        matrix = np.asarray(place, np.float64)
        if matrix.shape == (4,):
            x0, y0, x1, y1 = matrix.tolist()
            matrix = np.array([((x1 - x0) / sprite.width, 0.0, x0), (0.0, (y1 - y0) / sprite.height, y0)])
        if opacity <= 0.0 or abs(np.linalg.det(matrix[:, :2])) < 1e-9:
            return
        if sprite.draw(self._planes(), self._layout, self._frame.color, self._to_planes, matrix, min(opacity, 1.0)):
            self._has_drawing = True

    def fill(self, box: Rectangle, rgb: tuple[int, int, int], opacity: float = 1.0) -> None:
        """Fills a rectangle with a colour (0…255 each), with antialiased edges."""
        if opacity <= 0.0:
            return
        (x0, y0, x1, y1), w, h = box, self.width, self.height
        # A chroma sample at the frame's edge extends beyond it, and so must the rectangle.
        box = (x0 - 8 * (x0 <= 0), y0 - 8 * (y0 <= 0), x1 + 8 * (x1 >= w), y1 + 8 * (y1 >= h))
        values = codes(np.array(rgb, np.float32) / np.float32(255.0), self._layout, self._frame.color)
        for role, view in self._planes().items():
            if role not in values:
                continue
            x0, y0, x1, y1 = _map_box(self._to_planes[role], box)
            h, w = view.shape
            across, down = _coverage(x0, x1, w), _coverage(y0, y1, h)
            if across[1].size and down[1].size:
                coverage = np.outer(down[1], across[1]).astype(np.float32) * np.float32(min(opacity, 1.0))
                region = (across[0], down[0], across[0] + across[1].size, down[0] + down[1].size)
                blend(view, region, coverage * values[role], np.float32(1.0) - coverage, self._layout)
                self._has_drawing = True

    def blur(self, disc: Float, sigma: float) -> None:
        """Blurs the inside of an ellipse.

        Args:
            disc: 2×3 matrix from the unit disc to display space, as from `covering(face)`.
            sigma: standard deviation of the Gaussian in display pixels.
        """
        for role, view, box, mask in self._masks(disc):
            x, y = (sigma * hypot(*row[:2]) for row in self._to_planes[role])
            blur(view, self._layout, box, mask, (x, y))

    def pixelate(self, disc: Float, cell: float) -> None:
        """Draws a mosaic over the inside of an ellipse.

        Args:
            disc: see `blur`.
            cell: side of a tile in display pixels; tiles lie on a fixed grid of the frame, so that they stay in place.
        """
        luma = self._to_planes[next(iter(self._layout.components))]
        # Tiles have whole chroma samples, so that each has the same position in every plane.
        wide, high = (
            max(step, round(cell * hypot(*row[:2]) / step) * step)
            for row, step in zip(luma, self._layout.subsampling, strict=True)
        )
        for role, view, box, mask in self._masks(disc):
            sx, sy = self._layout.role_subsampling(role)
            pixelate(view, self._layout, box, mask, (wide // sx, high // sy))

    def show(self, image: av.VideoFrame, box: Rectangle) -> None:
        """Copies a rectangle of another frame of the same size (`Frame.before`).

        Its edges are rounded to the nearest whole chroma sample.
        """
        if image.format.name != self._frame.image.format.name:
            image = image.reformat(format=self._frame.image.format.name)
        source_planes = planes(image, self._layout)
        x0, y0, x1, y1 = _map_box(self._to_planes[next(iter(self._layout.components))], box)
        step_x, step_y = self._layout.subsampling
        left, right = _snap(x0, x1, step_x, image.width)
        top, bottom = _snap(y0, y1, step_y, image.height)
        if right <= left or bottom <= top:
            return
        for role, view in self._planes().items():
            sx, sy = self._layout.role_subsampling(role)
            part = np.s_[top // sy : -(-bottom // sy), left // sx : -(-right // sx)]
            view[part] = source_planes[role][part]
        self._has_drawing = True

    def _masks(self, disc: Float) -> Iterator[tuple[Role, Samples, Box, Float32]]:
        """Yields the components that an ellipse covers, with box and mask."""
        masks: dict[tuple[int, int], tuple[Box, Float32] | None] = {}
        for role, view in self._planes().items():
            sub = self._layout.role_subsampling(role)
            if sub not in masks:
                masks[sub] = veiled(compose(self._to_planes[role], disc), view.shape)
            if (box_and_mask := masks[sub]) is not None:
                self._has_drawing = True
                yield role, view, *box_and_mask

    def _planes(self) -> dict[Role, Samples]:
        if not self._views:
            self._frame.make_writable()
            self._views = planes(self._frame.image, self._layout)
        return self._views


def _map_box(matrix: Float, box: Rectangle) -> tuple[float, float, float, float]:
    """Maps a rectangle to a plane. This is exact, because plane matrices have quarter turns only."""
    corners = [
        (matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2], matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2])
        for x, y in (box[:2], box[2:])
    ]
    (ax, ay), (bx, by) = corners
    return float(min(ax, bx)), float(min(ay, by)), float(max(ax, bx)), float(max(ay, by))


def _coverage(low: float, high: float, size: int) -> tuple[int, Float32]:
    """Returns an axis's first sample in low…high, and each sample's coverage."""
    first, last = max(floor(low), 0), min(ceil(high), size)
    positions = np.arange(first, max(first, last), dtype=np.float32)
    return first, np.clip(np.minimum(positions + 1, high) - np.maximum(positions, low), 0.0, 1.0).astype(np.float32)


def _snap(low: float, high: float, step: int, size: int) -> tuple[int, int]:
    """Rounds a range to multiples of `step` or the frame's end."""
    first = min(max(round(low / step) * step, 0), size)
    return first, size if high > size - step / 2 else max(round(high / step) * step, first)
