"""Muxes encoded frames and sound into FLV or MPEG-TS without delay."""

from __future__ import annotations

import io
from functools import partial
from types import SimpleNamespace
from typing import Any

import av
from av.container import OutputContainer
from av.container.core import Flags

from rtface.live.protocols import SoundFormat, SoundPacket
from rtface.live.sinks.live_encoder import TICKS, LiveEncoder
from rtface.live.sinks.transports import Transport
from rtface.live.sources.sound_to_aac import silent_frame
from rtface.media.formats.adts_headers import adts_config, config_for

# Maximum size of a write: a whole number of MPEG-TS packets.
_BUFFER_BYTES = 350 * 188
# Maximum time in microseconds that a frame waits for earlier sound.
_WAIT_US = 200_000
_OPTIONS = {
    "flv": {"flvflags": "no_duration_filesize"},
    # Seconds between tables, in addition to those before every I-frame; milliseconds between clock references (PCR).
    # TR 101 290 allows half a second and 100 ms.
    "mpegts": {"pes_payload_size": "0", "pat_period": "0.2", "sdt_period": "0.5", "pcr_period": "40"},
}


class SoundTrack:
    """An AAC stream in a container; only MPEG-TS keeps ADTS headers."""

    def __init__(self, container: OutputContainer, form: SoundFormat) -> None:
        self._container, self._no_headers = container, container.format.name != "mpegts"
        with av.open(io.BytesIO(silent_frame(form) * 2), format="aac") as template:
            self._stream = container.add_stream_from_template(template.streams.audio[0], opaque=True)
        if self._no_headers:
            self._stream.codec_context.extradata = config_for(form.rate, form.channels)

    def write(self, sound: SoundPacket, pts: int) -> None:
        """Writes a packet at `pts` in `TICKS`."""
        packet: av.Packet[Any] = av.Packet(sound.data[adts_config(sound.data)[1] :] if self._no_headers else sound.data)
        packet.stream, packet.time_base = self._stream, TICKS
        packet.pts = packet.dts = pts
        packet.duration = round(sound.duration / TICKS)
        packet.is_keyframe = True
        self._container.mux_one(packet)


class StreamMux:
    """Writes one container, starting with its header.

    Args:
        transport: transport that receives the bytes.
        generation: generation of the transport to which the bytes belong.
        encoder: encoder of the frames: H.264 with its parameter sets in I-frames.
        sound: format of the sound; None without sound.
    """

    def __init__(
        self,
        transport: Transport,
        generation: int,
        encoder: LiveEncoder,
        sound: SoundFormat | None,
    ) -> None:
        output: Any = SimpleNamespace(write=partial(transport.write, generation))
        self._container = av.open(
            output,
            "w",
            format=transport.format,
            buffer_size=_BUFFER_BYTES,
            container_options={"max_interleave_delta": str(_WAIT_US)} | _OPTIONS[transport.format],
        )
        self._container.flags |= Flags.flush_packets.value
        self._video = self._container.add_mux_stream(
            "h264", rate=encoder.rate, width=encoder.width, height=encoder.height, time_base=TICKS
        )
        self._sound = SoundTrack(self._container, sound) if sound is not None else None
        self._last: int | None = None

    def write_frame(self, packet: av.Packet[Any]) -> None:
        """Writes an encoded frame; the first must be an I-frame."""
        packet.stream = self._video
        if self._last is None:
            self._last = (packet.dts or 0) - 1
        self._container.mux_one(packet)

    def sound(self, sound: SoundPacket, seconds: float) -> None:
        """Writes an AAC packet. Drops it if it is out of order or precedes the first frame."""
        pts = round(seconds / TICKS)
        if self._sound is not None and self._last is not None and pts > self._last:
            self._last = pts
            self._sound.write(sound, pts)

    def close(self) -> None:
        """Flushes the muxer."""
        self._container.close()
