"""Transcodes sound and text subtitles for containers that cannot hold them unchanged."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from math import ceil
from typing import Any

import av
from av.filter import Graph
from av.stream import Stream
from av.subtitles.stream import SubtitleStream

from rtface.media.formats.adts_headers import adts_config
from rtface.stats import Stats

# Bits per second and channel. FFmpeg's AAC encoder is transparent for most material from about 96 kb/s upwards.
_BITS = {"aac": 96_000, "libopus": 80_000}
# Layouts of libopus (RFC 7845, 5.1.1.2).
_OPUS_LAYOUTS = ("mono", "stereo", "3.0", "quad", "5.0", "5.1", "6.1", "7.1")

_MILLISECOND = Fraction(1, 1000)
# Lossless sound is not stretched, only padded and trimmed by whole samples.
_WHOLE_SAMPLES = "async=1:min_hard_comp=0.01"
_USUAL_LAYOUT = {1: "mono", 2: "stereo", 3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}


class AudioTranscoder:
    """Transcodes a sound stream, and keeps it in sync with the frames.

    Silence fills gaps, and the resampler follows the input's clock (libswresample's async mode), so the offset to the
    frames stays constant.

    Args:
        source, target: streams of the input and of the output.
        stats: receives counters.
        fills: whether to insert silence before sound that starts late, as for MXF, which stores no times.
    """

    def __init__(self, source: av.AudioStream, target: av.AudioStream, stats: Stats, *, fills: bool = False) -> None:
        self._source, self._target, self._stats, self._fills = source, target, stats, fills
        self._graph: Graph | None = None
        self._input_format: tuple[int, str, str] | None = None  # the resampler's sample rate, format and layout
        self._base: Fraction | None = None  # time base of the decoded frames
        self._next: int | None = None  # end of the last decoded frame
        self._end = 0  # end of the encoded sound, in samples

    @staticmethod
    def configure(source: av.AudioStream, target: av.AudioStream) -> None:
        """Configures an encoder for the source's rate and channel layout."""
        context = source.codec_context
        opus = target.codec_context.name == "libopus"
        rates = target.codec_context.codec.audio_rates
        supported = not rates or context.sample_rate in rates
        fixed = opus or target.container.format.name == "mxf"
        target.codec_context.sample_rate = context.sample_rate if supported and not fixed else 48_000
        target.codec_context.layout = encoded_layout(source, target.codec_context.name)
        target.codec_context.time_base = Fraction(1, target.codec_context.sample_rate)
        if target.codec_context.name.startswith("pcm_"):
            target.codec_context.format = (target.codec_context.codec.audio_formats or [])[0]
            return
        target.codec_context.format = "flt" if opus else "fltp"
        target.bit_rate = min(_BITS[target.codec_context.name] * max(1, context.channels), 512_000)

    def push(self, packet: av.Packet[Any] | None) -> Iterator[av.Packet[Any]]:
        """Yields target packets for a source packet. A damaged packet is left out and counted."""
        try:
            frames = self._source.decode(packet)
        except av.EOFError:
            return
        except av.FFmpegError:
            self._stats.count("sound_packets_lost")
            self._stats.warn(
                f"sound_packets_lost:{self._source.index}",
                f"stream {self._source.index}: damaged sound could not be decoded and is left out; the sound after it "
                "keeps its times",
            )
            return
        for frame in frames:
            base = frame.time_base = packet.time_base if packet else self._base
            # Some decoders (WMA) return their last frames without a time.
            frame.pts = self._next if frame.pts is None else frame.pts
            if frame.pts is not None and base:
                self._next = frame.pts + round(Fraction(frame.samples, frame.sample_rate) / base)
            kind = (frame.sample_rate, frame.format.name, frame.layout.name)
            if self._graph is not None and kind != self._input_format:  # the source's rate, format or layout changed
                self._graph.push(None)
                yield from self._drain()
                self._graph = None
            if self._graph is None:
                self._graph, self._input_format, self._base = self._filter(frame), kind, frame.time_base
            self._graph.push(frame)
            yield from self._drain()

    def finish(self, length: Fraction | None = None) -> Iterator[av.Packet[Any]]:
        """Yields the remaining packets, and silence up to a length in seconds."""
        if self._graph is not None:
            yield from self.push(None)
            self._graph.push(None)
            yield from self._drain()
        context = self._target.codec_context
        while self._end < ceil((length or 0) * context.sample_rate):
            silence = av.AudioFrame(context.format.name, context.layout.name, context.sample_rate // 100)
            for plane in silence.planes[: context.channels]:  # from eight channels on, PyAV reports too many planes
                plane.update(bytes(plane.buffer_size))
            silence.sample_rate, silence.time_base, silence.pts = context.sample_rate, context.time_base, self._end
            yield from self._encode(silence)
        if self._end:
            yield from self._target.encode(None)

    def _encode(self, frame: av.AudioFrame) -> Iterator[av.Packet[Any]]:
        self._end = (frame.pts or 0) + frame.samples
        yield from self._target.encode(frame)

    def _filter(self, frame: av.AudioFrame) -> Graph:
        context = self._target.codec_context
        options = _WHOLE_SAMPLES if context.name.startswith("pcm_") else "async=1000"
        options += ":first_pts=0" if self._fills and not self._end else ""
        graph = Graph()
        graph.link_nodes(
            graph.add_abuffer(
                sample_rate=frame.sample_rate,
                format=frame.format.name,
                layout=frame.layout.name,
                time_base=frame.time_base,
            ),
            graph.add("aresample", options),
            graph.add(
                "aformat",
                f"sample_fmts={context.format.name}:sample_rates={context.sample_rate}:"
                f"channel_layouts={context.layout.name}",
            ),
            graph.add("abuffersink"),
        ).configure()
        return graph

    def _drain(self) -> Iterator[av.Packet[Any]]:
        assert self._graph is not None
        while True:
            try:
                frame = self._graph.pull()
            except (av.BlockingIOError, av.EOFError):
                return
            assert isinstance(frame, av.AudioFrame)
            yield from self._encode(frame)


def layout_of(source: av.AudioStream) -> str:
    """Returns FFmpeg's name of a sound stream's layout. Unnamed layouts (PCM in Matroska) get the usual name."""
    layout = source.codec_context.layout.name
    return _USUAL_LAYOUT.get(source.codec_context.channels, layout) if layout.endswith("channels") else layout


def encoded_layout(source: av.AudioStream, encoder: str) -> str:
    """Returns the channel layout in which a sound stream is encoded. If Opus lacks the source's layout, this is the
    smallest Opus layout that contains it; the additional channels are silent."""
    layout = layout_of(source)
    if encoder != "libopus":
        return layout
    channels = _speakers(layout)
    variants = (
        (channels,) if {"BL", "SL"} <= channels else (channels, {{"SL": "BL", "SR": "BR"}.get(n, n) for n in channels})
    )
    return next((name for name in _OPUS_LAYOUTS if any(variant <= _speakers(name) for variant in variants)), layout)


def _speakers(layout: str) -> set[str]:
    return {channel.name for channel in av.AudioLayout(layout).channels}


def without_adts(packet: av.Packet[Any], source: Stream, target: Stream, format: str) -> av.Packet[Any]:
    """Returns a copied packet, in MP4 and MOV without ADTS headers. AAC from broadcasts has these headers; in MP4 and
    MOV, the stream's header replaces them.

    FFmpeg's muxers remove the headers themselves, but not while they write fragments. (ISO 14496-3, 1.A.2, 1.6)
    """
    if format not in ("mp4", "mov") or not isinstance(source, av.AudioStream):
        return packet
    data = bytes(packet) if source.codec_context.codec.canonical_name == "aac" else b""
    config, header = adts_config(data)
    if not config:
        return packet
    assert isinstance(target, av.AudioStream)
    if not target.codec_context.extradata:
        target.codec_context.extradata = config
    bare: av.Packet[Any] = av.Packet(data[header:])
    bare.time_base, bare.pts, bare.dts, bare.duration = packet.time_base, packet.pts, packet.dts, packet.duration
    bare.is_keyframe = True
    return bare


class SubtitleTranscoder:
    """Converts text subtitles to another format. Styling is kept as far as the target supports it."""

    def __init__(self, source: SubtitleStream, target: SubtitleStream, stats: Stats) -> None:
        self._source, self._target, self._stats = source, target, stats
        source.codec_context.open(strict=False)  # encoders need the header with the styles before they open
        target.codec_context.subtitle_header = source.codec_context.subtitle_header
        target.codec_context.time_base = _MILLISECOND

    def push(self, packet: av.Packet[Any]) -> Iterator[av.Packet[Stream]]:
        """Yields the packet of an event in the target's format. Unreadable events are left out, with a warning."""
        if packet.size == 0:
            return
        try:
            events = self._source.codec_context.decode2(packet)
            if events is None or packet.pts is None:
                return
            # The encoder writes text only; the packet gets its display time below.
            text = self._target.codec_context.encode_subtitle(events)
        except av.FFmpegError:
            self._stats.warn("subtitles_lost", "a subtitle could not be converted and is left out")
            return
        text.time_base, text.pts, text.duration = packet.time_base, packet.pts, packet.duration
        text.dts = text.pts
        yield text
