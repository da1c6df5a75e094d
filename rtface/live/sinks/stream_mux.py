"""Muxer of encoded frames and sound into FLV or MPEG-TS, whose bytes can be sent at once."""

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

# Bytes that are given on at once, at most: whole packets of MPEG-TS.
_BUFFER = 350 * 188
# A frame waits this long at most for sound that belongs in front of it.
_WAIT_US = 200_000
_OPTIONS = {
    "flv": {"flvflags": "no_duration_filesize"},
    # Seconds between tables, besides those before every I-frame; milliseconds between clocks: TR 101 290 allows
    # half a second and 100 ms.
    "mpegts": {"pes_payload_size": "0", "pat_period": "0.2", "sdt_period": "0.5", "pcr_period": "40"},
}


class SoundTrack:
    """A stream of AAC in a container; packets keep their ADTS headers in MPEG-TS only."""

    def __init__(self, container: OutputContainer, form: SoundFormat) -> None:
        self._container, self._bare = container, container.format.name != "mpegts"
        with av.open(io.BytesIO(silent_frame(form) * 2), format="aac") as template:
            self._stream = container.add_stream_from_template(template.streams.audio[0], opaque=True)
        if self._bare:
            self._stream.codec_context.extradata = config_for(form.rate, form.channels)

    def write(self, sound: SoundPacket, pts: int) -> None:
        """Writes a packet at `pts` in `TICKS`."""
        packet: av.Packet[Any] = av.Packet(sound.data[adts_config(sound.data)[1] :] if self._bare else sound.data)
        packet.stream, packet.time_base = self._stream, TICKS
        packet.pts = packet.dts = pts
        packet.duration = round(sound.duration / TICKS)
        packet.is_keyframe = True
        self._container.mux_one(packet)


class StreamMux:
    """One run of a container, from its header on.

    Args:
        transport: gets the bytes.
        generation: of the transport that they are of.
        encoder: of the frames, H.264 with its parameter sets in I-frames.
        sound: form of the sound, None where there is none.
    """

    def __init__(
        self,
        transport: Transport,
        generation: int,
        encoder: LiveEncoder,
        sound: SoundFormat | None,
    ) -> None:
        sent: Any = SimpleNamespace(write=partial(transport.write, generation))
        self._container = av.open(
            sent,
            "w",
            format=transport.format,
            buffer_size=_BUFFER,
            container_options={"max_interleave_delta": str(_WAIT_US)} | _OPTIONS[transport.format],
        )
        self._container.flags |= Flags.flush_packets.value
        self._video = self._container.add_mux_stream(
            "h264", rate=encoder.rate, width=encoder.width, height=encoder.height, time_base=TICKS
        )
        self._sound = SoundTrack(self._container, sound) if sound is not None else None
        self._last: int | None = None

    def write_frame(self, packet: av.Packet[Any]) -> None:
        """Writes an encoded frame; the first has to be an I-frame."""
        packet.stream = self._video
        if self._last is None:
            self._last = (packet.dts or 0) - 1
        self._container.mux_one(packet)

    def sound(self, sound: SoundPacket, seconds: float) -> None:
        """Writes a packet of AAC, unless it comes before the first frame, or is not later than the packet before."""
        pts = round(seconds / TICKS)
        if self._sound is not None and self._last is not None and pts > self._last:
            self._last = pts
            self._sound.write(sound, pts)

    def close(self) -> None:
        """Writes what waits."""
        self._container.close()
