"""Packets of the streams that are not decoded: sound, subtitles, data."""

from __future__ import annotations

from fractions import Fraction

import av
from av.stream import Stream

from rtface.frame import Packet
from rtface.media.timeline import RisingTimestamps
from rtface.stats import Stats

# Seconds of sound before the first moment that a decoder needs to warm up.
_PRIMING = Fraction(1, 10)


class OtherStreams:
    """Gives packets rising timestamps and leaves out those that lie outside the cut.

    Args:
        clock_start: first moment of the input's clock in seconds.
        start, end: the cut in seconds of that clock, None for none.

    Attributes:
        reached: end of the last packet, in seconds of the input's clock.
    """

    def __init__(self, clock_start: Fraction, start: Fraction | None, end: Fraction | None) -> None:
        self._clock_start, self._start, self._end = clock_start, start, end
        self._clocks: dict[int, RisingTimestamps] = {}
        self.reached = Fraction(0)

    def cut(self, packet: av.Packet[Stream], stats: Stats) -> Packet | None:
        """The packet with rising timestamps, or None where it lies outside the cut."""
        base = packet.time_base
        stamp = packet.dts if packet.dts is not None else packet.pts
        duration = packet.duration or 0
        if stamp is not None:
            clock = self._clocks.get(packet.stream_index)
            if clock is None:
                step = Fraction(max(1, duration))
                clock = self._clocks[packet.stream_index] = RisingTimestamps(step, max(2 * step, Fraction(1, 2) / base))
            moved = clock.next(stamp)[0] - stamp
            if moved:
                stats.count("packet_times_repaired")
                packet.dts = None if packet.dts is None else packet.dts + moved
                packet.pts = None if packet.pts is None else packet.pts + moved
            begin = (packet.pts if packet.pts is not None else stamp + moved) * base
            end = begin + duration * base
            self.reached = max(self.reached, end)
            if self._end is not None and begin >= self._end:
                return None
            if packet.is_discard and end < self._clock_start - _PRIMING:
                return None  # an edit list cuts this away; only what the decoder needs to warm up stays
            if self._start is not None and begin < self._start:
                if packet.stream.type != "subtitle" or end <= self._start:
                    return None
                cut = round(self._start / base)  # a subtitle that is on screen at the cut stays there
                packet.pts = packet.dts = cut
                packet.duration = max(1, round(end / base) - cut)
        return Packet(packet, packet.stream_index)
