"""What a container makes of a stream: it is asked before any work, with the stream's first packet."""

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

_TEXT = {"mp4": "mov_text", "mov": "mov_text", "matroska": "subrip", "webm": "webvtt"}
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
_SOUND = {"webm": "libopus"}
_PCM_IN = ("matroska", "mov")  # of lossless sounds
_LOSSLESS_SOUND = {"flac", "alac", "truehd", "mlp", "wavpack", "tta", "ape", "tak", "shorten", "als", "wmalossless"}
_TS = {
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
    """What becomes of one stream.

    Attributes:
        stream: of the input.
        action: "copy" packets as they are, "sound" and "text" transcode, "attach" writes a file into the
            container, "drop".
        encoder: for "sound" and "text".
    """

    stream: StreamInfo
    action: Action
    encoder: str = ""


def named(stream: StreamInfo) -> str:
    """A stream for people: the name of its file, or of its codec."""
    return stream.metadata.get("filename") or stream.codec or "of unknown kind"


def without(info: MediaInfo, drop: Sequence[str]) -> MediaInfo:
    """Leaves streams out of an input, for which ``--drop`` names them, with a note each; the timecode stays."""
    names, others = set(drop), [stream for stream in info.streams if not stream.enhanced]
    if wrong := [name for name in drop if name.isdecimal() and name not in {str(stream.index) for stream in others}]:
        known = ", ".join(map(called, others)) or "none"
        raise UsageError(
            "{--drop:{stream}}: {path} has no such stream apart from the frames; it has {streams}",
            code="drop_none",
            stream=wrong[0],
            path=info.path,
            streams=known,
        )
    gone = [
        stream
        for stream in others
        if not stream.metadata.get("timecode") and names & {str(stream.index), _kind_of(stream)}
    ]
    notes = [
        Message("stream {stream} is left out ({--drop})", code="stream_dropped", stream=called(stream))
        for stream in gone
    ]
    chapters = info.chapters
    if "chapters" in names and chapters:
        notes.append(Message("{count} chapters are left out ({--drop})", code="chapters_dropped", count=len(chapters)))
        chapters = []
    return replace(
        info,
        streams=[stream for stream in info.streams if stream not in gone],
        chapters=chapters,
        notes=[*info.notes, *notes],
    )


def _kind_of(stream: StreamInfo) -> str:
    return "cover" if stream.disposition & Disposition.attached_pic else stream.kind


def called(stream: StreamInfo) -> str:
    """Names a stream for messages about ``--drop``."""
    return f"{stream.index} ({_kind_of(stream)}, {named(stream)})"


def choose(stream: StreamInfo, format: str) -> tuple[StreamPlan | None, str]:
    """The plan for one stream and a line to say about it; None where the container cannot hold it in any form."""
    if stream.disposition & Disposition.attached_pic:
        if format == "matroska" and stream.cover and stream.codec in COVERS:
            return StreamPlan(stream, "attach"), ""
        return StreamPlan(stream, "drop"), f"the cover image is left out, {format} cannot hold it"
    if stream.kind == "attachment":
        return (StreamPlan(stream, "copy") if format == "matroska" else None), ""
    if stream.kind in ("data", "unknown"):
        if stream.metadata.get("timecode"):  # the video stream's own tag keeps it; MP4 and MOV make a track of it
            return StreamPlan(stream, "drop"), ""
        if stream.kind == "data" and accepts(format, stream):
            return StreamPlan(stream, "copy"), ""
        return StreamPlan(stream, "drop"), f"data ({named(stream)}) is left out, {format} cannot hold it"
    if stream.silent:
        return StreamPlan(stream, "drop"), (
            f"sound ({named(stream)}) is announced, but nothing of it is in the beginning of the film: it is left out"
        )
    if accepts(format, stream):
        return StreamPlan(stream, "copy"), ""
    if isinstance(source := stream.template, av.AudioStream) and source.codec_context is not None:  # pyright: ignore
        exact = format == "mxf" or (format in _PCM_IN and is_pcm(stream.codec))
        short = source.codec_context.format.name.startswith(("s16", "u8"))
        encoder = ("pcm_s16le" if short else "pcm_s24le") if exact else _SOUND.get(format, "aac")
        note = f"sound is transcoded from {stream.codec} to {encoder.removeprefix('lib')}"
        if (layout := encoded_layout(source, encoder)).split("(")[0] != layout_of(source).split("(")[0]:
            note += f", from {layout_of(source)} to {layout}"
        return (StreamPlan(stream, "sound", encoder) if _opens(source, encoder, format) else None), note
    if stream.kind == "subtitle" and stream.codec in _TEXT_CODECS and format in _TEXT:
        encoder = _TEXT[format]
        return StreamPlan(stream, "text", encoder), f"subtitles are converted from {stream.codec} to {encoder}"
    return None, ""


def is_pcm(codec: str) -> bool:
    """Whether decoded samples are all that a sound has: PCM, companded PCM, ADPCM, and lossless codecs."""
    return codec.startswith(("pcm_", "adpcm_")) or codec in _LOSSLESS_SOUND


def _opens(source: av.AudioStream, encoder: str, format: str) -> bool:
    """Whether an encoder takes a sound."""
    try:
        with av.open(io.BytesIO(), "w", format=format) as container:
            target: Any = container.add_stream(encoder, rate=48_000)
            AudioTranscoder.configure(source, target)
            target.codec_context.open()
    except (av.FFmpegError, ValueError):
        return False
    return True


def add_copy(container: OutputContainer, source: Stream) -> Stream:
    """Adds a stream for the packets of another, also of a codec that PyAV has no decoder of."""
    known = source.codec_context is not None  # pyright: ignore[reportUnnecessaryComparison]
    return container.add_stream_from_template(source, opaque=known or None)


def accepts(format: str, stream: StreamInfo) -> bool:
    """Whether a container takes a stream's packets as they are: its muxer is asked, with the first packet."""
    if format == "mpegts":  # its muxer takes everything, but readers know only these again
        return stream.codec in (_TS_DATA if stream.kind == "data" else _TS)
    if format == "mxf":  # sounds are made as long as the frames
        return False
    if format == "mp4" and stream.speakers_unknown:  # its muxer finds that out with the first packet
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
    """Says which texts of an HLS list do not come at their times."""
    return [
        Message(
            "stream {stream}: X-TIMESTAMP-MAP of its texts is not read: they come {early} s early, and those before "
            "the first frame are lost; {--drop:{stream}} leaves them out",
            code="texts_early",
            stream=stream.index,
            early=f"{stream.early_s:.1f}",
        )
        for stream in info.streams
        if stream.early_s
    ]


def chapter_losses(info: MediaInfo, format: str) -> list[str]:
    """Says what MP4 and MOV, whose chapters follow each other, do not hold."""
    if format not in ("mp4", "mov"):
        return []
    empty = sum(chapter.end <= chapter.start for chapter in info.chapters)
    ordered = sorted((chapter.start, chapter.end) for chapter in info.chapters if chapter.end > chapter.start)
    cut = sum(one[1] > other[0] for one, other in pairwise(ordered))
    return [
        f"{count} of {len(info.chapters)} chapters {what}: {format} holds chapters one after the other; "
        "name a .mkv output"
        for count, what in ((empty, "have no length and are left out"), (cut, "reach into the next and end earlier"))
        if count
    ]
