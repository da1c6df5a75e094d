"""Frames that are missing in the order of presentation and in time."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from rtface.media.formats.coded_headers.steps import Number

_WAITING = 4096
"""Frames whose numbers wait at most."""
_REGULAR = 16
"""Frames in a row whose orders are equally far apart, from which on a larger distance tells of a loss."""
_LESS, _MORE = 0.25, 1.5
"""A gap of frames in the order lasts so much of a frame less, and so many times as long, at most: a frame of film that
is shown as three fields lasts 1.5."""


@dataclass(slots=True)
class _Came:
    begun: int  # how often orders had begun again
    number: Number
    followed: bool | None = None  # by a frame that is no I-frame; None where nothing came yet


class FrameOrder:
    """Compares the orders in which a film's frames are shown, as their headers have them, with their times.

    A gap in time alone is no loss, but a variable rate; one in the order alone is an edit, and one at the end or before
    an I-frame a cut. Where both have one of the same length, and no packet of that time came, a frame is missing.

    Attributes:
        behind: time of the frame behind the last gap that was told.
    """

    def __init__(self) -> None:
        self._came: dict[int, _Came | None] = {}  # by time
        self._begun = 0
        self._newest: _Came | None = None
        self._shown: tuple[int, _Came | None] | None = None  # time of the last frame, and the frame
        self._apart = 0  # usual distance of two orders
        self._steps: deque[int] = deque(maxlen=_REGULAR)  # in time, of frames at that distance
        self._gap: tuple[_Came, _Came, int, int] | None = None  # the frames round it, how many, and the time behind it
        self.behind = 0

    def note(self, time: int | None, number: Number | None, *, key: bool) -> None:
        """To be called with each packet in the order of the stream: its time, what its header tells, and whether it is
        an I-frame to begin with."""
        if self._newest is not None:
            self._newest.followed = not key
        self._begun += bool(number and number.begins)
        self._newest = _Came(self._begun, number) if number and number.orders else None
        if time is not None and len(self._came) < _WAITING:
            self._came[time] = None if time in self._came else self._newest

    def missing(self, time: int) -> int:
        """How many frames did not come before that of this time, which is shown now, that were not told yet."""
        gap, told = self._gap, 0
        if gap is not None and None not in (gap[0].followed, gap[1].followed):
            self._gap = None
            if gap[0].followed and gap[1].followed:
                told, self.behind = gap[2:]
        before, self._shown = self._shown, (time, self._came.get(time))
        between = [came for at, came in self._came.items() if before and before[0] < at < time]
        self._came = {at: came for at, came in self._came.items() if at >= time}
        if before is not None and before[1] is not None and self._shown[1] is not None and time > before[0]:
            lost = self._between(before[1], self._shown[1], time - before[0], between)
            if lost > 0:
                self._gap = before[1], self._shown[1], lost, time
        return told

    def _between(self, last: _Came, now: _Came, time: int, came: list[_Came | None]) -> int:
        """How many frames are missing between two that are shown after each other, so much time apart; these came."""
        if now.begun - last.begun > 1:
            return 0
        ahead = self._apart if now.begun > last.begun else -last.number.order
        ahead = (now.number.order + ahead) % now.number.orders
        if 0 < ahead == (self._apart or ahead):
            self._apart = ahead
            self._steps.append(time)
            return 0
        frames = ahead / max(1, self._apart)
        step = min(self._steps, default=1)
        regular = len(self._steps) == _REGULAR and frames > 1 and frames.is_integer()
        if not regular or not (frames - _LESS) * step <= time <= (frames * _MORE + _LESS) * step:
            self._apart = ahead
            self._steps.clear()
            return 0
        for other in came:  # the second field of the last frame is among them
            distance = 0 if other is None else (other.number.order - last.number.order) % now.number.orders
            frames -= other is None or distance >= self._apart
        return int(frames) - 1
