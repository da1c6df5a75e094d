"""Fills gaps in copied PCM, because MOV and MP4 store no times."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import av

from rtface.media.formats.pcm import PcmClock
from rtface.stats import Stats
from rtface.util.parse import format_time


class PcmFiller:
    """Makes PCM continuous for MOV and MP4: silence fills the gaps.

    Args:
        clock: clock of the input's stream.
        longest: longest gap to fill, in seconds; a longer gap results from a damaged time.
        stats: receives warnings.
        shown: name of the output and number of the stream, for messages.
    """

    def __init__(self, clock: PcmClock, longest: float, stats: Stats, shown: str) -> None:
        self._clock, self._longest, self._stats, self._shown = clock, longest * clock.rate, stats, shown
        self._late = 0  # samples by which the output lags the input's times

    def push(self, packet: av.Packet[Any]) -> Iterator[av.Packet[Any]]:
        """Yields silence for the gap before a packet, then the packet."""
        missing = self._clock.push(packet.pts, packet.size)
        if abs(missing) > self._longest:
            self._warn(packet, missing)
        elif missing:
            owed, late = missing - self._late, self._late
            self._late = max(0, -owed)
            if owed > 0:
                yield from self._silence(packet, owed)
            elif self._late > late:
                self._warn(packet, -self._late)
        yield packet

    def _silence(self, packet: av.Packet[Any], missing: int) -> Iterator[av.Packet[Any]]:
        self._stats.warn(
            "sound_gaps_filled",
            f"{self._shown}: its sound has gaps, the first before {self._time(packet)}; they become silence, because "
            "this container stores no timestamps of PCM",
        )
        for left in range(missing, 0, -self._clock.rate):
            samples = min(self._clock.rate, left)
            silence: av.Packet[Any] = av.Packet(self._clock.silent * (samples * self._clock.sample))
            silence.time_base = packet.time_base
            silence.pts = silence.dts = (packet.pts or 0) - round(left * self._clock.tick)
            silence.duration = round(samples * self._clock.tick)
            silence.is_keyframe = True
            yield silence

    def _warn(self, packet: av.Packet[Any], missing: int) -> None:
        self._stats.warn(
            "sound_out_of_step",
            f"{self._shown}: the timestamps of its packets do not match their lengths, and this container stores no "
            f"timestamps of PCM: from {self._time(packet)} on the sound comes {abs(missing) / self._clock.rate:.2f} s "
            f"{'later' if missing < 0 else 'earlier'}; a .mkv output keeps them",
        )

    @staticmethod
    def _time(packet: av.Packet[Any]) -> str:
        return format_time(float((packet.pts or 0) * packet.time_base))
