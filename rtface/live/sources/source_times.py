"""The jitter buffer of a network source, and the map of its clock to the monotonic one."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import inf

LONGEST_S = 1.0
"""Seconds that the buffer may grow to by itself."""
# Differences between arrivals that need no buffer: the live loop takes in a few frames at once.
_TOLERATED_S = 0.05
# Seconds of arrivals by which jitter is measured. The buffer keeps its length for as long after the last late packet.
_WINDOW_S = 20.0
# Seconds that the buffer shrinks in one second, so that faster playback is not noticed.
_SHRINK = 0.02
_MARGIN_S = 0.01
# A packet later than this begins a new measurement: the source stood still or restarted. So does one that is later than
# any buffer, unless another was so within the window: then it is jitter.
_RESET_S = 2.0
# Seconds that two clocks may drift apart in one second: 30 frames a second are 29.97 at times.
_DRIFT = 1.5e-3


class Backlog:
    """Tells how much later a source's packets come than at best since its beginning: so much of it waits on the way.
    What comes late in a bunch with later packets does not wait there.

    Attributes:
        seconds: how much later packets come now.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._best, self._last, self._arrived = inf, inf, inf

    def note(self, stamp: float | None, arrived: float) -> None:
        """Takes every packet of one stream, with its time on the source's clock, and when it came."""
        if stamp is None:
            return
        if abs(stamp - self._last) > _RESET_S:  # another clock, or frames were left out
            self._best = inf
        delay, self._last = arrived - stamp, stamp
        passed, self._arrived = max(0.0, arrived - self._arrived), arrived
        self._best = min(delay, self._best + _DRIFT * passed)
        self.seconds = min(delay - self._best, self.seconds + passed / 2)


class JitterBuffer:
    """Decides when packets are given to the decoder: as their own time stamps run, `seconds` after the quickest.

    Args:
        seconds: length of the buffer; None measures the jitter and takes what that needs, up to `longest`.
        longest: seconds.

    Attributes:
        seconds: its length now.
    """

    def __init__(self, seconds: float | None = None, longest: float = LONGEST_S) -> None:
        self._fixed, self._longest = seconds is not None, longest
        self.seconds = seconds or 0.0
        # Arrival times, oldest first, with the least delays (arrival minus stamp), rising, and with the most by which a
        # delay was above the least of its time, falling: delays that fall steadily, behind a stall or since the
        # source's clock is fast, are no jitter.
        self._least: deque[tuple[float, float]] = deque()
        self._most: deque[tuple[float, float]] = deque()
        self._arrived = self._due = self._stalled = float("-inf")

    def due(self, stamp: float | None, arrived: float) -> float:
        """When a packet is to be decoded, in seconds of the clock that `arrived` is of.

        Args:
            stamp: its decoding time on the source's clock, None where that is unknown.
            arrived: when it came; not earlier than that of the packet before.
        """
        if stamp is None:
            self._due = max(self._due, arrived)
            return self._due
        delay = arrived - stamp
        late = delay - self._least[0][1] if self._least else 0.0
        once = late > self._longest and arrived - self._stalled > _WINDOW_S
        if once or abs(late) > self._longest + _RESET_S - LONGEST_S:
            self._least.clear()
            self._most.clear()
            self._due = self._stalled = arrived
        self._remember(arrived, delay)
        base = self._least[0][1]
        if not self._fixed:
            self._adapt(arrived, self._most[0][1])
        self._arrived = arrived
        self._due = max(self._due, arrived, stamp + base + self.seconds)
        return self._due

    def sound_due(self, stamp: float | None, arrived: float) -> float:
        """When a sound packet, whose stamps are on the same clock, is to be passed on."""
        if stamp is None or not self._least or not self.seconds:
            return arrived
        return max(arrived, min(stamp + self._least[0][1], arrived) + self.seconds)

    def _remember(self, arrived: float, delay: float) -> None:
        while self._least and self._least[-1][1] >= delay:
            self._least.pop()
        self._least.append((arrived, delay))
        late = delay - self._least[0][1]
        while self._most and self._most[-1][1] <= late:
            self._most.pop()
        self._most.append((arrived, late))
        for kept in (self._least, self._most):
            while kept[0][0] < arrived - _WINDOW_S:
                kept.popleft()

    def _adapt(self, arrived: float, jitter: float) -> None:
        needed = min(jitter + _MARGIN_S, self._longest) if jitter > _TOLERATED_S else 0.0
        if needed >= self.seconds:
            self.seconds = needed
        else:
            passed = max(0.0, arrived - self._arrived) if self._arrived > float("-inf") else 0.0
            self.seconds = max(needed, self.seconds - _SHRINK * passed)


