"""Buffers a network source's jitter, and maps its clock to ours."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import inf

LONGEST_S = 1.0
"""Maximum length of an adaptive buffer in seconds."""
# Jitter that needs no buffer, because the frame loop accepts a few frames at once.
_TOLERATED_S = 0.05
# Window for measuring jitter; also the time for which the buffer keeps its length after the last late packet.
_WINDOW_S = 20.0
# Seconds that the buffer shrinks in one second, so that faster playback is not noticed.
_SHRINK = 0.02
_MARGIN_S = 0.01
# A packet later than this starts a new measurement, because the source stalled or restarted. So does one packet per
# window that is later than the longest buffer; a second such packet is jitter.
_RESET_S = 2.0
# Seconds that two clocks may drift apart in one second: some sources of 29.97 frames a second claim 30.
_DRIFT = 1.5e-3


class Backlog:
    """Measures how much later packets arrive than the source's quickest packets: that much data waits on the way. Late
    packets that arrive in one burst with newer packets do not count.

    Attributes:
        seconds: length of the current backlog.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._min_delay, self._last, self._arrived = inf, inf, inf

    def note(self, stamp: float | None, arrived: float) -> None:
        """Records the timestamp and arrival time of a packet. Call it for every packet of one stream."""
        if stamp is None:
            return
        if abs(stamp - self._last) > _RESET_S:  # the clock jumped, or frames are missing
            self._min_delay = inf
        delay, self._last = arrived - stamp, stamp
        elapsed, self._arrived = max(0.0, arrived - self._arrived), arrived
        self._min_delay = min(delay, self._min_delay + _DRIFT * elapsed)
        self.seconds = min(delay - self._min_delay, self.seconds + elapsed / 2)


class JitterBuffer:
    """Schedules packets for decoding by their timestamps, `seconds` behind the quickest packet.

    Args:
        seconds: length of the buffer; None adapts it to the jitter, up to `longest`.
        longest: maximum length in seconds.

    Attributes:
        seconds: current length.
    """

    def __init__(self, seconds: float | None = None, longest: float = LONGEST_S) -> None:
        self._fixed, self._longest = seconds is not None, longest
        self.seconds = seconds or 0.0
        # (arrival time, value), oldest first. A delay is arrival minus stamp; an excess is a delay minus the minimum at
        # its time. Delays that fall steadily, after a stall or because the source's clock is fast, are not jitter.
        self._delays: deque[tuple[float, float]] = deque()  # delays, rising: the first is the minimum
        self._excesses: deque[tuple[float, float]] = deque()  # excesses, falling: the first is the maximum
        self._arrived = self._due = self._stalled = float("-inf")

    def due(self, stamp: float | None, arrived: float) -> float:
        """Returns the time to decode a packet, on the clock of `arrived`.

        Args:
            stamp: decoding time of the packet on the source's clock; None if unknown.
            arrived: arrival time of the packet; never earlier than that of the previous packet.
        """
        if stamp is None:
            self._due = max(self._due, arrived)
            return self._due
        delay = arrived - stamp
        excess = delay - self._delays[0][1] if self._delays else 0.0
        stalled = excess > self._longest and arrived - self._stalled > _WINDOW_S
        if stalled or abs(excess) > self._longest + _RESET_S - LONGEST_S:
            self._delays.clear()
            self._excesses.clear()
            self._due = self._stalled = arrived
        self._remember(arrived, delay)
        min_delay = self._delays[0][1]
        if not self._fixed:
            self._adapt(arrived, self._excesses[0][1])
        self._arrived = arrived
        self._due = max(self._due, arrived, stamp + min_delay + self.seconds)
        return self._due

    def sound_due(self, stamp: float | None, arrived: float) -> float:
        """Returns the time to decode a sound packet. `stamp` is on the clock of the video packets."""
        if stamp is None or not self._delays or not self.seconds:
            return arrived
        return max(arrived, min(stamp + self._delays[0][1], arrived) + self.seconds)

    def _remember(self, arrived: float, delay: float) -> None:
        while self._delays and self._delays[-1][1] >= delay:
            self._delays.pop()
        self._delays.append((arrived, delay))
        excess = delay - self._delays[0][1]
        while self._excesses and self._excesses[-1][1] <= excess:
            self._excesses.pop()
        self._excesses.append((arrived, excess))
        for window in (self._delays, self._excesses):
            while window[0][0] < arrived - _WINDOW_S:
                window.popleft()

    def _adapt(self, arrived: float, jitter: float) -> None:
        needed = min(jitter + _MARGIN_S, self._longest) if jitter > _TOLERATED_S else 0.0
        if needed >= self.seconds:
            self.seconds = needed
        else:
            elapsed = max(0.0, arrived - self._arrived) if self._arrived > float("-inf") else 0.0
            self.seconds = max(needed, self.seconds - _SHRINK * elapsed)


