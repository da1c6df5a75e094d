"""The base class of views of frames in host or GPU memory."""

from __future__ import annotations

from abc import ABC, abstractmethod

import cv2

from rtface.frame import Bytes, Float, Frame
from rtface.geometry.transforms import display_size, scaling


class FrameView(ABC):
    """A frame (or field) for trackers and analysers (`protocols.View`). Renders RGB in display space on demand."""

    def __init__(self, frame: Frame) -> None:
        self._size = display_size(frame.image.width, frame.image.height, frame.display)
        self._thumbnails: dict[int, tuple[Bytes, float, float]] = {}

    @property
    def width(self) -> float:
        """Display width in pixels; may be fractional if samples are not square."""
        return self._size[0]

    @property
    def height(self) -> float:
        """Display height in pixels."""
        return self._size[1]

    def thumbnail(self, max_side: int) -> tuple[Bytes, float, float]:
        """Returns the whole frame as RGB uint8 h×w×3, and its scales.

        The longer side is ≤ `max_side`; the scales are display pixels per thumbnail pixel in x and y. Never enlarges.
        The array is cached for the next call with the same size, so do not write into it.
        """
        if max_side not in self._thumbnails:
            scale = min(1.0, max_side / max(self._size))
            w, h = (max(1, int(side * scale + 0.5)) for side in self._size)
            self._thumbnails[max_side] = self._render(w, h), self._size[0] / w, self._size[1] / h
        return self._thumbnails[max_side]

    def _render(self, width: int, height: int) -> Bytes:
        """Returns the whole frame at this size."""
        return self.crop(scaling(width / self._size[0], height / self._size[1]), (width, height))

    def luma(self, matrix: Float, size: tuple[int, int]) -> Bytes:
        """Returns a region's brightness (uint8 h×w), for comparisons within one film.

        Shrunk regions are area-filtered. The values' scale, and values outside the frame, depend on the pixel format.
        """
        return cv2.cvtColor(self.crop(matrix, size), cv2.COLOR_RGB2GRAY)  # type: ignore[return-value]

    @abstractmethod
    def crop(self, matrix: Float, size: tuple[int, int]) -> Bytes:
        """Returns the region that `matrix` maps to `size` (w, h).

        RGB uint8 h×w×3, black outside the frame. `matrix` is 2×3, display → region. Shrunk regions are area-filtered.
        """
