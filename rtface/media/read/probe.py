"""What an opened input is, by its container and its first frame."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Disposition, Stream

from rtface.errors import Message
from rtface.frame import Color, Display, Frame
from rtface.media.formats.coding import Coding, coding_of
from rtface.media.formats.color import ColorTags, HdrMetadata, has_captions, hdr_of, is_transparent, tags_of, views_of
from rtface.media.formats.facts import film_tags, stream_tags
from rtface.media.read.container import (
    codec_of,
    expected_end,
    is_silent,
    is_still,
    kept_streams,
    open_container,
    rate_of,
    time_base_of,
)
from rtface.media.read.decoder import Decoder
from rtface.media.read.frame_form import Fields, Size
from rtface.media.read.not_shown import hides_borders, not_shown
from rtface.media.read.start_timecode import find_timecode
from rtface.media.read.timeline import Cut
from rtface.redaction import is_url, shown
from rtface.util.av_gpu import native_format, on_gpu
from rtface.util.av_input import plain_tags
from rtface.util.timecode import Timecode

# Packets of sound in which the first of each stream is looked for.
_LOOKED_AT = 2000


@dataclass(frozen=True, slots=True)
class Chapter:
    """A chapter; start and end in seconds of the input's own clock."""

    start: Fraction
    end: Fraction
    metadata: dict[str, str]


@dataclass(slots=True)
class StreamInfo:
    """One stream of the input.

    Attributes:
        index: its place in the input.
        kind: "video", "audio", "subtitle", "attachment", "data" or "unknown".
        codec: FFmpeg's name of its codec, "" where FFmpeg has none.
        language: ISO 639 code, or None.
        disposition: FFmpeg's flags (default, forced, attached_pic, …).
        metadata: its tags.
        enhanced: whether this is the video stream that is worked on.
        cover: the bytes of a cover image (attached_pic streams only).
        template: PyAV's stream, alive until the source is closed.
        first: its first packet, where it was looked for and lies near the beginning of the file.
    """

    index: int
    kind: str
    codec: str
    language: str | None
    disposition: Disposition
    metadata: dict[str, str]
    enhanced: bool
    template: Stream = field(repr=False, compare=False)
    cover: bytes | None = field(default=None, repr=False)
    first: bytes | None = field(default=None, repr=False, compare=False)

    @property
    def speakers_unknown(self) -> bool:
        """Whether this is sound of several channels that are given to no speakers (PCM in Matroska)."""
        context = getattr(self.template, "codec_context", None)
        return (
            self.kind == "audio"
            and context is not None
            and context.channels > 1
            and (context.layout.name.endswith("channels"))
        )

    @property
    def silent(self) -> bool:
        """Whether this is a sound stream that the container announces without any packet near its beginning, so that
        its sample rate and channels are unknown (an unused second language of a broadcast). No container takes it."""
        return self.kind == "audio" and is_silent(self.template)


