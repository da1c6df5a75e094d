"""Opens containers and chooses their video stream."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from contextlib import closing, suppress
from errno import EIO
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
from av.codec.context import Flags
from av.container import InputContainer
from av.stream import Discard, Disposition, Stream

from rtface.errors import InputError, InputMissing, UsageError
from rtface.media.formats.image_header import STILL_ONLY, kind_of, unread_kind
from rtface.media.formats.mp4 import boxes
from rtface.media.read.file_reader import FileReader, file_reader
from rtface.media.read.pipe import PipeReader
from rtface.media.read.playlists import is_playlist
from rtface.media.read.variants import choose_variant, kept_streams, variants_of
from rtface.redaction import is_url, shown
from rtface.util.av_input import open_input

# Bytes to probe from an audio stream's first packet on; largest offset of that packet, because FFmpeg keeps all data
# before it in memory.
_SOUND_BYTES, FARTHEST = 1 << 20, 64 << 20
_DEEP_PROBE = {"analyzeduration": "1000000000000", "scan_all_pmts": "1"}
_INCOMPLETE_HEADERS = "flv", "mpegts"  # formats whose headers may omit streams
_DEFAULT_PROBE_BYTES = 5_000_000  # FFmpeg's default probesize

# 100 megapixels: three times 8K. A frame of that size occupies 150 MB in 4:2:0 and 300 MB as RGB.
MAX_PIXELS = 100_000_000
_MAX_UNIT_S = 3600  # largest unit of time, in seconds, that no damaged header states

NO_TIMES = 0x80
"""FFmpeg's flag for formats without timestamps (AVFMT_NOTIMESTAMPS)."""
# Timeouts of a network source in seconds: for opening it, and for reading a packet, including attempts to reconnect.
_OPEN_S, _READ_S = 15.0, 60.0
NETWORK = (
    "crypto,data,ffrtmphttp,ftp,http,httpproxy,https,mmsh,mmst,rtmp,rtmps,rtmpt,rtmpts,rtp,srtp,tcp,tls,udp,udplite"
)
"""Protocols that FFmpeg may use for a URL. They exclude files, so that a remote playlist cannot open local files."""
# If a connection ends or stalls before Content-Length bytes, FFmpeg requests the rest (a byte range) after 0, 1 and 3
# seconds. Protocols and formats ignore options that they do not know.
NETWORK_OPTIONS = {
    "protocol_whitelist": NETWORK,
    "reconnect": "1",
    "reconnect_on_network_error": "1",
    "reconnect_delay_max": "3",
    "rw_timeout": "5000000",
    "seg_max_retry": "3",
    "http_multiple": "0",  # otherwise, two segments of each variant are fetched before one is chosen
}


def open_container(
    path: str | os.PathLike[str],
    reader: PipeReader | FileReader | None = None,
    more: Mapping[str, str] | None = None,
) -> InputContainer:
    """Opens any input that PyAV can open. The content determines the format, not the name.

    Args:
        path: a file or URL.
        reader: reader through which FFmpeg reads the input; None means a `FileReader` for files.
        more: additional options of FFmpeg.

    Raises:
        InputMissing: the file does not exist or may not be read.
        InputError: the file is empty, cut off, or neither a film nor an image.
        UsageError: the file is an image of an unsupported kind.
    """
    name = shown(path)
    url, options = os.fspath(path), NETWORK_OPTIONS
    if not is_url(path):
        _check_file(Path(path), name)
        reader = reader or file_reader(path)
        url = f"file:{url}"  # otherwise, "a:b.mp4" would be parsed as a protocol
        # Local playlists and session descriptions must not open the network, nor files if they are named like a film.
        files = "" if reader is not None and not is_playlist(path) else "file,"
        options = {"protocol_whitelist": f"{files}crypto,data"}
    try:
        container = open_input(
            reader or url,
            container_options={**options, "export_xmp": "1", **(more or {})},
            timeout=(_OPEN_S, _READ_S) if is_url(path) else None,
        )
        film = None if is_playlist(path) else reader
        if isinstance(film, FileReader) and (probe_bytes := _bytes_to_sound(path, container)):
            container.close()
            film.seek(0, os.SEEK_SET)
            probe_options = _DEEP_PROBE | {"probesize": str(max(probe_bytes, _DEFAULT_PROBE_BYTES))}
            container = open_input(reader, container_options=options | {"export_xmp": "1"} | probe_options)
    except av.FFmpegError as error:
        if isinstance(error, PermissionError | FileNotFoundError):
            raise InputMissing(
                "{name}: cannot be opened ({why}); check name and permissions",
                code="film_unopened_name",
                name=name,
                why=error.strerror,
            ) from error
        raise _open_error(path, name, error) from error
    return container


