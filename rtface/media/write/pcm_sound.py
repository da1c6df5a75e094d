"""Sound as PCM for containers that note no times of it: MOV and MP4, and MXF, where it is as long as the frames."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream

from rtface.media.formats.pcm import PcmClock
from rtface.media.write.transcode import AudioTranscoder, layout_of
from rtface.stats import Stats
from rtface.util.parse import format_time

RATE = 48_000


class PcmFiller:
    """PCM as MOV and MP4 hold it: samples that follow each other, so that silence has to fill the gaps.

    Args:
        clock: of the input's stream.
        longest: seconds; a longer gap comes of a damaged time, and is left as it is.
        stats: receives counters.
        shown: name of the output and number of the stream, for messages.
    """

    def __init__(self, clock: PcmClock, longest: float, stats: Stats, shown: str) -> None:
        self._clock, self._longest, self._stats, self._shown = clock, longest * clock.rate, stats, shown
        self._late = 0  # samples by which the output is behind the input's times

    def push(self, packet: av.Packet[Any]) -> Iterator[av.Packet[Any]]:
        """The packet, behind the silence that leads to it."""
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
        self._stats.count("sound_gaps_filled")
        self._stats.warn(
            "sound_gaps_filled",
            f"{self._shown}: its sound has gaps, the first before {self._time(packet)}; they become silence, because "
            "this container holds no times of PCM",
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
        self._stats.count("sound_out_of_step")
        self._stats.warn(
            "sound_out_of_step",
            f"{self._shown}: the times of its packets do not fit their lengths, and this container holds no "
            f"times of PCM: from {self._time(packet)} on the sound comes "
            f"{abs(missing) / self._clock.rate:.2f} s {'later' if missing < 0 else 'earlier'}; a .mkv output "
            "keeps them",
        )

    @staticmethod
    def _time(packet: av.Packet[Any]) -> str:
        return format_time(float((packet.pts or 0) * packet.time_base))


class PcmTranscoder(AudioTranscoder):
    """Sound of one stream as PCM of 48 kHz, from the first frame on.

    What begins before the first frame is cut off, gaps and what is missing at the ends are filled with silence. Where
    the source is PCM or lossless and has 48 kHz, its samples stay what they are: times are followed by whole samples.

    Args:
        source, target: streams of the input and of the output.
        stats: receives counters.
        origin: time of the first frame, in seconds of the input's clock.

    Attributes:
        end: of the sound so far, in seconds of the output.
    """

    def __init__(self, source: AudioStream, target: AudioStream, stats: Stats, origin: Fraction) -> None:
        super().__init__(source, target, stats, origin)
        self.end = Fraction(0)

    @staticmethod
    def configure(source: AudioStream, target: AudioStream) -> None:
        """Sets the encoder up for the source's speakers."""
        context = target.codec_context
        context.sample_rate, context.layout = RATE, layout_of(source)
        context.format = "s16" if context.name == "pcm_s16le" else "s32"
        context.time_base = Fraction(1, RATE)

    def take(self, frame: AudioFrame) -> Iterator[av.Packet[Any]]:
        """As `AudioTranscoder.take`; notes where the sound ends."""
        if frame.pts is not None:
            self.end = frame.pts * (frame.time_base or Fraction(0)) + Fraction(frame.samples, frame.sample_rate)
        yield from super().take(frame)

    @property
    def resampling(self) -> str:
        """Options of libswresample: whole samples only, and silence from 0 on before the first sound."""
        return super().resampling + (":first_pts=0" if self.like is None else "")

    def pad(self, length: Fraction) -> Iterator[av.Packet[Any]]:
        """Silence from the end of the sound to so many seconds of the film; nothing where the sound is longer."""
        context = self._source.codec_context
        like = self.like or (context.sample_rate, context.format.name, context.layout.name)
        rate = like[0]
        at, end = math.floor(max(self.end, Fraction(0)) * rate), math.ceil(length * rate)
        while at < end:
            silence = AudioFrame(like[1], like[2], min(rate, end - at))
            for plane in silence.planes[: silence.layout.nb_channels]:  # PyAV counts more of eight and more
                plane.update(bytes([128 if like[1].startswith("u8") else 0]) * plane.buffer_size)
            silence.sample_rate = rate
            silence.time_base = self.base or self._source.time_base or Fraction(1, rate)
            silence.pts = round(Fraction(at, rate) / silence.time_base)
            at += silence.samples
            self.end = Fraction(at, rate)
            yield from super().take(silence)

    def finish(self, length: Fraction | None = None) -> Iterator[av.Packet[Any]]:
        """The packets that are still inside, and silence up to the length of the film in seconds."""
        yield from self.flush()
        yield from self.pad(length or Fraction(0))
        yield from super().finish()
