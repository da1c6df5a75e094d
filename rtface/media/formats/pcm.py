"""Finds gaps in PCM sound by comparing sample counts with packet times."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

from av.stream import Stream

_PCM = re.compile(r"pcm_(?:[suf](8|16|24|32|64)(?:le|be)?|(?:a|mu)law)")
_SILENCE = {"pcm_u8": 0x80, "pcm_alaw": 0xD5, "pcm_mulaw": 0xFF}

GAP_S = Fraction(1, 50)
"""Shortest difference that counts as a gap, in seconds. Shorter ones occur because containers round times."""


class PcmClock:
    """Compares the number of a PCM stream's samples with its packet times.

    Args:
        base: time base of the packets, in seconds.
        rate: samples per second.
        sample: bytes of one sample in all channels.
        silent: the byte value of silence.

    Attributes:
        rate, sample, silent: the arguments; `silent` as bytes.
        tick: duration of a sample, in units of the time base.
        end: end of the last packet, in the same units; None before the first packet.
    """

    def __init__(self, base: Fraction, rate: int, sample: int, silent: int) -> None:
        self.rate, self.sample, self.silent = rate, sample, bytes([silent])
        self.tick = 1 / (rate * base)
        self.end: Fraction | None = None

    @classmethod
    def of(cls, stream: Stream) -> PcmClock | None:
        """Creates the clock of a stream; None for streams other than PCM."""
        context: Any = stream.codec_context
        codec = "" if context is None else context.codec.canonical_name
        match = _PCM.fullmatch(codec)
        if match is None or context is None or not stream.time_base or not context.sample_rate or not context.channels:
            return None
        sample = int(match[1] or 8) // 8 * context.channels
        return cls(Fraction(stream.time_base), context.sample_rate, sample, _SILENCE.get(codec, 0))

    def push(self, pts: int | None, size: int) -> int:
        """Counts the next packet, of `size` bytes. A packet without a time directly follows the previous packet.

        Returns:
            Number of samples missing between the previous packet and this one; if they overlap, minus the overlap.
        """
        if pts is None:
            if self.end is not None:
                self.end += size // self.sample * self.tick
            return 0
        gap = Fraction(0) if self.end is None else (pts - self.end) / self.tick
        missing = round(gap) if abs(gap) > GAP_S * self.rate else 0
        self.end = (Fraction(pts) if missing or self.end is None else self.end) + size // self.sample * self.tick
        return missing