@dataclass(slots=True)
class MediaInfo:
    """What an opened input is.

    Attributes:
        path: as given, without credentials.
        format: FFmpeg's name of the container.
        duration_s: seconds, None when the container does not say; shortened by --start and --end.
        width, height: of a stored frame, in samples.
        display_width, display_height: upright, in square pixels.
        rate: nominal frames a second; the pts are what counts.
        time_base: seconds of one pts unit of the video stream.
        pix_fmt: FFmpeg's name of the decoded pixel format.
        codec: FFmpeg's name of the frame codec.
        coding: whether it is lossless, made for editing, or lossy.
        color, display: how to read the frames.
        tags: colour tags as the stream carries them.
        matrix: display matrix as the stream carries it (9 numbers), or None.
        aspect: sample aspect ratio as the stream carries it, None when unknown.
        interlaced: whether the first frame is made of two fields; display.fields names their order.
        has_audio: whether any sound stream is there.
        transparent: whether the first frame has samples that are not fully opaque.
        streams, chapters, metadata: everything else the container holds.
        unseen: what FFmpeg's decoder does not give of the frames, one line each.
        xmp: the XMP packet of an MP4 or MOV, or None.
        expected_frames: estimate for progress, or None.
        hdr: static HDR metadata, or None.
        views: side data by which players show it in another way (`rtface.media.formats.color.views_of`).
        captions: whether closed captions ride on the first frame.
        clock_start: start of the input's own clock in seconds; --start and --end count from here.
        video_start: time of the whole film's first video frame, seconds of the input's own clock.
        timecode: of the whole film's first video frame; None where it does not say.
        first: time of the first frame that is read, seconds of the input's own clock.
        start, end: the cut in seconds of the input's own clock, None where there is none.
        origin: the time of the input's clock that becomes 0 in an output.
        size: bytes of the file, None when it is not a file.
        notes: what a user should know about choices made here, one line each.
        decoder: what decodes the frames, and why it is not the GPU where the GPU was wanted.
        on_gpu: whether they stay in the memory of a GPU (`rtface.util.av_gpu`).
        decoded: width, height and format before frames are enlarged (``--scale``); None where they are not.
    """

    path: str
    format: str
    duration_s: float | None
    width: int
    height: int
    display_width: int
    display_height: int
    rate: Fraction
    time_base: Fraction
    pix_fmt: str
    codec: str
    color: Color
    display: Display
    tags: ColorTags = field(default_factory=ColorTags)
    matrix: tuple[int, ...] | None = None
    aspect: Fraction | None = None
    interlaced: bool = False
    has_audio: bool = False
    transparent: bool = False
    streams: list[StreamInfo] = field(default_factory=list[StreamInfo])
    chapters: list[Chapter] = field(default_factory=list[Chapter])
    metadata: dict[str, str] = field(default_factory=dict[str, str])
    xmp: bytes | None = None
    expected_frames: int | None = None
    hdr: HdrMetadata | None = None
    views: dict[str, str] = field(default_factory=dict[str, str])
    captions: bool = False
    clock_start: Fraction = Fraction(0)
    video_start: Fraction = Fraction(0)
    first: Fraction = Fraction(0)
    timecode: Timecode | None = None
    start: Fraction | None = None
    end: Fraction | None = None
    origin: Fraction = Fraction(0)
    size: int | None = None
    notes: list[str] = field(default_factory=list[str])
    decoder: str = "software"
    on_gpu: bool = False
    coding: Coding = field(default_factory=Coding)
    unseen: list[str] = field(default_factory=list[str])
    decoded: Size | None = None

    @property
    def reel(self) -> str | None:
        """The name of the tape or reel, by which edit lists find it; None where the input names none."""
        return next(
            (
                text
                for tags in (*(stream.metadata for stream in self.streams), self.metadata)
                for name, text in tags.items()
                if name.lower() == "reel_name"
            ),
            None,
        )

    @property
    def skipped(self) -> Fraction:
        """Seconds of the film before the part that is read."""
        return Fraction(0) if self.start is None else self.start - self.video_start

    @property
    def is_sequence(self) -> bool:
        """Whether it is a folder of stills as one film."""
        return self.codec == "stills"


def streams_of(
    container: InputContainer, enhanced: av.VideoStream, covers: Mapping[int, bytes] = {}
) -> list[StreamInfo]:
    """What `kept_streams` gives; `covers` are the cover images that were met, by index."""
    return [
        StreamInfo(
            stream.index,
            stream.type,
            codec_of(stream),
            stream.language,
            stream.disposition,
            stream_tags(stream.metadata, container.format.name),
            stream.index == enhanced.index,
            stream,
            covers.get(stream.index),
        )
        for stream in kept_streams(container, enhanced)
    ]


def find_first_packets(info: MediaInfo) -> None:
    """Looks for the first packet of every sound of a file, which is opened once more for that."""
    sounds = {stream.index: stream for stream in info.streams if stream.kind == "audio"}
    if not sounds or is_url(info.path) or not Path(info.path).is_file():
        return
    missing, read = set(sounds), 0
    with suppress(av.FFmpegError), open_container(info.path) as container:
        for packet in container.demux([container.streams[index] for index in sounds]):
            read += 1
            if packet.size and packet.stream_index in missing:
                sounds[packet.stream_index].first = bytes(packet)
                missing.discard(packet.stream_index)
            if not missing or read > _LOOKED_AT:
                return


