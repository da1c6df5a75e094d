"""Describes an open input, its streams and chapters."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from av.stream import Disposition, Stream

from rtface.frame import Color, Display
from rtface.media.formats.coding import Coding
from rtface.media.formats.color import ColorTags, HdrMetadata
from rtface.media.read.container import is_silent
from rtface.media.read.frame_form import Size
from rtface.util.timecode import Timecode


@dataclass(frozen=True, slots=True)
class Chapter:
    """A chapter. Start and end are in seconds of the input's own clock."""

    start: Fraction
    end: Fraction
    metadata: dict[str, str]


@dataclass(slots=True)
class StreamInfo:
    """One stream of the input.

    Attributes:
        index: number of the stream in the input.
        kind: "video", "audio", "subtitle", "attachment", "data" or "unknown".
        codec: FFmpeg's name for the codec, or "" if unknown.
        language: ISO 639 code, or None.
        disposition: FFmpeg's flags (default, forced, attached_pic, …).
        metadata: tags of the stream.
        enhanced: whether this is the video stream to enhance.
        cover: the bytes of a cover image (attached_pic streams only).
        template: PyAV's stream, valid until the source is closed.
        first: first packet of the stream, if it was read and lies near the beginning of the file.
        early_s: seconds by which the stream's subtitles are early.
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
    early_s: float = 0.0

    @property
    def speakers_unknown(self) -> bool:
        """Whether this is multichannel audio without speaker assignment (PCM in Matroska)."""
        context = getattr(self.template, "codec_context", None)
        return (
            self.kind == "audio"
            and context is not None
            and context.channels > 1
            and (context.layout.name.endswith("channels"))
        )

    @property
    def silent(self) -> bool:
        """Whether this is an audio stream without packets near the start. Its sample rate and channels are unknown, so
        no container accepts it. An example is an unused second language of a broadcast."""
        return self.kind == "audio" and is_silent(self.template)


@dataclass(slots=True)
class MediaInfo:
    """The properties of an open input.

    Attributes:
        path: path or URL as given, without credentials.
        format: FFmpeg's name for the container.
        duration_s: duration of the part from --start to --end; None if the container does not state it.
        width, height: size of a stored frame, in samples.
        display_width, display_height: size as displayed, upright, in square pixels.
        rate: nominal frame rate; the timestamps (pts) take precedence.
        time_base: seconds per pts unit of the video stream.
        pix_fmt: FFmpeg's name for the decoded pixel format.
        codec: FFmpeg's name for the video codec.
        coding: whether the coding is lossless, made for editing, or lossy.
        color, display: how to interpret the frames.
        tags: colour tags of the stream.
        matrix: display matrix of the stream (9 numbers), or None.
        aspect: sample aspect ratio of the stream, or None if unknown.
        interlaced: whether the first frame consists of two fields; display.fields is their order.
        has_audio: whether there is an audio stream.
        transparent: whether the first frame has samples that are not fully opaque.
        streams, chapters, metadata: the other contents of the container.
        lost_parts: what outputs lack, or show although players hide it, one line each.
        xmp: the XMP packet of an MP4 or MOV, or None.
        expected_frames: estimated number of frames, for progress; None if unknown.
        hdr: static HDR metadata, or None.
        views: side data that makes players show the film differently (`rtface.media.formats.color.views_of`).
        captions: whether the first frame carries closed captions.
        clock_start: start of the input's clock in seconds; --start and --end count from here.
        video_start: time of the whole film's first video frame, in seconds of the input's clock.
        timecode: timecode of the whole film's first video frame, or None.
        first: time of the first frame that is read, in seconds of the input's clock.
        start, end: limits of the cut in seconds of the input's clock, or None.
        origin: the time of the input's clock that becomes 0 in an output.
        size: size of the file in bytes; None if the input is not a file.
        notes: choices that a user should know, one line each.
        decoder: name of the decoder, and the reason if the GPU was requested but is not used.
        on_gpu: whether frames stay in the memory of a GPU (`rtface.util.av_gpu`).
        decoded: width, height and format before enlarging (``--scale``), or None.
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
    lost_parts: list[str] = field(default_factory=list[str])
    decoded: Size | None = None

    @property
    def reel(self) -> str | None:
        """The name of the tape or reel, or None. Edit lists (EDL) refer to it."""
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
        """Whether the input is a folder of stills, read as one film."""
        return self.codec == "stills"