def is_silent(stream: Stream) -> bool:
    """Returns whether an audio stream's rate and channels are unknown. If so, FFmpeg found none of its packets."""
    context = getattr(stream, "codec_context", None)
    return context is not None and not (context.channels and context.sample_rate)


def _bytes_to_sound(path: str | os.PathLike[str], container: InputContainer) -> int:
    """Returns how many bytes FFmpeg must probe to know all audio streams. Returns 0 if it knows them already."""
    status, audio_streams = Path(path).stat(), container.streams.audio
    if not any(map(is_silent, audio_streams)) and (audio_streams or container.format.name not in _INCOMPLETE_HEADERS):
        return 0
    return _bytes_to_probe(os.fspath(path), bool(audio_streams), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=16)
def _bytes_to_probe(path: str, declared: bool, *_: int) -> int:
    size, options = 0, {} if declared else _DEEP_PROBE | {"probesize": str(FARTHEST)}
    with (
        closing(FileReader(path)) as reader,
        suppress(av.FFmpegError),
        open_input(reader, container_options={"protocol_whitelist": "crypto,data"} | options) as container,
    ):
        if not declared:
            return FARTHEST if container.streams.audio else 0
        missing = {stream.index for stream in container.streams.audio if is_silent(stream)}
        for packet in container.demux():
            if packet.size and packet.stream_index in missing:
                missing.discard(packet.stream_index)
                size = (packet.pos or 0) + _SOUND_BYTES
            if not missing or (packet.pos or 0) > FARTHEST:
                break
    return size


def _check_file(path: Path, name: str) -> None:
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise InputMissing("{path}: there is no such file; check the name", code="no_file", path=name) from error
    except OSError as error:
        raise InputMissing(
            "{name}: cannot be read ({why})", code="input_unreadable", name=name, why=error.strerror
        ) from error
    if stat.S_ISDIR(status.st_mode):
        raise InputError("{name}: is a folder; specify a file", code="film_folder", name=name)
    if (reader := file_reader(path)) is not None:
        with closing(reader):
            head = reader.read(64)
        if not head:
            raise InputError("{name}: is empty (0 bytes); copy or record it again", code="film_empty", name=name)
        if kind := STILL_ONLY.get(kind_of(head) or ""):
            raise UsageError(
                "{name} is an image ({kind}) that cannot become a film; specify an image as OUTPUT, such as .png",
                code="image_as_film",
                name=name,
                kind=kind,
            )
        if kind := unread_kind(head):
            raise UsageError(
                "{name} is an image in an unsupported format ({kind}); save it as PNG, TIFF or JPEG",
                code="image_not_read",
                name=name,
                kind=kind,
            )


def _open_error(path: str | os.PathLike[str], name: str, error: av.FFmpegError) -> InputError:
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
    if Path(name.partition("?")[0]).suffix.lower() == ".mpd":
        return InputError(
            "{name}: DASH lists cannot be read; use the HLS list (.m3u8) of the same film, or the program ffmpeg and "
            "a pipe",
            code="no_dash",
            name=name,
        )
    if isinstance(error, av.InvalidDataError):
        return InputError(
            "{name}: is neither a film nor an image that can be read; check that it is the right file",
            code="no_film",
            name=name,
        )
    return InputError("{name}: cannot be opened ({why})", code="film_unopened", name=name, why=error_text(error))


def error_text(error: av.FFmpegError) -> str:
    """Describes an error of a source. Replaces "Immediate exit requested", FFmpeg's text for our network timeout."""
    return "it does not answer" if isinstance(error, av.ExitError) else error.strerror or "unknown error"


def is_unsized_end(error: av.FFmpegError, container: InputContainer) -> bool:
    """Returns whether an FFmpeg error ends a stream of unknown length."""
    return error.errno == EIO and container.size <= 0


