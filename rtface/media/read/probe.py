"""Opening a container and saying what is in it, or in one line why it cannot be used."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.codec.context import Flags
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from rtface.errors import InputError, InputMissing
from rtface.frame import Color, Display
from rtface.media.formats import matroska, mp4
from rtface.media.formats.coding import Coding
from rtface.media.formats.color import NOT_READ, UNSPECIFIED, ColorTags, HdrMetadata, alike, hdr_of, same_tag, tags_of
from rtface.media.formats.image_meta import kind_of, unpacks_large
from rtface.media.formats.mp4 import Crop, Header, boxes
from rtface.media.read.file_reader import FileReader, file_reader
from rtface.media.read.pipe import PipeReader
from rtface.redaction import is_url, shown
from rtface.util.av_input import open_input
from rtface.util.timecode import Timecode

# 100 megapixels: three times 8K. A frame of that size takes 150 MB in 4:2:0 and 300 MB as RGB.
MAX_PIXELS = 100_000_000

# Formats whose files name other files to be read, and the extensions that say so. Under a film's name such a file would
# bring films into the output that the user did not name.
_PLAYLISTS = {"hls": (".m3u8", ".m3u"), "concat": (".ffconcat", ".txt"), "dash": (".mpd",), "imf": (".xml",)}

# Packets of sound in which the first of each stream is looked for.
_LOOKED_AT = 2000
# Flags of a stream by which players choose it.
_PLAYED = int(
    Disposition.default
    | Disposition.forced
    | Disposition.comment
    | Disposition.hearing_impaired
    | Disposition.visual_impaired
)
_ALIKE = 0.01  # headers give whole samples
# Seconds within which a network source has to answer, and that one packet may take with all attempts to reconnect.
_OPEN_S, _READ_S = 15.0, 60.0
NETWORK = (
    "crypto,data,ffrtmphttp,ftp,http,httpproxy,https,mmsh,mmst,rtmp,rtmps,rtmpt,rtmpts,rtp,srtp,tcp,tls,udp,udplite"
)
"""FFmpeg's protocols for an address: what it sends may be a playlist, and that opens no file of this machine."""
# Where a connection ends or stalls before the Content-Length is reached, FFmpeg asks for the rest (a byte range), after
# 0, 1 and 3 seconds. Protocols and formats that do not know an option ignore it.
NETWORK_OPTIONS = {
    "protocol_whitelist": NETWORK,
    "reconnect": "1",
    "reconnect_on_network_error": "1",
    "reconnect_delay_max": "3",
    "rw_timeout": "5000000",
    "seg_max_retry": "3",
}


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
        attached: file name, media type and SHA-256 of an attachment; None for any other stream.
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
    attached: tuple[str, str, str] | None = None

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
        context = getattr(self.template, "codec_context", None)
        return self.kind == "audio" and context is not None and not (context.channels and context.sample_rate)


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
        crop: columns and rows at the borders that the container hides, None for none.
        aspect: sample aspect ratio as the stream carries it, None when unknown.
        interlaced: whether the first frame is made of two fields; display.fields names their order.
        is_still: a single frame (PNG, JPEG …), whatever the file is called.
        has_audio: whether any sound stream is there.
        transparent: whether the first frame has samples that are not fully opaque.
        streams, chapters, metadata: everything else the container holds.
        unseen: what FFmpeg's decoder does not give of the frames, or players show in another way, one line each.
        xmp: the XMP packet of an MP4 or MOV, or None.
        expected_frames: estimate for progress, or None.
        hdr: static HDR metadata, or None.
        views: side data by which players show it in another way (`rtface.media.formats.color.views_of`).
        captions: whether closed captions ride on the first frame.
        clock_start: start of the input's own clock in seconds; --start and --end count from here.
        video_start: time of the whole film's first video frame, seconds of the input's own clock.
        timecode: of the whole film's first video frame; None where it does not say.
        start, end: the cut in seconds of the input's own clock, None where there is none.
        origin: the time of the input's clock that becomes 0 in an output.
        size: bytes of the file, None when it is not a file.
        notes: what a user should know about choices made here, one line each.
        decoder: what decodes the frames, and why it is not the GPU where the GPU was wanted.
        on_gpu: whether they stay in the memory of a GPU (`rtface.util.av_gpu`).
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
    is_still: bool = False
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
    timecode: Timecode | None = None
    start: Fraction | None = None
    end: Fraction | None = None
    origin: Fraction = Fraction(0)
    size: int | None = None
    notes: list[str] = field(default_factory=list[str])
    decoder: str = "software"
    on_gpu: bool = False
    coding: Coding = field(default_factory=Coding)
    crop: Crop | None = None
    unseen: list[str] = field(default_factory=list[str])

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
    def is_sequence(self) -> bool:
        """Whether it is a folder of stills as one film."""
        return self.codec == "stills"


