"""Frame hashes in FFmpeg's framemd5 format, written by FFmpeg's own muxer: made of a film, and read again.

The first video stream is decoded and each frame hashed as raw video; the packets of all other streams are
hashed as they are. FFmpeg makes the same list with
``ffmpeg -noautorotate -i FILM -map 0 -map -0:t? -c copy -c:v:0 rawvideo -f framemd5 LIST``.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import av
from av.container import InputContainer, OutputContainer
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from rtface.errors import InputError, InputMissing, Interrupted
from rtface.media.read.container import (
    choose_video,
    clock_start_of,
    codec_of,
    kept_streams,
    open_container,
    rate_of,
    time_base_of,
)
from rtface.redaction import shown
from rtface.util.foreign import open_regular, parse_fraction

Tick = Callable[[float], None]
"""Called with the share of the work that is done, 0…1."""

_ROW = re.compile(r"\s*(\d{1,4}),\s*(-?\d{1,19}),\s*(-?\d{1,19}),\s*(-?\d+),\s*(\d+),\s*([0-9a-f]{32})\b")
_HEAD = re.compile(r"#(tb|media_type|codec_id) (\d+): (\S+)")
# Streams that a list may have, and bytes of a line.
_STREAMS, _LINE = 1000, 4096
_RAW = "rawvideo"


class Writes(Protocol):
    """A binary file, as far as a muxer needs it."""

    def write(self, data: bytes, /) -> int:
        """Takes a block."""
        ...


@dataclass(frozen=True, slots=True)
class HashRow:
    """One line of a list: a frame of the enhanced stream, or a packet of another.

    Attributes:
        stream: number of the stream in the list.
        pts: presentation time in units of the stream's time base.
        md5: hash, 32 hexadecimal digits.
    """

    stream: int
    pts: int
    md5: str


@dataclass(slots=True)
class HashedStream:
    """A stream as the head of a list describes it.

    Attributes:
        kind: "video", "audio", "subtitle", "data".
        codec: FFmpeg's name; "rawvideo" for decoded frames.
        base: seconds of one pts unit.
    """

    kind: str = ""
    codec: str = ""
    base: Fraction = Fraction(1)


def parse_row(line: str) -> HashRow | None:
    """A line of a list; None for a line of its head or an empty one."""
    match = _ROW.match(line)
    return HashRow(int(match[1]), int(match[3]), match[6]) if match else None


@dataclass(slots=True)
class HashList:
    """A framemd5 file that is read line by line.

    Args:
        path: the file.

    Attributes:
        streams: by their number in the list.

    Raises:
        InputMissing: it cannot be read.
        InputError: it is no framemd5 list.
    """

    path: Path
    streams: dict[int, HashedStream] = field(default_factory=dict[int, HashedStream])

    def __post_init__(self) -> None:
        hashed = False
        for line in self._lines():
            if not line.startswith("#"):
                break
            hashed = hashed or line.startswith("#hash: MD5")
            match = _HEAD.match(line)
            if match is None:
                continue
            if len(match[2]) > 9 or int(match[2]) >= _STREAMS:
                raise InputError(
                    "{path}: names the stream {stream}, and no film has as many; the list is damaged",
                    code="framemd5_stream",
                    path=self.path,
                    stream=match[2][:20],
                )
            stream = self.streams.setdefault(int(match[2]), HashedStream())
            if match[1] == "tb":
                base = parse_fraction(match[3])
                if not base or base < 0 or max(base.as_integer_ratio()) >= 1 << 31:  # as FFmpeg's
                    raise InputError(
                        "{path}: has a time base that no film has ({time_base})",
                        code="framemd5_time",
                        path=self.path,
                        time_base=match[3][:40],
                    )
                stream.base = base
            elif match[1] == "media_type":
                stream.kind = match[3]
            else:
                stream.codec = match[3]
        if not hashed or not any(stream.codec == _RAW for stream in self.streams.values()):
            raise InputError(
                "{path}: is no framemd5 list of decoded frames; FFmpeg and {--checksums=True} write such",
                code="framemd5_none",
                path=self.path,
            )

    def rows(self) -> Iterator[HashRow]:
        """The rows, in the order of the file; InputError for a line that is none."""
        for number, line in enumerate(self._lines(), 1):
            if line.startswith("#") or not line.strip():
                continue
            row = parse_row(line)
            if row is None or row.stream not in self.streams:
                raise InputError(
                    "{path}: line {number} is no row of a framemd5 list; the list is damaged",
                    code="framemd5_line",
                    path=self.path,
                    number=number,
                )
            yield row

    def _lines(self) -> Iterator[str]:
        try:
            with open_regular(self.path) as file:
                while line := file.readline(_LINE):
                    yield line.decode("ascii", "replace")
        except OSError as error:
            raise InputMissing(
                "{path}: cannot be read ({why})", code="file_unreadable", path=self.path, why=error.strerror
            ) from error


class _OffGrid(Exception):
    """A frame's time is no multiple of the nominal frame duration: the frame rate varies."""