def choose_video(container: InputContainer, name: str, variant: str = "best") -> tuple[av.VideoStream, str | None]:
    """Returns the video stream, and a note if there are several. From an HLS manifest, FFmpeg will read only
    the streams of the given `variant`.

    Raises:
        InputError: there is no usable video stream, or no such variant.
    """
    usable = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not usable:
        what = "a cover image" if container.streams.video else "sound" if container.streams.audio else "other data"
        raise InputError(
            "{name}: has no video (only {what}); specify a film or an image", code="no_video", name=name, what=what
        )
    note, variants = None, variants_of(container)
    if variants:
        chosen, note = choose_variant(variants, variant, name)
    else:
        chosen = next((s for s in usable if s.disposition & Disposition.default), usable[0])
    if chosen.codec_context is None:  # pyright: ignore[reportUnnecessaryComparison]  # no decoder in this build
        raise InputError(
            "{name}: there is no decoder for its video codec; convert it to H.264 first", code="no_decoder", name=name
        )
    if not variants and variant != "best":
        choose_variant([chosen], variant, name)  # raises if `variant` is not this one
    context = chosen.codec_context
    if context.width * context.height > MAX_PIXELS:
        raise InputError(
            "{name}: is {width}×{height} ({megapixels} megapixels); the limit is {most} megapixels; make it "
            "smaller first",
            code="too_large",
            name=name,
            width=context.width,
            height=context.height,
            megapixels=context.width * context.height // 1_000_000,
            most=MAX_PIXELS // 1_000_000,
        )
    if (unit := time_base_of(chosen)) > _MAX_UNIT_S:
        raise InputError(
            "{name}: its header is damaged: it counts time in units of {seconds} seconds; copy it with FFmpeg first",
            code="unit_of_time",
            name=name,
            seconds=int(unit),
        )
    context.flags |= Flags.unaligned  # otherwise, decoders output columns that the header crops at the left
    if variants:
        kept_by_variant = kept_streams(container, chosen)
        for stream in container.streams:  # FFmpeg reads subtitles of a playlist only on request
            stream.discard = Discard.default if stream in kept_by_variant else Discard.all
    if variants or len(usable) == 1:
        return chosen, note
    return chosen, (
        f"{name}: has {len(usable)} video streams; number {usable.index(chosen) + 1} is enhanced, the others are copied"
    )


def rate_of(stream: av.VideoStream) -> tuple[Fraction, bool]:
    """Returns the nominal frame rate, and whether the stream states it."""
    for rate in (stream.guessed_rate, stream.average_rate):
        if rate and 0 < rate <= 1000:
            return Fraction(rate), True
    return Fraction(25), False


def time_base_of(stream: Stream) -> Fraction:
    """Returns a stream's time base in seconds."""
    return Fraction(stream.time_base or Fraction(1, 1_000_000))


def codec_of(stream: Stream) -> str:
    """Returns FFmpeg's name for a stream's codec, or "" if unknown."""
    context: Any = stream.codec_context
    return (getattr(stream, "name", None) or "") if context is None else context.codec.canonical_name


def is_still(container: InputContainer) -> bool:
    """Returns whether a container's content is a still image (PNG, JPEG …)."""
    return container.format.name.endswith("_pipe") or container.format.name == "image2"


def clock_start_of(container: InputContainer) -> Fraction:
    """Returns a container's start time in seconds."""
    return Fraction(container.start_time or 0, 1_000_000)


def expected_end(container: InputContainer, video: av.VideoStream) -> Fraction | None:
    """Returns the video's stated end in seconds of the container's clock."""
    ends, clock_start = list[Fraction](), clock_start_of(container)
    # The duration of a fragmented film (its index lists no frames) is the time at which the last fragment ends.
    fragmented = container.format.name.startswith("mov") and not video.frames
    if container.duration:
        ends.append((0 if fragmented else clock_start) + Fraction(container.duration, 1_000_000))
    if video.duration:
        ends.append((video.duration + (0 if fragmented else video.start_time or 0)) * time_base_of(video))
    if fragmented and min(ends, default=Fraction(0)) <= clock_start:
        return None
    duration_tag = video.metadata.get("DURATION", "").split(":")  # written by FFmpeg's Matroska muxer
    if len(duration_tag) == 3 and all(part.replace(".", "", 1).isdigit() for part in duration_tag):
        ends.append(Fraction(duration_tag[0]) * 3600 + Fraction(duration_tag[1]) * 60 + Fraction(duration_tag[2]))
    return min(ends, default=None)
