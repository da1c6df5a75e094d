"""Plans each stream by trying the container's muxer. The test uses the stream's first packet, before the run."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from typing import Any, Literal

import av
from av.container import OutputContainer
from av.stream import Disposition, Stream

from rtface.errors import Message, UsageError
from rtface.media.read.media_info import MediaInfo, StreamInfo
from rtface.media.write.transcode import AudioTranscoder, encoded_layout, layout_of, without_adts

Action = Literal["copy", "sound", "text", "attach", "drop"]

_TEXT_ENCODERS = {"mp4": "mov_text", "mov": "mov_text", "matroska": "subrip", "webm": "webvtt"}
_TEXT_CODECS = {
    "subrip",
    "ass",
    "ssa",
    "webvtt",
    "mov_text",
    "text",
    "microdvd",
    "subviewer",
    "sami",
    "realtext",
    "stl",
    "jacosub",
    "mpl2",
    "pjs",
    "vplayer",
    "subviewer1",
}
_SOUND_ENCODERS = {"webm": "libopus"}
_PCM_IN = ("matroska", "mov")  # containers in which lossless sound becomes PCM
_LOSSLESS_SOUND = {"flac", "alac", "truehd", "mlp", "wavpack", "tta", "ape", "tak", "shorten", "als", "wmalossless"}
_TS_CODECS = {
    "aac",
    "mp1",
    "mp2",
    "mp3",
    "ac3",
    "eac3",
    "dts",
    "truehd",
    "opus",
    "h264",
    "hevc",
    "mpeg2video",
    "mpeg1video",
    "dvb_subtitle",
    "hdmv_pgs_subtitle",
    "aac_latm",
}
_TS_DATA = {"klv", "timed_id3", "bin_data", "scte_35"}
COVERS = {
    "png": ("cover.png", "image/png"),
    "mjpeg": ("cover.jpg", "image/jpeg"),
    "bmp": ("cover.bmp", "image/bmp"),
    "webp": ("cover.webp", "image/webp"),
}


@dataclass(slots=True)
class StreamPlan:
    """The plan for one stream.

    Attributes:
        stream: stream of the input.
        action: "copy" copies packets, "sound" and "text" transcode, "attach" attaches a cover image, "drop" leaves the
            stream out.
        encoder: encoder for "sound" and "text".
    """

    stream: StreamInfo
    action: Action
    encoder: str = ""


def named(stream: StreamInfo) -> str:
    """Returns a stream's name for users: the name of its file or codec."""
    return stream.metadata.get("filename") or stream.codec or "unknown kind"


def without(info: MediaInfo, drop: Sequence[str]) -> MediaInfo:
    """Drops the streams listed in ``--drop``, with a note for each. Keeps timecode streams."""
    names, streams = set(drop), [stream for stream in info.streams if not stream.enhanced]
    if missing := [name for name in drop if name.isdecimal() and name not in {str(stream.index) for stream in streams}]:
        listed = ", ".join(map(called, streams)) or "none"
        raise UsageError(
            "{--drop:{stream}}: {path} has no such stream besides the video; it has {streams}",
            code="drop_none",
            stream=missing[0],
            path=info.path,
            streams=listed,
        )
    dropped = [
        stream
        for stream in streams
        if not stream.metadata.get("timecode") and names & {str(stream.index), _kind_of(stream)}
    ]
    notes = [
        Message("stream {stream} is left out ({--drop})", code="stream_dropped", stream=called(stream))
        for stream in dropped
    ]
    chapters = info.chapters
    if "chapters" in names and chapters:
        notes.append(Message("{count} chapters are left out ({--drop})", code="chapters_dropped", count=len(chapters)))
        chapters = []
    return replace(
        info,
        streams=[stream for stream in info.streams if stream not in dropped],
        chapters=chapters,
        notes=[*info.notes, *notes],
    )


def _kind_of(stream: StreamInfo) -> str:
    return "cover" if stream.disposition & Disposition.attached_pic else stream.kind


def called(stream: StreamInfo) -> str:
    """Returns a stream's name for messages about ``--drop``."""
    return f"{stream.index} ({_kind_of(stream)}, {named(stream)})"


