"""Improves the light of a live run: colour, side light, brightness."""

from __future__ import annotations

from collections.abc import Sequence

from rtface.frame import Face, Frame
from rtface.live.brighten import Brightening
from rtface.live.side_light import SideLight
from rtface.live.white_balance import WhiteBalance


class Light:
    """The filters of one run that change light.

    Frames are changed before the analysis, which would otherwise find no fault in a dark face.
    """

    def __init__(self) -> None:
        self._side = SideLight()
        self._filters = WhiteBalance(), self._side, Brightening()

    @property
    def uneven(self) -> bool:
        """True if a face is lit from one side, before any change."""
        return self._side.uneven

    def apply(self, frame: Frame, amount: float, faces: Sequence[Face]) -> Frame:
        """Returns the changed frame, or the same object if nothing changes.

        Args:
            frame: any frame. Frames on a GPU, and in pixel formats without native planes, are converted.
            amount: share of every change to apply, 0…1; 0 returns the input bit for bit.
            faces: faces on this or the previous frame, in display space.
        """
        for one in self._filters:
            frame = one.apply(frame, amount, faces)
        return frame
