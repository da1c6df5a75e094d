"""A source's sound as frames of AAC with ADTS headers: AAC as it is, anything else encoded."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
from av.audio.stream import AudioStream

from rtface.live.sources.messages import Heard
from rtface.media.transcode import Sound
from rtface.stats import Stats

RATE = 48_000
# Samples of one frame of AAC.
FRAME = 1024


class AdtsFile:
    """What FFmpeg's adts muxer writes into; `taken` gives what came since."""

    def __init__(self) -> None:
        self._data = bytearray()

    def write(self, data: bytes) -> int:
        self._data += data
        return len(data)

    def taken(self) -> bytes:
        data = bytes(self._data)
        self._data.clear()
        return data


class SoundTrack:
    """Packets of one sound stream in, `Heard` out.

    Args:
        source: stream of an opened container.
    """

    def __init__(self, source: AudioStream) -> None:
        self._source = source
        self._stats = Stats()
        self._encoder: Sound | None = None
        self._begin(passing=source.codec_context.codec.canonical_name == "aac")

    @property
    def errors(self) -> int:
        """Packets that could not be decoded."""
        return self._stats.counters["sound_packets_lost"]

    def push(self, packet: av.Packet[Any], captured: float) -> Iterator[Heard]:
        """What a packet gives; nothing for a damaged one.

        Args:
            packet: of the source.
            captured: `time.monotonic()` when it was there.
        """
        if self._encoder is None:
            try:
                yield from self._pass(packet, captured)
            except av.FFmpegError:  # AAC that has no place in ADTS
                self._begin(passing=False)
        if self._encoder is not None:
            for made in self._encoder.push(packet):
                yield from self._put(made, captured)

    def _begin(self, *, passing: bool) -> None:
        self._file = AdtsFile()
        self._box: Any = av.open(self._file, "w", format="adts", options={"fflags": "flush_packets"})
        self._written = 0
        if passing:
            self._target: AudioStream = self._box.add_stream_from_template(self._source)
            return
        self._target = self._box.add_stream("aac", rate=RATE)
        Sound.configure(self._source, self._target)
        self._target.codec_context.sample_rate = RATE
        # Devices do not name their speakers, and viewers of a stream have two.
        self._target.codec_context.layout = "mono" if self._source.codec_context.channels == 1 else "stereo"
        self._target.codec_context.time_base = Fraction(1, RATE)
        self._encoder = Sound(self._source, self._target, self._stats, Fraction(0))

    def _pass(self, packet: av.Packet[Any], captured: float) -> Iterator[Heard]:
        if not packet.size or packet.is_corrupt:
            return
        copy: av.Packet[Any] = av.Packet(bytes(packet))
        copy.time_base, copy.pts, copy.dts, copy.duration = packet.time_base, packet.pts, packet.dts, packet.duration
        yield from self._put(copy, captured)

    def _put(self, packet: av.Packet[Any], captured: float) -> Iterator[Heard]:
        context = self._target.codec_context
        rate = context.sample_rate or RATE
        stamp = None if packet.pts is None else float(packet.pts * packet.time_base)
        duration = float((packet.duration or 0) * packet.time_base) or FRAME / rate
        # The muxer wants times that rise, and ADTS keeps none: it gets a count.
        packet.pts = packet.dts = self._written
        packet.time_base, packet.duration = Fraction(1, 1000), 1
        packet.stream = self._target
        self._written += 1
        self._box.mux(packet)
        data = self._file.taken()
        if data:
            yield Heard(data, stamp, captured, duration, rate, context.channels)


def silent_frame() -> bytes:
    """One frame of silence, stereo, 48 kHz; any number of them is silence."""
    file = AdtsFile()
    with av.open(file, "w", format="adts", options={"fflags": "flush_packets"}) as box:
        stream: AudioStream = box.add_stream("aac", rate=RATE)
        stream.codec_context.layout = "stereo"
        silence = av.AudioFrame("fltp", "stereo", FRAME)
        silence.sample_rate = RATE
        for plane in silence.planes:
            plane.update(bytes(plane.buffer_size))
        data = b""
        for count in range(4):  # the first ones hold the encoder's own beginning
            silence.pts, silence.time_base = count * FRAME, Fraction(1, RATE)
            for packet in stream.encode(silence):
                box.mux(packet)
                data = file.taken() or data
    return data