# The source's clock counts as reset if timestamps and arrivals differ by more than this.
JUMP_S = 1.0
# Window in which the quickest packet determines the offset, because a network can only delay packets.
_OFFSET_WINDOW_S = 2.0
# Seconds that the offset may change in one second, so that viewers do not notice. In a recording, the offset only has
# to follow the drift between the clocks.
_SLEW, _RECORDED_SLEW = 0.01, 0.0005


@dataclass(slots=True)
class _Epoch:
    """A period without a jump of the source's clock.

    Attributes:
        offset: time on this machine's monotonic clock minus time on the source's clock.
        moved: time when the offset was last adjusted.
        arrivals: arrival times with measured offsets, oldest first.
    """

    offset: float
    moved: float
    arrivals: deque[tuple[float, float]] = field(default_factory=lambda: deque[tuple[float, float]]())


class SourceClock:
    """Maps times of one connection to the monotonic clock.

    Frames ("video") and sound ("sound") share one offset, and so stay in sync. The offset slowly follows the drift
    between the clocks. If the source's clock jumps, the track that jumps first gets a new offset, and the other track
    adopts it when it jumps as well. Not thread-safe.

    Args:
        recorded: whether all outputs are files; the offset then changes more slowly.
    """

    def __init__(self, *, recorded: bool = False) -> None:
        self._slew = _RECORDED_SLEW if recorded else _SLEW
        self._epochs: dict[str, _Epoch] = {}
        self._last: dict[str, tuple[float, float]] = {}
        self._newest: _Epoch | None = None

    def time(self, track: str, stamp: float | None, arrived: float) -> float:
        """Returns the presentation time of a frame or packet.

        Args:
            track: "video" or "sound".
            stamp: time of the frame or packet on the source's clock; if None, `arrived` is returned.
            arrived: arrival time of the frame or packet.
        """
        if stamp is None:
            return arrived
        measured = arrived - stamp
        epoch = self._epochs.get(track)
        if epoch is None or self._has_jumped(track, stamp, arrived):
            newest = self._newest
            if newest is not None and newest is not epoch and abs(measured - newest.offset) < JUMP_S:
                epoch = newest
            else:
                epoch = self._newest = _Epoch(measured, arrived)
            self._epochs[track] = epoch
        self._last[track] = stamp, arrived
        if epoch is self._newest:
            self._follow(epoch, arrived, measured)
        return stamp + epoch.offset

    def _has_jumped(self, track: str, stamp: float, arrived: float) -> bool:
        """Tests for a jump of the source's clock. A stall is not a jump: packets arrive late, but in order."""
        last_stamp, last_arrived = self._last[track]
        step = stamp - last_stamp
        return abs(step - (arrived - last_arrived)) > JUMP_S and not -0.5 < step < JUMP_S

    def _follow(self, epoch: _Epoch, arrived: float, measured: float) -> None:
        arrivals = epoch.arrivals
        arrivals.append((arrived, measured))
        while arrivals[0][0] < arrived - _OFFSET_WINDOW_S:
            arrivals.popleft()
        error = min(m for _, m in arrivals) - epoch.offset
        # If all packets have been late for a long time, the source and its clock have stalled, so the offset jumps.
        if error < -JUMP_S or (error > JUMP_S and arrived - arrivals[0][0] > _OFFSET_WINDOW_S * 0.8):
            epoch.offset += error
        else:
            limit = self._slew * max(0.0, arrived - epoch.moved)
            epoch.offset += min(limit, max(-limit, error))
        epoch.moved = arrived
