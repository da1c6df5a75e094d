"""What every view of a frame has in common, wherever its samples are."""

from __future__ import annotations

from abc import ABC, abstractmethod

import cv2

from rtface.frame import Bytes, Float, Frame
from rtface.geometry.transforms import display_size, scaling


class FrameView(ABC):
    """A frame (or field) as a tracker or analyser sees it (`protocols.View`): RGB, display space, made on demand."""

    def __init__(self, frame: Frame) -> None:
        self._size = display_size(frame.image.width, frame.image.height, frame.display)
        self._thumbnails: dict[int, tuple[Bytes, float, float]] = {}

    @property
    def width(self) -> float:
        """Display width in pixels; not rounded where samples are not square."""
        return self._size[0]

    @property
    def height(self) -> float:
        """Display height in pixels."""
        return self._size[1]

    def thumbnail(self, max_side: int) -> tuple[Bytes, float, float]:
        """Whole frame as RGB uint8 h×w×3, longer side ≤ max_side, and display pixels per thumbnail pixel in x and y.

        Never enlarged. The array is kept for the next call with the same size: do not write into it.
        """
        if max_side not in self._thumbnails:
            scale = min(1.0, max_side / max(self._size))
            w, h = (max(1, int(side * scale + 0.5)) for side in self._size)
            self._thumbnails[max_side] = self._whole(w, h), self._size[0] / w, self._size[1] / h
        return self._thumbnails[max_side]

    def _whole(self, width: int, height: int) -> Bytes:
        """The whole frame at this size."""
        return self.crop(scaling(width / self._size[0], height / self._size[1]), (width, height))

    def luma(self, matrix: Float, size: tuple[int, int]) -> Bytes:
        """Brightness uint8 h×w of such a region as `crop` gives, to compare regions of one film with each other.

        Area-filtered where it shrinks; what is outside the frame, and the scale of the values, depend on the format.
        """
        return cv2.cvtColor(self.crop(matrix, size), cv2.COLOR_RGB2GRAY)  # type: ignore[return-value]

    @abstractmethod
    def crop(self, matrix: Float, size: tuple[int, int]) -> Bytes:
        """RGB uint8 h×w×3 of the region that `matrix` (2×3, display → region) maps to `size` (w, h).

        Area-filtered where it shrinks, black outside the frame.
        """
