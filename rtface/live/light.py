"""Improves the light of a live run: colour, side light, brightness."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rtface.frame import Face, Frame
from rtface.live.brighten import Brightening
from rtface.live.side_light import SideLight
from rtface.live.white_balance import WhiteBalance

_SMOOTH_S = 0.15  # time constant of a changed amount


class Light:
    """The filters of one run that change light.

    Frames are changed before the analysis, which would otherwise find no fault in a dark face.
    """

    def __init__(self) -> None:
        self._side = SideLight()
        self._balance, self._brightening = WhiteBalance(), Brightening()
        self._amount, self._time = 0.0, -math.inf

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
        elapsed, self._time = frame.time - self._time, frame.time
        if not 0.0 <= elapsed < 1.0 or abs(amount - self._amount) < 0.01:
            self._amount = amount
        self._amount += (1.0 - math.exp(-max(0.0, elapsed) / _SMOOTH_S)) * (amount - self._amount)
        for one in (self._balance, self._side):
            frame = one.apply(frame, self._amount, faces)
        return self._brightening.apply(frame, amount, faces)
