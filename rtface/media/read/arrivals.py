"""Distinguishes stored films from live sources by packet arrival. Frames without timestamps get their arrival times."""

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
# Only the last seconds of the probe decide. A source is a stored film if it is faster than _FILM_SPEED times real time
# or, without timestamps, than _MAX_LIVE_RATE frames per second.
_PROBE_END_S, _FILM_SPEED, _MAX_LIVE_RATE = 0.3, 2.0, 240
_SEPARATE_S = 0.002  # minimum gap between packets that arrived separately
# Measured frame rates are rounded to one of these.
_USUAL_RATES = tuple(map(Fraction, (1, 2, 5, 10, 12, 15, 20, 24, 25, 30, 50, 60, 90, 120)))
# Unit of arrival times, and limits of the buffer in packets and bytes.
_BASE, _MAX_PACKETS, _MAX_BYTES = Fraction(1, 90_000), 8192, 256 << 20

Arrival: TypeAlias = "tuple[av.Packet[Any], float]"


def stamp_of(packet: av.Packet[Any]) -> float | None:
    """Returns a packet's DTS, or else its PTS, in seconds."""
    ticks = packet.dts if packet.dts is not None else packet.pts
    return None if ticks is None else float(ticks * packet.time_base)


def look_at(packets: Iterable[Arrival], leading: Stream, first: deque[Arrival], seconds: float = PROBE_S) -> None:
    """Moves packets to `first` until those of `leading` span `seconds`."""
    start, count = None, 0
    for packet, arrived in packets:
        first.append((packet, arrived))
        if packet.stream is leading:
            start, count = arrived if start is None else start, count + 1
            if arrived - start >= seconds or count >= PROBE_PACKETS:
                return


def is_sent_at_once(stamps: Sequence[float | None], arrivals: Sequence[float], *, timed: bool) -> bool:
    """Returns whether a source is a stored film, by its speed. A stored film is still much faster than real time at the
    end of the probe; a live source sends only its backlog fast, at first.

    Args:
        stamps: timestamps of the source's packets in seconds.
        arrivals: arrival times of the source's packets in seconds.
        timed: whether the source has timestamps; without them, it is a film if its rate exceeds that of any camera.
    """
    first = max(0, bisect_left(arrivals, arrivals[-1] - _PROBE_END_S) - 1)  # includes the pause before a burst
    times = [stamp for stamp in stamps[first:] if stamp is not None]
    if len(arrivals) - first <= LEAST_PACKETS or (timed and not times):
        return False
    span = arrivals[-1] - arrivals[first]
    fast = max(times) - min(times) > _FILM_SPEED * span if timed else len(arrivals) - first > _MAX_LIVE_RATE * span
    return fast or arrivals[-1] - arrivals[0] < PROBE_S  # `PROBE_PACKETS` came in less time


def rate_of_arrivals(arrivals: Sequence[float]) -> Fraction | None:
    """Returns the usual frame rate closest to the packet rate. Returns None if no packets came separately. Bursts and a
    busy computer lower measured rates, so the higher of two measurements is right."""
    recent = [at for at in arrivals if at >= arrivals[-1] - _PROBE_END_S]
    arrivals = recent if len(recent) >= LEAST_PACKETS else arrivals
    gaps = [b - a for a, b in pairwise(arrivals)]
    separate = [gap for gap in gaps if gap > _SEPARATE_S]
    if not separate:
        return None
    from_first = gaps[gaps.index(separate[0]) :]
    rate = max(len(from_first) / sum(from_first), 1 / median(separate))
    return min(_USUAL_RATES, key=lambda usual: abs(log(usual / rate)))


class ArrivingPackets:
    """Yields packets of an input without timestamps and length. A thread reads the packets from `InputContainer.demux`,
    so that the sender does not have to wait for processing. Packets of a live source get their arrival times as `dts`.

    Args:
        container: the input.
        video: its only stream, whose time base is changed.
        stop: event that ends the input when it is set.
        pipe: the pipe that is read, if any; it knows when the bytes of a packet arrived.

    Attributes:
        full: whether the buffer was full, so that the live source had to wait.
    """

    def __init__(self, container: InputContainer, video: av.VideoStream, stop: Event, pipe: PipeReader | None) -> None:
        self._container, self._video, self._stop, self._pipe = container, video, stop, pipe
        video.time_base = _BASE
        self._first: deque[Arrival] = deque()
        self._rate: Fraction | None = None
        self._start: float | None = None
        self._idle, self.full = True, False
        self._items = self._start_reading()

    def __iter__(self) -> Iterator[av.Packet[Any]]:
        """Yields the remaining packets. After an FFmpegError, a new iteration continues after the fault."""
        try:
            if self._start is None:
                look_at(self._items, self._video, self._first)
                arrivals = [at for _, at in self._first] or [0.0]
                is_live = arrivals[-1] - arrivals[0] >= PROBE_S and not is_sent_at_once(arrivals, arrivals, timed=False)
                self._start, self._rate = arrivals[0], rate_of_arrivals(arrivals) if is_live else None
                if self._rate is not None:  # packets of the backlog get times at that rate, too
                    # A sender that was blocked sends its backlog as fast as we read it.
                    late = next((n for n, (a, b) in enumerate(pairwise(arrivals), 1) if (b - a) * self._rate > 0.5), 1)
                    for n in range(late):
                        self._first[n] = self._first[n][0], arrivals[late] - float((late - n) / self._rate)
                    self._start = self._first[0][1]
            while self._first:
                yield self._set_times(*self._first.popleft())
            for packet, arrived in self._items:
                yield self._set_times(packet, arrived)
        except av.FFmpegError:
            self._items = self._start_reading()
            raise

    def close(self) -> bool:
        """Stops the thread; returns whether the container may be closed."""
        self._items.close()
        return self._idle

    def _set_times(self, packet: av.Packet[Any], arrived: float) -> av.Packet[Any]:
        packet.pts, packet.dts, packet.duration = None, None, 0  # packets of a stored film get no times
        if self._rate is not None and packet.size:
            packet.time_base, packet.dts = _BASE, round((arrived - (self._start or 0.0)) / _BASE)
        return packet

    def _start_reading(self) -> Generator[Arrival]:
        return buffer(
            self._read(),
            _MAX_PACKETS,
            name="arrivals",
            weigh=lambda item: item[0].size,
            max_bytes=_MAX_BYTES,
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