def open_container(path: str | os.PathLike[str], reader: PipeReader | FileReader | None = None) -> InputContainer:
    """Opens whatever PyAV opens; the content decides, not the name.

    Args:
        path: a file or URL.
        reader: reads it instead of FFmpeg; None for a `FileReader` where it is a file.

    Raises:
        InputMissing: it is not there or may not be read.
        InputError: it is empty, cut off, or neither film nor image.
    """
    name = shown(path)
    url, options = os.fspath(path), NETWORK_OPTIONS
    if not is_url(path):
        _check_file(Path(path), name)
        url = f"file:{url}"  # keeps "a:b.mp4" from being read as a protocol
        options = {"protocol_whitelist": "file,crypto,data"}  # no playlist or session description opens the network
    try:
        container = open_input(
            reader or file_reader(path) or url,
            container_options=options | {"export_xmp": "1"},
            timeout=(_OPEN_S, _READ_S) if is_url(path) else None,
        )
    except av.FFmpegError as error:
        if isinstance(error, PermissionError | FileNotFoundError):
            raise InputMissing(f"{name}: cannot be opened ({error.strerror}); check name and permissions") from error
        raise _refused(path, name, error) from error
    if (
        not is_url(path)
        and container.format.name in _PLAYLISTS
        and (Path(path).suffix.lower() not in _PLAYLISTS[container.format.name])
    ):
        container.close()
        raise InputError(
            f"{name}: is no film but a playlist that names other files; if you trust it, give it its own "
            f"extension, {_PLAYLISTS[container.format.name][0]}"
        )
    return container


def is_playlist(path: str | os.PathLike[str]) -> bool:
    """Whether a file of this name may name other files, which would be read with it; those of other names may not."""
    return Path(path).suffix.lower() in {suffix for suffixes in _PLAYLISTS.values() for suffix in suffixes}


def _check_file(path: Path, name: str) -> None:
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise InputMissing("{path}: there is no such file; check the name", code="no_file", path=name) from error
    except OSError as error:
        raise InputMissing(f"{name}: cannot be read ({error.strerror})") from error
    if stat.S_ISDIR(status.st_mode):
        raise InputError(f"{name}: is a folder; name a file")
    if stat.S_ISREG(status.st_mode):
        if status.st_size == 0:
            raise InputError("{name}: is empty (0 bytes); copy or record it again", code="film_empty", name=name)
        try:
            with path.open("rb") as file:
                head = file.read(64)
                bomb = kind_of(head) == "png" and unpacks_large(head + file.read())
        except OSError as error:
            raise InputMissing(
                f"{name}: cannot be read ({error.strerror}); check its permissions, and the disk that it lies on"
            ) from error
        if head.startswith(b"%PDF"):  # FFmpeg takes the images in it for a film
            raise _no_film(name)
        if bomb:
            raise InputError(
                f"{name}: its profile or text would unpack to more than any real one; save it again as "
                "another PNG, or write an image instead of a film"
            )


def _no_film(name: str) -> InputError:
    return InputError(
        "{name}: is neither a film nor an image that can be read; check that it is the right file",
        code="no_film",
        name=name,
    )


def _refused(path: str | os.PathLike[str], name: str, error: av.FFmpegError) -> InputError:
    if not is_url(path) and Path(path).is_file():  # a pipe cannot be read twice
        with Path(path).open("rb") as file:
            kinds = [kind for kind, _ in boxes(file)]
        if kinds[:1] == [b"ftyp"] and b"moov" not in kinds:
            return InputError(
                "{name}: is incomplete (no index): the recording or copy was cut off before its end; "
                "copy it again, or repair it with a tool such as untrunc",
                code="film_cut_off",
                name=name,
            )
    if isinstance(error, av.InvalidDataError):
        return _no_film(name)
    return InputError(f"{name}: cannot be opened ({error_text(error)})")