# Seconds between a stamp and its arrival from which the source's clock counts as reset.
JUMP = 1.0
# Seconds of arrivals from which the offset is taken: the quickest of them, since a network only ever delays.
_WINDOW = 2.0
# Seconds by which the offset may move in one second, so that the change is not noticed; in a recording it stays, and
# follows no more than two clocks that differ.
_SLEW, _RECORDED_SLEW = 0.01, 0.0005


@dataclass(slots=True)
class _Epoch:
    """A stretch in which the source's clock ran on.

    Attributes:
        offset: monotonic minus source's time.
        moved: when it was last brought nearer to what is measured.
        seen: arrival and measured offset, oldest first.
    """

    offset: float
    moved: float
    seen: deque[tuple[float, float]] = field(default_factory=lambda: deque[tuple[float, float]]())


class SourceClock:
    """Times of one connection, for its frames ("video") and sound ("sound") together.

    Both keep the distance that they have at the source: they share one offset. It follows the drift between the two
    clocks slowly. Where the source's clock jumps, whichever comes first begins a new offset, and the other follows when
    it jumps as well. Not for several threads.

    Args:
        recorded: whether all outputs are files.
    """

    def __init__(self, *, recorded: bool = False) -> None:
        self._slew = _RECORDED_SLEW if recorded else _SLEW
        self._epochs: dict[str, _Epoch] = {}
        self._last: dict[str, tuple[float, float]] = {}
        self._newest: _Epoch | None = None

    def time(self, track: str, stamp: float | None, arrived: float) -> float:
        """When something is to be seen or heard.

        Args:
            track: "video" or "sound".
            stamp: the source's time of it, None where that is unknown: then it is the arrival.
            arrived: when it was there.
        """
        if stamp is None:
            return arrived
        measured = arrived - stamp
        epoch = self._epochs.get(track)
        if epoch is None or self._jumped(track, stamp, arrived):
            newest = self._newest
            if newest is not None and newest is not epoch and abs(measured - newest.offset) < JUMP:
                epoch = newest
            else:
                epoch = self._newest = _Epoch(measured, arrived)
            self._epochs[track] = epoch
        self._last[track] = stamp, arrived
        if epoch is self._newest:
            self._follow(epoch, arrived, measured)
        return stamp + epoch.offset

    def _jumped(self, track: str, stamp: float, arrived: float) -> bool:
        """True if the source's clock jumped. After a stall it did not: packets come late, but in order."""
        before, then = self._last[track]
        step = stamp - before
        return abs(step - (arrived - then)) > JUMP and not -0.5 < step < JUMP

    def _follow(self, epoch: _Epoch, arrived: float, measured: float) -> None:
        seen = epoch.seen
        seen.append((arrived, measured))
        while seen[0][0] < arrived - _WINDOW:
            seen.popleft()
        off = min(m for _, m in seen) - epoch.offset
        # Where all of it has been late for long, the source stood still, and its clock with it.
        if off < -JUMP or (off > JUMP and arrived - seen[0][0] > _WINDOW * 0.8):
            epoch.offset += off
        else:
            most = self._slew * max(0.0, arrived - epoch.moved)
            epoch.offset += min(most, max(-most, off))
        epoch.moved = arrived