def hash_frames(
    film: str | os.PathLike[str],
    into: Callable[[], Writes],
    *,
    wanted: Sequence[HashedStream] | None = None,
    tick: Tick | None = None,
    stop: Callable[[], bool] | None = None,
) -> dict[int, str]:
    """Writes the list of a film's frame and packet hashes.

    Frames have the time base 1/rate, as in FFmpeg; where the frame rate varies, that of the container.

    Args:
        film: a file that PyAV opens.
        into: opens the file that takes the list; called a second time, to begin again, where the frame rate turns out
            to vary.
        wanted: streams of an existing list that is to be compared: they are hashed in this order and with these time
            bases. None for all streams.
        tick: called with the share of the film that is done.
        stop: ends the work with `Interrupted` once it is true.

    Returns:
        A line for each stream of `wanted` that the film does not have in this form, by its number there.

    Raises:
        InputError: the film cannot be read, or a part of it cannot be decoded.
    """
    work = _Hashing(film, wanted, tick, stop or (lambda: False))
    try:
        return work.run(into(), exact=wanted is None)
    except _OffGrid:
        return work.run(into(), exact=False, varies=True)


class _Hashing:
    def __init__(
        self,
        film: str | os.PathLike[str],
        wanted: Sequence[HashedStream] | None,
        tick: Tick | None,
        stop: Callable[[], bool],
    ) -> None:
        self._film, self._name, self._wanted, self._tick, self._stop = film, shown(film), wanted, tick, stop

    def run(self, file: Writes, *, exact: bool, varies: bool = False) -> dict[int, str]:
        with open_container(self._film) as source:
            video, _ = choose_video(source, self._name)
            video.thread_type = "AUTO"
            if not video.codec_context.pix_fmt:
                raise InputError(
                    "{name}: no frame of it can be decoded; the file is damaged", code="film_damaged", name=self._name
                )
            rate, known = rate_of(video)
            base = time_base_of(video) if varies or not known else 1 / rate
            if self._wanted is not None:
                base = next((s.base for s in self._wanted if s.codec == _RAW), base)
            target: Any = file
            with av.open(target, "w", format="framemd5") as out:
                encoder, copies, missing = self._streams(source, video, out, base)
                self._start = clock_start_of(source)
                self._first = Fraction(0)  # of the first frame's time, what is no whole frame
                self._length = Fraction(source.duration or 0, 1_000_000)
                self._clock = time_base_of(video)
                self._pump(source, video, out, encoder, copies, base, exact=exact and known and not varies)
            return missing

    def _streams(
        self,
        source: InputContainer,
        video: VideoStream,
        out: OutputContainer,
        base: Fraction,
    ) -> tuple[VideoStream | None, dict[int, Stream], dict[int, str]]:
        """The streams of the list: that of frames, those of packets by the film's stream index, and what is missing."""
        others = [
            s
            for s in kept_streams(source, video)
            if s.index != video.index and s.type != "attachment" and not s.disposition & Disposition.attached_pic
        ]
        copies: dict[int, Stream] = {}
        missing: dict[int, str] = {}
        encoder: VideoStream | None = None
        plan: list[Stream | None] = []
        if self._wanted is None:
            plan = [s for s in source.streams if s.index == video.index or s in others]
        else:
            left = list(others)
            for number, want in enumerate(self._wanted):
                found = video if want.codec == _RAW else next((s for s in left if s.type == want.kind), None)
                if found in left:
                    left.remove(found)
                if found is None or (found is not video and codec_of(found) != want.codec):
                    missing[number] = (
                        f"stream {number} ({want.kind}, {want.codec}) of the list is not in "
                        f"{self._name} in this form: it is not checked"
                    )
                    found = None
                plan.append(found)
        for found in plan:
            if found is None:  # keeps the numbers of the others
                out.add_stream("pcm_u8", rate=8000)
            elif found.index == video.index:
                encoder = _raw_stream(out, video, base)
            else:
                with contextlib.suppress(av.FFmpegError, ValueError):
                    copies[found.index] = (
                        out.add_stream_from_template(found)
                        if found.codec_context is None  # pyright: ignore
                        else out.add_stream_from_template(found, opaque=True)
                    )
        return encoder, copies, missing

    def _pump(
        self,
        source: InputContainer,
        video: VideoStream,
        out: OutputContainer,
        encoder: VideoStream | None,
        copies: dict[int, Stream],
        base: Fraction,
        *,
        exact: bool,
    ) -> None:
        last: int | None = None
        try:
            for packet in source.demux():
                if self._stop():
                    raise Interrupted
                if not packet.size:  # these only ask for a flush
                    continue
                if packet.stream_index == video.index and encoder is not None:
                    for image in video.decode(packet):  # pyright: ignore[reportArgumentType]
                        last = self._frame(image, out, encoder, base, last, exact=exact)
                elif packet.stream_index in copies:
                    shift = round(self._start / packet.time_base)
                    packet.pts = None if packet.pts is None else packet.pts - shift
                    packet.dts = None if packet.dts is None else packet.dts - shift
                    packet.stream = copies[packet.stream_index]
                    out.mux_one(packet)
            if encoder is not None:
                for image in video.decode(None):
                    last = self._frame(image, out, encoder, base, last, exact=exact)
                out.mux(encoder.encode(None))
        except av.FFmpegError as error:
            raise InputError(
                "{name}: could not be decoded to its end ({why}); the file is damaged",
                code="decode_end",
                name=self._name,
                why=error.strerror,
            ) from error

    def _frame(
        self,
        image: av.VideoFrame,
        out: OutputContainer,
        encoder: VideoStream,
        base: Fraction,
        last: int | None,
        *,
        exact: bool,
    ) -> int:
        clock = self._clock
        time = Fraction(image.pts or 0) * clock - self._start
        pts = round(time / base)
        if last is None:
            self._first = time - pts * base
        late = time - self._first - pts * base
        if exact and (abs(late) > max(clock, base / 1000) or (last is not None and pts <= last)):
            raise _OffGrid
        if self._tick is not None and self._length > 0:
            self._tick(min(1.0, float(time / self._length)))
        image.duration = round(image.duration * clock / base) if image.duration else 1
        image.pts, image.time_base, image.pict_type = pts, base, 0
        out.mux(encoder.encode(image))
        return pts


def _raw_stream(out: OutputContainer, video: VideoStream, base: Fraction) -> VideoStream:
    encoder = out.add_stream(_RAW, rate=video.guessed_rate or 25)
    context, source = encoder.codec_context, video.codec_context
    context.width, context.height, context.pix_fmt = source.width, source.height, source.pix_fmt
    context.time_base, encoder.time_base = base, base
    context.flags |= 1 << 8  # AV_CODEC_FLAG_FRAME_DURATION
    return encoder


def frame_hashes(
    film: str | os.PathLike[str],
    *,
    tick: Tick | None = None,
    stop: Callable[[], bool] | None = None,
) -> tuple[Fraction, list[tuple[int, str]]]:
    """The decoded frames of a film: seconds of one unit of time, and time and MD5 of each; raises as `hash_frames`."""
    text = io.BytesIO()

    def begin() -> Writes:
        text.seek(0)
        text.truncate()
        return text

    wanted = [HashedStream("video", _RAW, Fraction(1, 1_000_000))]
    hash_frames(film, begin, wanted=wanted, tick=tick, stop=stop)
    rows = [row for line in text.getvalue().decode("ascii").splitlines() if (row := parse_row(line)) is not None]
    return wanted[0].base, [(row.pts, row.md5) for row in rows]