def error_text(error: av.FFmpegError) -> str:
    """An error of a source as text; FFmpeg calls a network time-out of ours "Immediate exit requested"."""
    return "it gives no answer" if isinstance(error, av.ExitError) else error.strerror or "unknown error"


def played(streams: Sequence[tuple[str, int]], formats: tuple[str, str], *, before: bool) -> list[int]:
    """When streams are played, as far as two containers can both say it: FFmpeg's flags of each.

    Writers of MP4 and MOV enable the first stream of a kind where none is the default one; MPEG-TS and MXF have no such
    flag.

    Args:
        streams: kind and disposition of each.
        formats: FFmpeg's names of the containers, first that of the output.
        before: whether these are the streams that the output was written from.
    """
    flags = [disposition & _PLAYED for _, disposition in streams]
    mov = formats[0].startswith("mov")
    for kind in ("video", "audio", "subtitle") if mov else ("video", "audio") if formats[0] != formats[1] else ():
        own = [
            k
            for k, (of, disposition) in enumerate(streams)
            if of == kind and not disposition & Disposition.attached_pic
        ]
        usual = own[0] if own and (before or not mov) else None
        first = next((k for k in own if flags[k] & Disposition.default), usual)
        for k in own:
            flags[k] = flags[k] & ~int(Disposition.default) | int(k == first)
    return flags


def streams_of(container: InputContainer, enhanced: Stream) -> list[StreamInfo]:
    """All streams, in the order of the container."""
    found: list[StreamInfo] = []
    for stream in container.streams:
        context: Any = stream.codec_context
        codec = getattr(stream, "name", None) if context is None else context.codec.canonical_name
        found.append(
            StreamInfo(
                stream.index,
                stream.type,
                codec or "",
                stream.language,
                stream.disposition,
                dict(stream.metadata),
                stream.index == enhanced.index,
                stream,
                attached=_attached(stream) if stream.type == "attachment" else None,
            )
        )
    return found


def _attached(stream: Stream) -> tuple[str, str, str]:
    data: bytes = getattr(stream, "data", None) or b""  # must not be read once the container is closed
    return (
        stream.metadata.get("filename", ""),
        stream.metadata.get("mimetype", "").lower(),
        hashlib.sha256(data).hexdigest(),
    )


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


def choose_video(container: InputContainer, name: str) -> tuple[VideoStream, str | None]:
    """The video stream to work on, and a line that says which was taken where there are several.

    Raises:
        InputError: there is none.
    """
    usable = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not usable:
        what = "a cover image" if container.streams.video else "sound" if container.streams.audio else "other data"
        raise InputError(f"{name}: has no video (only {what}); name a film or an image")
    chosen = next((s for s in usable if s.disposition & Disposition.default), usable[0])
    if chosen.codec_context is None:  # pyright: ignore[reportUnnecessaryComparison]  # no decoder in this build
        raise InputError(f"{name}: its video codec has no decoder here; convert it to H.264 first")
    context = chosen.codec_context
    if context.width * context.height > MAX_PIXELS:
        raise InputError(
            f"{name}: is {context.width}×{context.height} ({context.width * context.height // 1_000_000} "
            f"megapixels); the limit is {MAX_PIXELS // 1_000_000} megapixels; make it smaller first"
        )
    context.flags |= Flags.unaligned  # else a decoder shows columns at the left that the stream's header hides
    if len(usable) == 1:
        return chosen, None
    return chosen, (
        f"{name}: has {len(usable)} video streams; number {usable.index(chosen) + 1} is enhanced, the others are copied"
    )


