"""Tells stored films from live sources by packet arrival. Frames without timestamps get their arrival times."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from math import log
from statistics import median
from threading import Event
from typing import Any, TypeAlias

import av
from av.container import InputContainer
from av.stream import Stream

from rtface.concurrency.buffer import buffer
from rtface.media.read.container import is_unsized_end
from rtface.media.read.pipe import PipeReader

PROBE_S, PROBE_PACKETS, LEAST_PACKETS = 0.5, 2000, 4
"""Length of the arrival probe in seconds, and its maximum and minimum number of packets."""
# The last seconds of the probe, which decide. A source is a stored film if it is faster than this multiple of real time
# or, without timestamps, than this number of frames a second.
_PROBE_END_S, _FILM_SPEED, _MOST_RATE = 0.3, 2.0, 240
# Shortest gap in seconds between packets that arrived separately; usual frame rates, to which others are rounded.
_ONE_BY_ONE_S = 0.002
_RATES = tuple(map(Fraction, (1, 2, 5, 10, 12, 15, 20, 24, 25, 30, 50, 60, 90, 120)))
# Unit of arrival times, and limits of the buffer in packets and bytes.
_BASE, _WAITING, _WAITING_BYTES = Fraction(1, 90_000), 8192, 256 << 20

Arrival: TypeAlias = "tuple[av.Packet[Any], float]"


def stamp_of(packet: av.Packet[Any]) -> float | None:
    """Returns a packet's DTS, or else its PTS, in seconds."""
    ticks = packet.dts if packet.dts is not None else packet.pts
    return None if ticks is None else float(ticks * packet.time_base)


def look_at(packets: Iterable[Arrival], leading: Stream, first: deque[Arrival], seconds: float = PROBE_S) -> None:
    """Moves the first `seconds` of packets of a stream to `first`."""
    began, count = None, 0
    for packet, arrived in packets:
        first.append((packet, arrived))
        if packet.stream is leading:
            began, count = arrived if began is None else began, count + 1
            if arrived - began >= seconds or count >= PROBE_PACKETS:
                return


def is_sent_at_once(stamps: Sequence[float | None], arrivals: Sequence[float], *, timed: bool) -> bool:
    """Returns whether a source is a stored film, by its speed. A stored film is still much faster than real time at the
    end of the probe; a live source sends only its backlog fast, at first.

    Args:
        stamps: timestamps of the source's packets in seconds.
        arrivals: arrival times of the source's packets in seconds.
        timed: whether the source has timestamps; without them, it is a film if its rate exceeds that of any camera.
    """
    first = max(0, bisect_left(arrivals, arrivals[-1] - _PROBE_END_S) - 1)  # the pause before a burst counts
    times = [stamp for stamp in stamps[first:] if stamp is not None]
    if len(arrivals) - first <= LEAST_PACKETS or (timed and not times):
        return False
    passed = arrivals[-1] - arrivals[first]
    fast = max(times) - min(times) > _FILM_SPEED * passed if timed else len(arrivals) - first > _MOST_RATE * passed
    return fast or arrivals[-1] - arrivals[0] < PROBE_S  # `PROBE_PACKETS` came in less time


def rate_of_arrivals(arrivals: Sequence[float]) -> Fraction | None:
    """Returns the usual frame rate closest to the packet rate. Returns None if no packets came separately. Bursts and a
    busy computer lower measured rates, so the higher of two measurements is right."""
    late = [at for at in arrivals if at >= arrivals[-1] - _PROBE_END_S]
    arrivals = late if len(late) >= LEAST_PACKETS else arrivals
    gaps = [after - before for before, after in pairwise(arrivals)]
    single = [gap for gap in gaps if gap > _ONE_BY_ONE_S]
    if not single:
        return None
    rest = gaps[gaps.index(single[0]) :]
    rate = max(len(rest) / sum(rest), 1 / median(single))
    return min(_RATES, key=lambda usual: abs(log(usual / rate)))


class ArrivingPackets:
    """Yields packets of an input without timestamps and length. A thread reads the packets from `InputContainer.demux`,
    so that the sender need not wait for the processing. Packets of a live source get their arrival times as `dts`.

    Args:
        container, video: the input, and its only stream, whose time base is changed.
        stop: event that ends the input when it is set.
        pipe: the pipe that is read, if any; it knows when the bytes arrived that FFmpeg probed.

    Attributes:
        full: whether the buffer was full, so that the live source had to wait.
    """

    def __init__(self, container: InputContainer, video: av.VideoStream, stop: Event, pipe: PipeReader | None) -> None:
        self._container, self._video, self._stop, self._pipe = container, video, stop, pipe
        video.time_base = _BASE
        self._first: deque[Arrival] = deque()
        self._rate: Fraction | None = None
        self._zero: float | None = None
        self._idle, self.full = True, False
        self._items = self._buffered()

    def __iter__(self) -> Iterator[av.Packet[Any]]:
        """Yields the remaining packets. After an FFmpegError, a new iteration continues after the fault."""
        try:
            if self._zero is None:
                look_at(self._items, self._video, self._first)
                arrivals = [at for _, at in self._first] or [0.0]
                slow = arrivals[-1] - arrivals[0] >= PROBE_S and not is_sent_at_once(arrivals, arrivals, timed=False)
                self._zero, self._rate = arrivals[0], rate_of_arrivals(arrivals) if slow else None
                if self._rate is not None:  # packets of the backlog get times at that rate, too
                    # A sender that was blocked sends its backlog as fast as we read it.
                    kept = next((n for n, (a, b) in enumerate(pairwise(arrivals), 1) if (b - a) * self._rate > 0.5), 1)
                    for n in range(kept):
                        self._first[n] = self._first[n][0], arrivals[kept] - float((kept - n) / self._rate)
                    self._zero = self._first[0][1]
            while self._first:
                yield self._stamped(*self._first.popleft())
            for packet, arrived in self._items:
                yield self._stamped(packet, arrived)
        except av.FFmpegError:
            self._items = self._buffered()
            raise

    def close(self) -> bool:
        """Stops the thread; returns whether the container may be closed."""
        self._items.close()
        return self._idle

    def _stamped(self, packet: av.Packet[Any], arrived: float) -> av.Packet[Any]:
        packet.pts, packet.dts, packet.duration = None, None, 0  # packets of a stored film stay without times
        if self._rate is not None and packet.size:
            packet.time_base, packet.dts = _BASE, round((arrived - (self._zero or 0.0)) / _BASE)
        return packet

    def _buffered(self) -> Generator[Arrival]:
        return buffer(
            self._read(),
            _WAITING,
            name="arrivals",
            weigh=lambda item: item[0].size,
            most=_WAITING_BYTES,
            stop=self._stop.is_set,
        )

    def _read(self) -> Iterator[Arrival]:
        self._idle = False
        try:
            for packet in self._container.demux():
                now = time.monotonic()
                pipe = self._pipe if packet.size else None
                yield packet, now if pipe is None or packet.pos is None else pipe.arrival(packet.pos + packet.size)
                self.full |= self._rate is not None and time.monotonic() - now > PROBE_S
        except av.FFmpegError as error:
            if not is_unsized_end(error, self._container):
                raise
        finally:
            self._idle = True
