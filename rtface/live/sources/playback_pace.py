"""Paces packets of films and playlists, and detects the end of a stream's initial burst."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from math import log
from statistics import median
from typing import Any

import av

from rtface.live.sources.jitter_buffer import LONGEST_S

CUSHION = 0.5
"""Seconds by which a playlist is played later after a late piece, so that its next ones come in time."""
# Seconds by which a film, and a playlist, may be late before its clock is set again.
_STALL, _PIECE_LATE = 0.5, 0.1
# Seconds after the first packet in which what the opening read ahead, or the server had kept, is only decoded; and the
# packets from which it is seen that it is over.
_BURST, _BURST_PACKETS = 3.0, 4
PROBE_S, PROBE_PACKETS = 0.5, 2000
"""Seconds, and packets at most, that show how a source comes."""
# The last seconds of them, multiple of a source's own pace from which on it is a film, and frames a second of one
# without times.
_PROBE_END_S, _AT_ONCE, _MOST_RATE = 0.3, 2.0, 240
# Seconds of the longest bunches, as of fragments, that a jitter buffer spreads.
_LONGEST_BUNCH_S = 10.0
# Seconds before a packet that was not there with the one before; rates that are meant by those that are measured.
_ONE_BY_ONE_S = 0.002
_RATES = tuple(map(Fraction, (1, 2, 5, 10, 12, 15, 20, 24, 25, 30, 50, 60, 90, 120)))


def stamp_of(packet: av.Packet[Any]) -> float | None:
    """The time of a packet on its source's clock, of its decoding where that is known."""
    ticks = packet.dts if packet.dts is not None else packet.pts
    return None if ticks is None else float(ticks * packet.time_base)


class PlaybackPace:
    """When the packets of a film or playlist are due: as its own clock runs, from its first packet on.

    Args:
        cushion: seconds by which it is played later after it stood still.
    """

    def __init__(self, cushion: float = 0.0) -> None:
        self._cushion, self._late = cushion, _PIECE_LATE if cushion else _STALL
        self._base: float | None = None
        self._last = self._newest = 0.0

    def due(self, packet: av.Packet[Any], now: float) -> float:
        """`time.monotonic()` at which a packet that was read at `now` is due."""
        if (stamp := stamp_of(packet)) is None:  # of a format without times: the next
            stamp = self._newest + float((packet.duration or 0) * packet.time_base)
        if self._base is None or abs(stamp - self._last) > 10:  # the clock jumped
            self._base, self._newest = now - stamp, stamp
        elif stamp >= self._newest and self._base + stamp < now - self._late:  # the source stood still
            self._base = now - stamp + self._cushion
        self._last, self._newest = stamp, max(stamp, self._newest)
        return self._base + stamp


def is_sent_at_once(stamps: Sequence[float | None], arrivals: Sequence[float], *, timed: bool) -> bool:
    """Whether a source came much faster than its own clock runs, to the end of `PROBE_S`: it is a film, and its sender
    waits as long as it is not read. What a server had kept of a live source comes fast at first only.

    Args:
        stamps: of its packets, on its own clock.
        arrivals: when they came.
        timed: whether it has a clock; of others more frames a second than any camera gives decide.
    """
    late = [n for n, at in enumerate(arrivals) if at >= arrivals[-1] - _PROBE_END_S]
    known = [stamp for n in late if (stamp := stamps[n]) is not None]
    if len(late) < _BURST_PACKETS or (timed and not known):
        return False
    passed = arrivals[-1] - arrivals[late[0]]
    fast = max(known) - min(known) > _AT_ONCE * passed if timed else len(late) > _MOST_RATE * passed
    return fast or arrivals[-1] - arrivals[0] < PROBE_S  # so many packets came that it did not take so long


def longest_wait(stamps: Sequence[float | None], arrivals: Sequence[float]) -> float:
    """How long a jitter buffer may become for what came so: longer where the probe had to wait for a second bunch."""
    packets = pairwise(zip(stamps, arrivals, strict=True))
    waits = [at - then - (new - old) for (old, then), (new, at) in packets if old is not None and new is not None]
    return _LONGEST_BUNCH_S if max(waits, default=0.0) > LONGEST_S else LONGEST_S


def rate_of_arrivals(arrivals: Sequence[float]) -> Fraction | None:
    """The usual rate next to that of packets; None where too few came one by one. They may come in bunches, after
    those that were there at first, and a busy computer stands still at times: the higher rate is the true one."""
    late = [at for at in arrivals if at >= arrivals[-1] - _PROBE_END_S]
    arrivals = late if len(late) >= _BURST_PACKETS else arrivals
    gaps = [after - before for before, after in pairwise(arrivals)]
    single = [gap for gap in gaps if gap > _ONE_BY_ONE_S]
    if not single:
        return None
    rest = gaps[gaps.index(single[0]) :]
    rate = max(len(rest) / sum(rest), 1 / median(single))
    return min(_RATES, key=lambda usual: abs(log(usual / rate)))


class BurstDetector:
    """Detects packets that come faster than their own clock runs: old ones that a server had kept."""

    def __init__(self) -> None:
        self._last: deque[tuple[float, float]] = deque(maxlen=_BURST_PACKETS)
        self._began: float | None = None

    def over(self, packet: av.Packet[Any], arrived: float) -> bool:
        """Takes every packet of one stream; true once packets arrive at the pace of their clock."""
        stamp, self._began = stamp_of(packet), self._began or arrived
        if stamp is None or arrived - self._began > _BURST:  # RTSP's first packet has no time
            return arrived - self._began > _BURST
        self._last.append((stamp, arrived))
        if len(self._last) < _BURST_PACKETS:
            return False
        (oldest, then), (newest, now) = self._last[0], self._last[-1]
        return now - then > 0.5 * (newest - oldest)
