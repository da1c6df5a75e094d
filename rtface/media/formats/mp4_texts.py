"""Texts of an MP4 or MOV track, one after the other, each ended here and not by FFmpeg's muxer."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import Any

import av
from av.container import OutputContainer
from av.stream import Stream

_BLANK = b"\0\0"  # an event without text: an empty string after its 16-bit length
_LONG = 1 << 30  # units that a sample may last; FFmpeg gives longer ones another time
_REPEATED = 64  # samples of one text at most: hours, which no real text takes
_STYLE = 12  # bytes of a record of the style box (3GPP TS 26.245)
_UTF16 = (b"\xfe\xff", b"\xff\xfe")


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
    A track shows one text at a time: those of one time become one.

    Args:
        stream: its time base is set.

    Attributes:
        joined: texts that began while another was shown: both are shown as one.
    """

    def __init__(self, stream: Stream) -> None:
        assert stream.time_base
        self._stream, self._base = stream, Fraction(stream.time_base)
        self._last: int | None = None  # the time of the last event
        self._shown = list[tuple[bytes, int]]()  # texts that are shown, and their ends
        self.joined = 0

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
        begin, text = packet.pts or 0, bytes(packet)
        before, self._shown = self._shown, [(shown, end) for shown, end in self._shown if end > begin]
        if len(text) > len(_BLANK):
            end = begin + (packet.duration or 1)
            self.joined += bool(self._shown)
            self._shown.append((text, end))
        elif self._last is not None and (not before or len(self._shown) == len(before)):
            return  # none ended here
        if self._last is not None:
            begin = max(begin, self._last + 2)  # behind an end that FFmpeg may have added
            while begin - self._last > _LONG:
                self._last += _LONG
                yield self.blank(self._last)
        self._last = begin
        if not self._shown:
            yield self.blank(begin)
            return
        self._shown = [(shown, max(end, begin + 1)) for shown, end in self._shown]
        yield self._event(joined([shown for shown, _ in self._shown]), begin, min(e for _, e in self._shown) - begin)


def joined(texts: Sequence[bytes]) -> bytes:
    """Texts of one time as one, a line below the other, with their styles; the last alone where they do not fit."""
    lines, styles, at = list[bytes](), list[bytes](), 0
    for text in texts:
        size = int.from_bytes(text[:2], "big")
        line, boxes = text[2 : 2 + size], text[2 + size :]
        lines.append(line)
        styles += _styles(boxes, at)
        at += len(line.decode("utf-8", "replace")) + 1
    line = b"\n".join(lines)
    if len(texts) == 1 or len(line) > 0xFFFF or any(text.startswith(_UTF16) for text in lines):
        return texts[-1]
    style = struct.pack(">I4sH", 10 + _STYLE * len(styles), b"styl", len(styles)) + b"".join(styles) if styles else b""
    return len(line).to_bytes(2, "big") + line + style


def _styles(boxes: bytes, at: int) -> Iterator[bytes]:
    """The records of the style box among the boxes behind a text, for characters that come `at` places later."""
    place = 0
    while place + 10 <= len(boxes):
        size, kind = struct.unpack_from(">I4s", boxes, place)
        if kind == b"styl":
            for record in range(place + 10, min(place + size, len(boxes)) - _STYLE + 1, _STYLE):
                first, last = struct.unpack_from(">HH", boxes, record)
                if last + at <= 0xFFFF:
                    yield struct.pack(">HH", first + at, last + at) + boxes[record + 4 : record + _STYLE]
        place += max(8, size)
