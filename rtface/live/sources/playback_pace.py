"""Paces packets of films and playlists, repeats films, and detects the end of a stream's initial burst."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import inf
from typing import Any

import av
from av.container import InputContainer
from av.stream import Discard, Stream

from rtface.live.sources.source_times import LONGEST_S
from rtface.media.read.arrivals import LEAST_PACKETS, Arrival, stamp_of
from rtface.media.read.container import open_container

CUSHION = 0.5
"""Seconds by which a playlist is played later after a late piece, so that its next ones come in time."""
# Seconds by which a film, and a playlist, may be late before its clock is set again.
_STALL, _PIECE_LATE = 0.5, 0.1
# Seconds after the first packet in which what the opening read ahead, or the server had kept, is only decoded.
_BURST = 3.0
# Seconds of the longest bunches, as of fragments, that a jitter buffer spreads.
_LONGEST_BUNCH_S = 10.0


class PlaybackPace:
    """When the packets of a film or playlist are due: as its own clock runs, from its first packet on.

    Args:
        cushion: seconds by which it is played later after it stood still.
    """

    def __init__(self, cushion: float = 0.0) -> None:
        self._cushion, self._late = cushion, _PIECE_LATE if cushion else _STALL
        self._base: float | None = None
        self._last = self._newest = self._ahead = 0.0  # most that a picture is decoded ahead of its time

    def due(self, packet: av.Packet[Any], now: float) -> float:
        """`time.monotonic()` at which a packet that was read at `now` is due."""
        if (stamp := stamp_of(packet)) is None:  # of a format without times: the next
            stamp = self._newest + float((packet.duration or 0) * packet.time_base)
        elif packet.pts is not None:
            shown = float(packet.pts * packet.time_base)
            self._ahead = max(self._ahead, shown - stamp)
            stamp -= self._ahead if packet.dts is None else 0  # the first ones of an MKV have no time of decoding
        if self._base is None or abs(stamp - self._last) > 10:  # the clock jumped
            self._base, self._newest = now - stamp, stamp
        elif stamp >= self._newest and self._base + stamp < now - self._late:  # the source stood still
            self._base = now - stamp + self._cushion
        self._last, self._newest = stamp, max(stamp, self._newest)
        return self._base + stamp


def longest_wait(stamps: Sequence[float | None], arrivals: Sequence[float]) -> float:
    """How long a jitter buffer may become for what came so: longer where the probe had to wait for a second bunch."""
    packets = pairwise(zip(stamps, arrivals, strict=True))
    waits = [at - then - (new - old) for (old, then), (new, at) in packets if old is not None and new is not None]
    return _LONGEST_BUNCH_S if max(waits, default=0.0) > LONGEST_S else LONGEST_S


def as_sent(packets: Iterator[Arrival], leading: Stream) -> Iterator[Arrival]:
    """Yields packets of a burst as if each had come when its clock says, the last ones when they did."""
    burst, first = BurstDetector(), list[Arrival]()
    for packet, arrived in packets:
        first.append((packet, arrived))
        if packet.stream is leading and burst.over(packet, arrived):
            break
    timed = ((stamp_of(packet), at) for packet, at in first if packet.stream is leading)
    delay = min((at - stamp for stamp, at in timed if stamp is not None), default=inf)
    came, sent = inf, deque[Arrival]()
    for packet, arrived in reversed(first):  # RTSP's first packet has no time: it comes no later than the next
        stamp = stamp_of(packet)
        came = min(came, arrived, inf if stamp is None else stamp + delay)
        sent.appendleft((packet, came))
    yield from sent
    yield from packets


class BurstDetector:
    """Detects packets that come faster than their own clock runs: old ones that a server had kept."""

    def __init__(self) -> None:
        self._last: deque[tuple[float, float]] = deque(maxlen=LEAST_PACKETS)
        self._began: float | None = None

    def over(self, packet: av.Packet[Any], arrived: float) -> bool:
        """Takes every packet of one stream; true once packets arrive at the pace of their clock."""
        stamp, self._began = stamp_of(packet), self._began or arrived
        if stamp is None or arrived - self._began > _BURST:  # RTSP's first packet has no time
            return arrived - self._began > _BURST
        self._last.append((stamp, arrived))
        if len(self._last) < LEAST_PACKETS:
            return False
        (oldest, then), (newest, now) = self._last[0], self._last[-1]
        return now - then > 0.5 * (newest - oldest)


def repeated(
    path: str, container: InputContainer, *streams: av.VideoStream | av.AudioStream
) -> Iterator[av.Packet[Any]]:
    """The packets of some streams, without end; all begin again at the same time, where the first stream ended.

    The film is opened again each time: going back in an open one would have its decoders drop their last frames.

    Args:
        path: of the film.
        container: it, open for the first time.

    Raises:
        InputError, av.FFmpegError: it cannot be read any more.
    """
    leading, begin, unit, shift = streams[0], streams[0].start_time or 0, streams[0].time_base or 1, 0
    opened = {stream.index: stream for stream in streams}
    end, first = begin - 1, container
    while end != begin:  # there are none
        for stream in container.streams:  # else other variants of a list are fetched
            stream.discard = Discard.default if stream.index in opened else Discard.all
        end, packets = begin, container.demux(*(container.streams[index] for index in opened))
        for packet in filter(lambda one: one.size, packets):  # without the last ones, which would end the decoders
            packet.stream = opened[packet.stream_index]  # whose decoder continues
            if packet.stream is leading:
                end = max(end, (packet.pts or 0) + (packet.duration or 0))
            ticks = round(shift * unit / packet.time_base)
            packet.pts, packet.dts = (None if at is None else at + ticks for at in (packet.pts, packet.dts))
            yield packet
        shift += end - begin
        if container is not first:  # whose decoders continue; else its file stays open until garbage is collected
            container.close()
        container = open_container(path)
