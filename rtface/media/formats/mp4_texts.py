"""Texts of an MP4 or MOV track, one after the other, each ended here and not by FFmpeg's muxer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

import av
from av.container import OutputContainer
from av.stream import Stream

_BLANK = b"\0\0"  # an event without text: an empty string after its 16-bit length
_LONG = 1 << 30  # units that a sample may last; FFmpeg gives longer ones another time
_REPEATED = 64  # samples of one text at most: hours, which no real text takes


def text_clock(container: OutputContainer, frames: Fraction) -> Fraction:
    """The unit of text tracks: whole milliseconds in it, and at most half as long as those of sounds and frames.

    Args:
        container: with all its streams added.
        frames: unit of the times of its frames; FFmpeg halves it until it is less than 1/10000 s.
    """
    rates = (sound.codec_context.sample_rate for sound in container.streams.audio)
    fastest = max(frames.denominator, 20_000, *rates)
    return Fraction(1, 2000 * min(-(-fastest // 1000), 1000))


class TextTrack:
    """Brings texts into the order and form in which FFmpeg's muxer gives every track its true times.

    The muxer ends texts by itself, but compares times whose units differ. Where a text's are longer, it writes that
    end at once, for which it may close a fragment while it has a packet of another track in its hands: that packet
    gets the time of the next one; and a text that comes before such an end ends the process. So texts have short
    units, and each a blank of one unit behind it; the end that FFmpeg adds then comes behind that.

    Args:
        stream: its time base is set.

    Attributes:
        cut: texts that were shown no longer when another began.
    """

    def __init__(self, stream: Stream) -> None:
        assert stream.time_base
        self._stream, self._base = stream, Fraction(stream.time_base)
        self._last: int | None = None  # the time of the last event
        self._end: int | None = None  # of the text that is shown
        self.cut = 0

    def split(self, packet: av.Packet[Any], now: float) -> Iterator[av.Packet[Any]]:
        """The packet in units of the track, repeated where it lasts longer than a sample may, and the blank at its end;
        without a time it begins `now`, in seconds."""
        stamp = packet.pts if packet.pts is not None else packet.dts
        begin = round(stamp * packet.time_base / self._base) if stamp is not None else round(now / self._base)
        shown = max(1, round((packet.duration or 0) * packet.time_base / self._base))
        text = bytes(packet)
        if len(text) <= len(_BLANK):
            yield self._event(text, begin, min(shown, _LONG))
            return
        end = begin + min(shown, _REPEATED * _LONG)
        for part in range(begin, end, _LONG):
            yield self._event(text, part, min(end - part, _LONG))
        yield self.blank(end)

    def blank(self, at: int = 0) -> av.Packet[Any]:
        """An event without text."""
        return self._event(_BLANK, at, 1)

    def _event(self, text: bytes, at: int, shown: int) -> av.Packet[Any]:
        packet: av.Packet[Any] = av.Packet(text)
        packet.stream, packet.time_base = self._stream, self._base
        packet.pts = packet.dts = at
        packet.duration = shown
        return packet

    def put(self, packet: av.Packet[Any]) -> Iterable[av.Packet[Any]]:
        """What is muxed now for one of those packets, in the order of their times."""
        begin = packet.pts or 0
        if packet.size <= len(_BLANK):
            if self._last is not None and (self._end is None or begin < self._end):
                return
            end = None
        else:
            end = begin + (packet.duration or 1)
            self.cut += self._end is not None and begin < self._end
        if self._last is not None:
            begin = max(begin, self._last + 2)  # behind an end that FFmpeg may have added
            while begin - self._last > _LONG:
                self._last += _LONG
                yield self.blank(self._last)
        if end is not None:
            end = max(end, begin + 1)
        packet.pts = packet.dts = begin
        packet.duration = 1 if end is None else end - begin
        self._last, self._end = begin, end
        yield packet