def choose(stream: StreamInfo, format: str) -> tuple[StreamPlan | None, str]:
    """Returns a stream's plan and a note for the user. The plan is None if the container cannot store the stream."""
    if stream.disposition & Disposition.attached_pic:
        if format == "matroska" and stream.cover and stream.codec in COVERS:
            return StreamPlan(stream, "attach"), ""
        return StreamPlan(stream, "drop"), f"the cover image is left out because {format} cannot hold it"
    if stream.kind == "attachment":
        return (StreamPlan(stream, "copy") if format == "matroska" else None), ""
    if stream.kind in ("data", "unknown"):
        if stream.metadata.get("timecode"):  # kept as a tag of the video stream; in MP4 and MOV as a track
            return StreamPlan(stream, "drop"), ""
        if stream.kind == "data" and accepts(format, stream):
            return StreamPlan(stream, "copy"), ""
        return StreamPlan(stream, "drop"), f"data ({named(stream)}) is left out because {format} cannot hold it"
    if stream.silent:
        return StreamPlan(stream, "drop"), (
            f"sound ({named(stream)}) is left out: the header declares it, but it has no packet near the start of "
            "the film"
        )
    if accepts(format, stream):
        return StreamPlan(stream, "copy"), ""
    if isinstance(source := stream.template, av.AudioStream) and source.codec_context is not None:  # pyright: ignore
        to_pcm = format == "mxf" or (format in _PCM_IN and is_pcm(stream.codec))
        is_16_bit = source.codec_context.format.name.startswith(("s16", "u8"))
        encoder = ("pcm_s16le" if is_16_bit else "pcm_s24le") if to_pcm else _SOUND_ENCODERS.get(format, "aac")
        note = f"sound is transcoded from {stream.codec} to {encoder.removeprefix('lib')}"
        if (layout := encoded_layout(source, encoder)).split("(")[0] != layout_of(source).split("(")[0]:
            note += f", from {layout_of(source)} to {layout}"
        return (StreamPlan(stream, "sound", encoder) if _can_encode(source, encoder, format) else None), note
    if stream.kind == "subtitle" and stream.codec in _TEXT_CODECS and format in _TEXT_ENCODERS:
        encoder = _TEXT_ENCODERS[format]
        return StreamPlan(stream, "text", encoder), f"subtitles are converted from {stream.codec} to {encoder}"
    return None, ""


def is_pcm(codec: str) -> bool:
    """Tells whether a codec is PCM, companded PCM, ADPCM or lossless. Storing its decoded samples loses nothing."""
    return codec.startswith(("pcm_", "adpcm_")) or codec in _LOSSLESS_SOUND


def _can_encode(source: av.AudioStream, encoder: str, format: str) -> bool:
    """Tells whether an encoder accepts a sound stream."""
    try:
        with av.open(io.BytesIO(), "w", format=format) as container:
            target: Any = container.add_stream(encoder, rate=48_000)
            AudioTranscoder.configure(source, target)
            target.codec_context.open()
    except (av.FFmpegError, ValueError):
        return False
    return True


def add_copy(container: OutputContainer, source: Stream) -> Stream:
    """Adds a stream for copied packets, even if PyAV cannot decode them."""
    decodable = source.codec_context is not None  # pyright: ignore[reportUnnecessaryComparison]
    return container.add_stream_from_template(source, opaque=decodable or None)


def accepts(format: str, stream: StreamInfo) -> bool:
    """Tells whether a container accepts a stream's packets unchanged. Muxes the first packet as a test."""
    if format == "mpegts":  # its muxer accepts everything, but readers only recognise these
        return stream.codec in (_TS_DATA if stream.kind == "data" else _TS_CODECS)
    if format == "mxf":  # sound must be cut or padded to the length of the frames
        return False
    if format == "mp4" and stream.speakers_unknown:  # its muxer only fails at the first packet
        return False
    try:
        with av.open(io.BytesIO(), "w", format=format) as container:
            target = add_copy(container, stream.template)
            packet: av.Packet[Any] = av.Packet(stream.first or b"")
            packet.time_base, packet.pts, packet.dts = Fraction(1, 1000), 0, 0
            packet = without_adts(packet, stream.template, target, format)
            container.start_encoding()
            if stream.first:
                packet.stream, packet.is_keyframe = target, True
                container.mux(packet)
    except (av.FFmpegError, ValueError):
        return False
    return True


def untimed(info: MediaInfo) -> list[Message]:
    """Returns warnings about subtitles of an HLS playlist that appear too early."""
    return [
        Message(
            "stream {stream}: the X-TIMESTAMP-MAP of its subtitles is ignored: they appear {early} s early, and "
            "subtitles before the first frame are lost; {--drop:{stream}} leaves them out",
            code="texts_early",
            stream=stream.index,
            early=f"{stream.early_s:.1f}",
        )
        for stream in info.streams
        if stream.early_s
    ]


def chapter_losses(info: MediaInfo, format: str) -> list[str]:
    """Lists chapter losses in MP4 and MOV, where chapters cannot overlap."""
    if format not in ("mp4", "mov"):
        return []
    empty = sum(chapter.end <= chapter.start for chapter in info.chapters)
    ordered = sorted((chapter.start, chapter.end) for chapter in info.chapters if chapter.end > chapter.start)
    cut = sum(one[1] > other[0] for one, other in pairwise(ordered))
    return [
        f"{count} of {len(info.chapters)} chapters {what}: chapters in {format} cannot overlap; use a .mkv output"
        for count, what in ((empty, "have no length and are left out"), (cut, "overlap the next and end earlier"))
        if count
    ]
