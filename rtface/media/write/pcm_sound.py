"""Fills gaps in copied PCM, because MOV and MP4 store no times."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import av

from rtface.media.formats.pcm import PcmClock
from rtface.stats import Stats
from rtface.util.parse import format_time


class PcmFiller:
    """Makes PCM continuous for MOV and MP4 by filling gaps with silence.

    Args:
        clock: clock of the input's stream.
        longest: longest gap to fill, in seconds; a longer gap is due to a damaged timestamp.
        stats: receives warnings.
        label: name of the output and number of the stream, for messages.
    """

    def __init__(self, clock: PcmClock, longest: float, stats: Stats, label: str) -> None:
        self._clock, self._longest, self._stats, self._label = clock, longest * clock.rate, stats, label
        self._late = 0  # samples by which the output lags the input's times

    def push(self, packet: av.Packet[Any]) -> Iterator[av.Packet[Any]]:
        """Yields silence for the gap before a packet, then the packet."""
        missing = self._clock.push(packet.pts, packet.size)
        if abs(missing) > self._longest:
            self._warn(packet, missing)
        elif missing:
            to_fill, late = missing - self._late, self._late
            self._late = max(0, -to_fill)
            if to_fill > 0:
                yield from self._silence(packet, to_fill)
            elif self._late > late:
                self._warn(packet, -self._late)
        yield packet

    def _silence(self, packet: av.Packet[Any], missing: int) -> Iterator[av.Packet[Any]]:
        self._stats.warn(
            "sound_gaps_filled",
            f"{self._label}: the sound has gaps, the first before {self._time(packet)}; they are filled with silence, "
            "because this container stores no timestamps for PCM",
        )
        for remaining in range(missing, 0, -self._clock.rate):
            samples = min(self._clock.rate, remaining)
            silence: av.Packet[Any] = av.Packet(self._clock.silent * (samples * self._clock.sample))
            silence.time_base = packet.time_base
            silence.pts = silence.dts = (packet.pts or 0) - round(remaining * self._clock.tick)
            silence.duration = round(samples * self._clock.tick)
            silence.is_keyframe = True
            yield silence

    def _warn(self, packet: av.Packet[Any], missing: int) -> None:
        self._stats.warn(
            "sound_out_of_step",
            f"{self._label}: the timestamps of sound packets do not match their lengths, and this container stores no "
            f"timestamps for PCM: from {self._time(packet)} on, the sound is {abs(missing) / self._clock.rate:.2f} s "
            f"{'later' if missing < 0 else 'earlier'}; a .mkv output keeps the timestamps",
        )

    @staticmethod
    def _time(packet: av.Packet[Any]) -> str:
        return format_time(float((packet.pts or 0) * packet.time_base))
