"""Joins simultaneous texts for MP4 and MOV. Their text tracks show one text at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import av
from av.container import OutputContainer
from av.stream import Stream

_BLANK = b"\0\0"  # an event without text: an empty string after its 16-bit length
_MAX_GAP = 1 << 30  # maximum time units between two samples; FFmpeg changes longer gaps
_UTF16 = (b"\xfe\xff", b"\xff\xfe")


def text_clock(container: OutputContainer, frames: Fraction) -> Fraction:
    """Returns the time unit of text tracks. It divides a millisecond and is at most half that of sound and frames.

    If another track's unit is shorter, FFmpeg's muxer ends a text immediately, and moves a text that starts earlier.

    Args:
        container: container with all its streams added.
        frames: time unit of the frames; FFmpeg halves it until it is less than 1/10000 s.
    """
    rates = (sound.codec_context.sample_rate for sound in container.streams.audio)
    fastest = max(frames.denominator, 20_000, *rates)
    return Fraction(1, 2000 * min(-(-fastest // 1000), 1000))


class TextTrack:
    """Joins texts that are shown at the same time. FFmpeg's muxer adds blanks between texts.

    Args:
        stream: stream of the texts; its time base is set.

    Attributes:
        joined: number of texts that started while another text was shown.
    """

    def __init__(self, stream: Stream) -> None:
        assert stream.time_base
        self._stream, self._base = stream, Fraction(stream.time_base)
        self._last = 0  # time of the last event
        self._active = list[tuple[bytes, int]]()  # texts that are shown now, and their end times
        self.joined = 0

    def split(self, packet: av.Packet[Any], now: float) -> Iterator[av.Packet[Any]]:
        """Yields a packet in the track's time units, then a blank.

        A packet without text or duration yields nothing. A packet without a time starts at `now`, in seconds.
        """
        stamp = packet.pts if packet.pts is not None else packet.dts
        start = round(stamp * packet.time_base / self._base) if stamp is not None else round(now / self._base)
        if packet.size > len(_BLANK) and packet.duration:
            end = start + max(1, round(packet.duration * packet.time_base / self._base))
            yield self._event(bytes(packet), start, end)
            yield self._event(_BLANK, end, end)

    def _event(self, text: bytes, start: int, end: int) -> av.Packet[Any]:
        packet: av.Packet[Any] = av.Packet(text)
        packet.stream, packet.time_base = self._stream, self._base
        packet.pts = packet.dts = start
        packet.duration = end - start
        return packet

    def put(self, packet: av.Packet[Any]) -> Iterator[av.Packet[Any]]:
        """Yields the packets to mux for a packet from `split`. Expects packets in time order."""
        start, text = packet.pts or 0, bytes(packet)
        active_before, self._active = len(self._active), [(active, end) for active, end in self._active if end > start]
        if len(text) > len(_BLANK):
            self.joined += bool(self._active)
            self._active.append((text, start + (packet.duration or 0)))
        elif len(self._active) == active_before:
            return  # no text ended here
        while start - self._last > _MAX_GAP:
            self._last += _MAX_GAP
            yield self._event(_BLANK, self._last, self._last)
        self._last = start
        if self._active:
            texts, ends = zip(*self._active, strict=True)
            yield self._event(joined(texts), start, min(ends))


def joined(texts: Sequence[bytes]) -> bytes:
    """Joins simultaneous texts as lines without styles. Returns only the last text if they cannot be joined."""
    lines = [text[2 : 2 + int.from_bytes(text[:2], "big")] for text in texts]
    line = b"\n".join(lines)
    if len(texts) == 1 or len(line) > 0xFFFF or any(text.startswith(_UTF16) for text in lines):
        return texts[-1]
    return len(line).to_bytes(2, "big") + line