def read_header(
    path: str | os.PathLike[str], container: InputContainer, video: VideoStream, image: VideoFrame
) -> Header:
    """What the header of a file says of a video track, of which `image` is a frame; nothing of other containers than
    Matroska and MP4, and of addresses. A crop that would leave nothing is none."""
    name = container.format.name
    if is_url(path) or not Path(path).is_file() or not name.startswith(("matroska", "mov")):
        return Header()
    number = container.streams.video.index(video)
    try:
        with Path(path).open("rb") as file:
            header = (
                matroska.read_header(file, number, chapters=bool(container.chapters()))
                if name.startswith("matroska")
                else mp4.read_header(file, number)
            )
    except OSError as error:
        raise InputError(
            f"{shown(path)}: could not be read ({error.strerror}): check the disk or network drive that "
            "it lies on, then run it again"
        ) from error
    left, top, right, bottom = header.crop or (0, 0, 0, 0)
    return header if left + right < image.width and top + bottom < image.height else replace(header, crop=None)


def not_shown(header: Header, video: VideoStream, *, alpha: bool) -> list[str]:
    """What FFmpeg's decoder does not give of the frames: the transparency of VP8 and VP9 (`alpha` says that it does),
    the colours of Dolby Vision without a base layer that others read; and what players show in another order, at
    another speed or not at all."""
    lines: list[str] = []
    if {key.lower(): text for key, text in video.metadata.items()}.get("alpha_mode") == "1" and not alpha:
        lines.append("its transparency is a second stream that cannot be decoded here: it is left out")
    found = header.dolby_vision
    if found and len(found) > 4 and not found[4] >> 4:  # no compatibility, as in profile 5
        lines.append(
            f"it is Dolby Vision of profile {found[2] >> 1}, whose samples are not the colours that "
            "others read: players will show the output green and purple; convert it to HDR10 first"
        )
    if header.ordered:
        lines.append("its chapters say what is played, and in which order: all of the file is read instead")
    if header.paced:
        lines.append("its edit list plays parts at another speed: all is read at the usual one")
    return lines + [
        f"its header tells players to leave out track {place}: it is read like the others" for place in header.disabled
    ]


def contradictions(header: Header, video: VideoStream, image: VideoFrame, *, ours: bool = False) -> list[str]:
    """Where the header contradicts the first frame, which is `image`; `ours`: of a film that rtface wrote."""
    lines: list[str] = []
    coded, shape = (Fraction(each.sample_aspect_ratio or 0) for each in (video.codec_context, video))
    tags = tags_of(image)
    for what, a, b in zip(
        ("range", "primaries", "transfer", "matrix"),
        header.colors or (),
        (tags.range, tags.primaries, tags.transfer, tags.matrix),
        strict=False,
    ):
        made_up = what in NOT_READ.get(video.codec_context.codec.canonical_name, ())
        if not (made_up or same_tag(what, a, b) or {a, b} & ({0} if what == "range" else {0, UNSPECIFIED})):
            lines.append(
                f"its header says other colours than its frames ({what} {a}, and {b}; numbers of H.273): the "
                "frames are believed"
            )
    if coded and shape and abs(float(coded / shape) - 1) > _ALIKE:
        lines.append(
            f"its frames say that a sample has the shape {coded}, and its header {shape}: the header is believed"
        )
    own = hdr_of(image)
    for what in ("primaries", "luminance", "light"):
        a, b = getattr(header.hdr, what, None), getattr(own, what, None)
        if a and b and not alike(a, b):
            lines.append(f"its header says other HDR metadata than its frames ({what}): the frames are believed")
    size, (left, top, right, bottom) = header.shown_size, header.crop or (0, 0, 0, 0)
    # Many writers take the width of the samples; of ours FFmpeg does, for MOV.
    wide = ours and video.container.metadata.get("major_brand") != "qt  "
    shapes = [
        Fraction(width * each) / height
        for each in ((shape or 1,) if wide else (1, shape or 1))
        for width, height in ((image.width, image.height), (image.width - left - right, image.height - top - bottom))
    ]
    if size and all(size) and all(abs(size[0] / size[1] / float(each) - 1) > _ALIKE for each in shapes):
        lines.append(
            f"its header shows the picture at {size[0] / 65536:.0f}×{size[1] / 65536:.0f}, which some players "
            "do: its shape is left out"
        )
    return lines


def rate_of(stream: VideoStream) -> tuple[Fraction, bool]:
    """Nominal frames a second, and whether the stream said so."""
    for rate in (stream.guessed_rate, stream.average_rate):
        if rate and 0 < rate <= 1000:
            return Fraction(rate), True
    return Fraction(25), False
