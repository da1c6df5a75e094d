"""Converts sound to AAC of one format, with ADTS headers.

AAC in this format passes unchanged. Other sound is decoded, resampled and encoded.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from typing import Any

import av
from av.audio.codeccontext import AudioCodecContext
from av.audio.stream import AudioStream

from rtface.live.messages import SoundPacketReady
from rtface.live.protocols import SoundFormat
from rtface.media.formats.adts_headers import adts_config, adts_frame, config_for, of_config, plain_config
from rtface.media.write.transcode import AudioTranscoder
from rtface.stats import Stats

# Samples per frame of AAC.
FRAME = 1024
_USUAL = SoundFormat()
_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1"}


def form_of(source: AudioStream) -> SoundFormat:
    """Returns the format of an AAC source. For other codecs, returns 48 kHz, mono or stereo."""
    context = source.codec_context
    rate, channels = context.sample_rate, context.channels
    if context.codec.canonical_name != "aac":
        # Devices do not describe their channels, and most viewers of streams have two speakers.
        return SoundFormat(_USUAL.rate, min(2, channels))
    if context.extradata and (config := plain_config(context.extradata)):
        rate, channels = of_config(config)
    form = SoundFormat(rate, channels)
    return form if silent_frame(form) else _USUAL


class AacConverter:
    """Converts packets to `SoundPacketReady` of one format. The format of the source may change.

    Args:
        source: stream of an opened container.
        form: output format; None chooses the format that suits the source.
    """

    def __init__(self, source: AudioStream, form: SoundFormat | None = None) -> None:
        self._source = source
        self.form = form or form_of(source)
        self._target_config = config_for(self.form.rate, self.form.channels)
        self._aac = source.codec_context.codec.canonical_name == "aac"
        self._config = plain_config(source.codec_context.extradata or b"")
        self._stats = Stats()
        self._encoder: AudioTranscoder | None = None

    @property
    def errors(self) -> int:
        """Number of packets that could not be decoded."""
        return self._stats.counters["sound_packets_lost"]

    def push(self, packet: av.Packet[Any], captured: float) -> Iterator[SoundPacketReady]:
        """Yields frames of AAC from a packet; none if it is damaged.

        Args:
            packet: packet of the source.
            captured: arrival time of the packet on `time.monotonic()`.
        """
        if self._aac:
            if not packet.size or packet.is_corrupt:
                return
            if packet.has_sidedata("new_extradata"):
                self._config = plain_config(bytes(packet.get_sidedata("new_extradata")))
            if data := self._pass_through(packet):
                self._encoder = None
                yield self._packet(data, packet, captured)
                return
        if self._encoder is None:
            self._encoder = _encoder(self._source, self.form, self._stats)
        for encoded in self._encoder.push(packet):
            yield self._packet(adts_frame(self._target_config, bytes(encoded)), encoded, captured)

    def _pass_through(self, packet: av.Packet[Any]) -> bytes:
        """Returns an AAC packet with its header; b"" if it needs conversion."""
        data = bytes(packet)
        config = adts_config(data)[0]
        if config and not self._source.codec_context.extradata:
            return data if config == self._target_config else b""
        return adts_frame(self._target_config, data) if self._config == self._target_config else b""

    def _packet(self, data: bytes, packet: av.Packet[Any], captured: float) -> SoundPacketReady:
        stamp = None if packet.pts is None else float(packet.pts * packet.time_base)
        duration = float((packet.duration or 0) * packet.time_base) or FRAME / self.form.rate
        return SoundPacketReady(data, stamp, captured, duration)


def _encoder(source: AudioStream, form: SoundFormat, stats: Stats) -> AudioTranscoder:
    """Creates a transcoder from a stream to AAC without headers."""
    container = av.open(io.BytesIO(), "w", format="adts")  # nothing is written, but a stream needs a container
    target: AudioStream = container.add_stream("aac", rate=form.rate)
    AudioTranscoder.configure(source, target)
    context = target.codec_context
    context.sample_rate, context.layout = form.rate, _LAYOUTS[form.channels]
    context.time_base = Fraction(1, form.rate)
    return AudioTranscoder(source, target, stats)


@lru_cache
def silent_frame(form: SoundFormat = _USUAL) -> bytes:
    """Returns an AAC frame of silence with ADTS header. It can be repeated. Returns b"" for an unsupported format."""
    config = config_for(form.rate, form.channels)
    if not config or form.channels not in _LAYOUTS:
        return b""
    context = AudioCodecContext.create("aac", "w")
    assert isinstance(context, AudioCodecContext)
    context.sample_rate, context.layout, context.format = form.rate, _LAYOUTS[form.channels], "fltp"
    context.time_base = Fraction(1, form.rate)
    data = b""
    for count in range(4):  # the first frames differ, because the encoder starts up
        silence = av.AudioFrame("fltp", _LAYOUTS[form.channels], FRAME)
        silence.sample_rate = form.rate
        for plane in silence.planes:
            plane.update(bytes(plane.buffer_size))
        silence.pts, silence.time_base = count * FRAME, Fraction(1, form.rate)
        for packet in context.encode(silence):
            data = bytes(packet)
    return adts_frame(config, data) if plain_config(context.extradata or b"") == config else b""