def describe(
    path: str | os.PathLike[str],
    container: InputContainer,
    video: av.VideoStream,
    decoder: Decoder,
    first: Frame,
    cut: Cut,
    *,
    fields: Fields,
    decoded_by: str,
    notes: list[str],
) -> MediaInfo:
    """What an input is.

    Args:
        path: as given.
        container, video: of it.
        decoder: what gave the first frame.
        first: that frame.
        cut: the part that is read.
        fields: of its frames.
        decoded_by, notes: as of `MediaInfo`.
    """
    image, still, (rate, _) = decoder.form.take_first(), is_still(container), rate_of(video)
    end, length = expected_end(container, video), None
    if end is not None:
        until = end if cut.end is None else min(end, cut.end)
        length = max(Fraction(0), until - (cut.clock_start if cut.start is None else cut.start))
    width, height = _upright_size(image, first.display)
    alpha = any(c.is_alpha for c in image.format.components)
    tags, hdr = tags_of(image, decoder.form.siting), hdr_of(image)
    streams = streams_of(container, video, decoder.covers)
    metadata = film_tags(container.metadata, container.format.name)
    if dates := [date for stream in streams if (date := stream.metadata.get("creation_time"))]:
        metadata.setdefault("creation_time", min(dates))  # no writer dates a track by itself
    packet = metadata.pop("xmp", None) if "mp4" in container.format.name else None
    info = MediaInfo(
        path=shown(path),
        format=container.format.name,
        duration_s=None if length is None else float(length),
        width=image.width,
        height=image.height,
        display_width=width,
        display_height=height,
        rate=rate,
        time_base=time_base_of(video),
        pix_fmt=native_format(first.image),
        codec=video.codec_context.codec.canonical_name,
        color=first.color,
        display=replace(first.display, fields=fields),
        tags=tags,
        matrix=decoder.form.matrix,
        aspect=Fraction(video.sample_aspect_ratio or 0) or None,
        interlaced=fields != "progressive",
        has_audio=any(stream.kind == "audio" for stream in streams),
        transparent=is_transparent(image),
        streams=streams,
        chapters=_chapters(container),
        metadata=metadata,
        xmp=packet.encode() if packet else None,
        expected_frames=1 if still else None if length is None else max(1, round(length * rate)),
        hdr=hdr,
        views=views_of(image),
        captions=has_captions(image),
        start=cut.start,
        end=cut.end,
        clock_start=cut.clock_start,
        video_start=cut.clock_start if video.start_time is None else video.start_time * time_base_of(video),
        first=first.pts * first.time_base,
        origin=_origin(cut),
        timecode=find_timecode([video.metadata, container.metadata, *(s.metadata for s in streams)], rate),
        size=None if is_url(path) else Path(path).stat().st_size,
        notes=notes,
        decoder=decoded_by,
        on_gpu=on_gpu(first.image),
        coding=coding_of(video.codec_context, decoder.head),
        unseen=not_shown(
            video.metadata, decoder.hidden, tags, hdr, alpha=alpha, borders=hides_borders(path, container, video)
        ),
    )
    return enlarged(info, first, native_format(image))


def enlarged(info: MediaInfo, frame: Frame, format: str) -> MediaInfo:
    """What an input is whose frames are enlarged to the size of this one, from samples of another format maybe."""
    decoded, image = (info.width, info.height, format), frame.image
    if (image.width, image.height) == decoded[:2]:
        return info
    width, height = _upright_size(image, frame.display)
    return replace(
        info,
        width=image.width,
        height=image.height,
        display_width=width,
        display_height=height,
        aspect=info.aspect and frame.display.aspect,
        tags=replace(info.tags, matrix=int(image.colorspace)),
        decoded=decoded,
        notes=[
            *info.notes,
            Message(
                "{path}: frames of {width}×{height} are enlarged to {to_width}×{to_height} ({--scale})",
                code="enlarged",
                path=info.path,
                width=decoded[0],
                height=decoded[1],
                to_width=image.width,
                to_height=image.height,
            ),
        ],
    )


def _upright_size(image: av.VideoFrame, display: Display) -> tuple[int, int]:
    """Width and height as they are seen, in square pixels."""
    width, height = round(image.width * float(display.aspect)), image.height
    return (height, width) if display.quarter_turns % 2 else (width, height)


def _origin(cut: Cut) -> Fraction:
    if cut.start is not None:
        return cut.start
    # A film that begins late (broadcast, cut from a longer one) begins at 0 again; a small offset is kept, so that pts
    # stay as they came.
    return cut.clock_start if cut.clock_start >= 1 or cut.clock_start < 0 else Fraction(0)


def _chapters(container: InputContainer) -> list[Chapter]:
    return [
        Chapter(chapter["start"] * base, chapter["end"] * base, plain_tags(chapter["metadata"]))
        for chapter in container.chapters()
        if (base := chapter["time_base"])
    ]
