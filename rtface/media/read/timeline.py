"""Timestamps that rise, whatever the input says."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from threading import Lock
from typing import Literal

from rtface.frame import Frame
from rtface.protocols import Item

Change = Literal["", "missing", "repeated", "nudged", "jumped"]


@dataclass(slots=True)
class RisingTimestamps:
    """Turns the timestamps of one stream into strictly rising ones.

    A stamp that repeats the one before is moved one `step` later. A step back of up to `near` units (a jitter) moves
    that one stamp just behind the last; a longer one is a splice, and everything after it is shifted likewise, until a
    stamp continues where the ones before the step were: then a single stamp was damaged.

    Args:
        step: usual distance of two stamps in units; a missing stamp is that much later than the last.
        near: longest step back in units that counts as jitter.
    """

    step: Fraction
    near: Fraction
    last: int | None = None
    came: int | None = None
    shift: int = 0
    counted: Fraction | None = None
    before: int | None = None  # the shift before a splice that is not confirmed yet

    def ahead(self, stamp: int | None) -> int:
        """Units by which a stamp lies after the last; 0 where that is not known."""
        return 0 if stamp is None or self.last is None else stamp + self.shift - self.last

    def next(self, stamp: int | None, following: int | None = None) -> tuple[int, Change]:
        """The stamp to use, and what was done to it.

        Args:
            stamp: as it came.
            following: the one after it, where it is known: it tells a damaged stamp that is too late from a gap.
        """
        if stamp is None:
            # Counted in exact fractions, so that 1001/30000 s does not drift in a coarse unit.
            before = self.counted if self.counted is not None else self.last
            self.counted = Fraction(0) if before is None else before + self.step
            value = round(self.counted) if self.last is None else max(round(self.counted), self.last + 1)
            self.last = value
            return value, "missing"
        self.counted = None
        change: Change = ""
        value = stamp + self.shift
        if self.before is not None and self.last is not None:
            if self.last < stamp + self.before < value:
                value, self.shift, self.before = stamp + self.before, self.before, None
            elif 0 < value - self.last <= self.near:
                self.before = None
        late = self.ahead(following)
        if self.last is not None and 0 < late < value - self.last:
            value, change = self.last + max(1, min(round(self.step), late - 1)), "jumped"
        elif self.last is not None and value <= self.last:
            if stamp == self.came:
                value, change = self.last + max(1, round(self.step)), "repeated"
            elif self.last - value <= self.near:
                value, change = self.last + 1, "nudged"
            else:
                behind = self.last + max(1, round(self.step))
                self.before = self.shift if self.before is None else self.before
                self.shift += behind - value
                value, change = behind, "jumped"
        self.last, self.came = value, stamp
        return value, change


# Frames that an encoder, a muxer and the chain may hold between them, with room to spare.
REMEMBERED = 4096


class FrameTimes:
    """Presentation times of the frames that left a source, so that a run which ends early can name its next frame.

    A time that is worked out from the end of the last frame is wrong where the frame rate varies. One thread may note
    frames while another asks.

    Attributes:
        complete: whether the source has given all of its frames.
    """

    def __init__(self) -> None:
        self._times: deque[Fraction] = deque(maxlen=REMEMBERED)
        self._count = 0
        self.complete = False
        self._lock = Lock()

    def noted(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items; every frame's time is noted, and that they have all come."""
        for item in items:
            if isinstance(item, Frame):
                with self._lock:
                    self._times.append(item.pts * item.time_base)
                    self._count += 1
            yield item
        self.complete = True

    def of(self, number: int) -> Fraction | None:
        """Time of a frame in seconds of the input's clock, counted from 0; None where it did not come, or long ago."""
        with self._lock:
            place = number - self._count + len(self._times)
            return self._times[place] if 0 <= place < len(self._times) else None
