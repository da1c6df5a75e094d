"""Paces films and playlists, repeats films, and detects a stream's initial burst."""

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

CUSHION_S = 0.5
"""Extra delay of a playlist in seconds after a late segment, so that the next segments arrive in time."""
# Seconds by which a film or a playlist may be late before its clock is reset.
_FILM_LATE_S, _PLAYLIST_LATE_S = 0.5, 0.1
# Maximum time after the first packet in which packets that the opening or the server buffered are not shown.
_BURST_S = 3.0
# Maximum jitter buffer in seconds for packets that arrive in bunches, such as fragments.
_LONGEST_BUNCH_S = 10.0


class PlaybackPace:
    """Schedules packets of a film or playlist by their timestamps.

    Args:
        cushion: extra delay in seconds after a stall.
    """

    def __init__(self, cushion: float = 0.0) -> None:
        self._cushion, self._late = cushion, _PLAYLIST_LATE_S if cushion else _FILM_LATE_S
        self._base: float | None = None
        self._last = self._newest = self._reorder_delay = 0.0  # stamps; maximum presentation minus decoding time

    def due(self, packet: av.Packet[Any], now: float) -> float:
        """Returns the due time (`time.monotonic()`) of a packet read at `now`."""
        if (stamp := stamp_of(packet)) is None:  # the format has no times, so the packet follows the newest one
            stamp = self._newest + float((packet.duration or 0) * packet.time_base)
        elif packet.pts is not None:
            presentation = float(packet.pts * packet.time_base)
            self._reorder_delay = max(self._reorder_delay, presentation - stamp)
            stamp -= self._reorder_delay if packet.dts is None else 0  # as in the first packets of an MKV
        if self._base is None or abs(stamp - self._last) > 10:  # the clock jumped
            self._base, self._newest = now - stamp, stamp
        elif stamp >= self._newest and self._base + stamp < now - self._late:  # the source stalled
            self._base = now - stamp + self._cushion
        self._last, self._newest = stamp, max(stamp, self._newest)
        return self._base + stamp


def longest_wait(stamps: Sequence[float | None], arrivals: Sequence[float]) -> float:
    """Returns the maximum length of a jitter buffer in seconds. It is greater if packets arrive in bunches."""
    packets = pairwise(zip(stamps, arrivals, strict=True))
    waits = [at - then - (new - old) for (old, then), (new, at) in packets if old is not None and new is not None]
    return _LONGEST_BUNCH_S if max(waits, default=0.0) > LONGEST_S else LONGEST_S


def as_sent(packets: Iterator[Arrival], leading: Stream) -> Iterator[Arrival]:
    """Spreads a burst's arrival times as if sent in real time. Later packets are unchanged."""
    burst, first = BurstDetector(), list[Arrival]()
    for packet, arrived in packets:
        first.append((packet, arrived))
        if packet.stream is leading and burst.over(packet, arrived):
            break
    leading_times = ((stamp_of(packet), at) for packet, at in first if packet.stream is leading)
    delay = min((at - stamp for stamp, at in leading_times if stamp is not None), default=inf)
    arrival, paced = inf, deque[Arrival]()
    for packet, arrived in reversed(first):  # RTSP's first packet has no time, but is not later than the next
        stamp = stamp_of(packet)
        arrival = min(arrival, arrived, inf if stamp is None else stamp + delay)
        paced.appendleft((packet, arrival))
    yield from paced
    yield from packets


class BurstDetector:
    """Detects packets that a server had buffered. They arrive faster than real time."""

    def __init__(self) -> None:
        self._last: deque[tuple[float, float]] = deque(maxlen=LEAST_PACKETS)
        self._began: float | None = None

    def over(self, packet: av.Packet[Any], arrived: float) -> bool:
        """Returns True after the burst. Call it for every packet of one stream."""
        stamp, self._began = stamp_of(packet), self._began or arrived
        if stamp is None or arrived - self._began > _BURST_S:  # RTSP's first packet has no time
            return arrived - self._began > _BURST_S
        self._last.append((stamp, arrived))
        if len(self._last) < LEAST_PACKETS:
            return False
        (oldest, then), (newest, now) = self._last[0], self._last[-1]
        return now - then > 0.5 * (newest - oldest)


def repeated(
    path: str, container: InputContainer, *streams: av.VideoStream | av.AudioStream
) -> Iterator[av.Packet[Any]]:
    """Yields the packets of some streams in an endless loop.

    All streams restart together when the first of them has ended. The film is opened again each time, because seeking
    would make the decoders drop their last frames.

    Args:
        path: path of the film.
        container: container of the film, opened for the first pass.

    Raises:
        InputError, av.FFmpegError: the film is no longer readable.
    """
    leading, start_pts, time_base, shift = streams[0], streams[0].start_time or 0, streams[0].time_base or 1, 0
    by_index = {stream.index: stream for stream in streams}
    end_pts, first = start_pts - 1, container
    while end_pts != start_pts:  # they stay equal if there are no packets
        for stream in container.streams:  # otherwise other variants of a list would be fetched
            stream.discard = Discard.default if stream.index in by_index else Discard.all
        end_pts, packets = start_pts, container.demux(*(container.streams[index] for index in by_index))
        for packet in filter(lambda one: one.size, packets):  # empty packets would end the decoders
            packet.stream = by_index[packet.stream_index]  # so that the first container's decoder continues
            if packet.stream is leading:
                end_pts = max(end_pts, (packet.pts or 0) + (packet.duration or 0))
            ticks = round(shift * time_base / packet.time_base)
            packet.pts, packet.dts = (None if at is None else at + ticks for at in (packet.pts, packet.dts))
            yield packet
        shift += end_pts - start_pts
        if container is not first:  # the decoders of the first container are still in use
            container.close()
        container = open_container(path)
