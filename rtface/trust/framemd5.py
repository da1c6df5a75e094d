"""Frame hashes in FFmpeg's framemd5 format, written by FFmpeg's own muxer: made of a film, and read again.

The first video stream is decoded and each frame hashed as raw video; the packets of all other streams are
hashed as they are. FFmpeg makes the same list with
``ffmpeg -noautorotate -i FILM -map 0 -map -0:t? -c copy -c:v:0 rawvideo -f framemd5 LIST``.
"""

from __future__ import annotations

import contextlib
import hashlib
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
from rtface.media.formats.pcm import GAP_S, PcmClock
from rtface.media.read.probe import choose_video, open_container, rate_of
from rtface.redaction import shown
from rtface.util.foreign import open_regular, parse_fraction

Tick = Callable[[float], None]
"""Called with the share of the work that is done, 0…1."""

_ROW = re.compile(r"\s*(\d{1,4}),\s*(-?\d{1,19}),\s*(-?\d{1,19}),\s*(-?\d+),\s*(\d+),\s*([0-9a-f]{32})\b")
_HEAD = re.compile(r"#(tb|media_type|codec_id) (\d+): (\S+)")
# Streams that a list may have, and bytes of a line.
_STREAMS, _LINE = 1000, 4096
_RAW = "rawvideo"
# Samples of PCM that are compared as one.
_PIECE = 1024
# Between texts of MP4 that are one; rtface writes texts that touch a little apart.
_TEXT_GAP_S = Fraction(1, 2000)
# Subtitles whose packets are shown for as long as the container says.
_TEXT = ("ass", "subrip", "webvtt", "mov_text", "text")


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
                    f"{self.path}: names the stream {match[2][:20]}, and no film has as many; the list is damaged"
                )
            stream = self.streams.setdefault(int(match[2]), HashedStream())
            if match[1] == "tb":
                base = parse_fraction(match[3])
                if not base or base < 0:
                    raise InputError(f"{self.path}: has a time base that is no number ({match[3][:40]})")
                stream.base = base
            elif match[1] == "media_type":
                stream.kind = match[3]
            else:
                stream.codec = match[3]
        if not hashed or not any(stream.codec == _RAW for stream in self.streams.values()):
            raise InputError(f"{self.path}: is no framemd5 list of decoded frames; FFmpeg and --checksums write such")

    def rows(self) -> Iterator[HashRow]:
        """The rows, in the order of the file; InputError for a line that is none."""
        for number, line in enumerate(self._lines(), 1):
            if line.startswith("#") or not line.strip():
                continue
            row = parse_row(line)
            if row is None or row.stream not in self.streams:
                raise InputError(f"{self.path}: line {number} is no row of a framemd5 list; the list is damaged")
            yield row

    def _lines(self) -> Iterator[str]:
        try:
            with open_regular(self.path) as file:
                while line := file.readline(_LINE):
                    yield line.decode("ascii", "replace")
        except OSError as error:
            raise InputMissing(f"{self.path}: cannot be read ({error.strerror})") from error


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
            base = Fraction(video.time_base or Fraction(1, 1_000_000)) if varies or not known else 1 / rate
            if self._wanted is not None:
                base = next((s.base for s in self._wanted if s.codec == _RAW), base)
            target: Any = file
            with av.open(target, "w", format="framemd5") as out:
                encoder, copies, missing = self._streams(source, video, out, base)
                self._start = Fraction(source.start_time or 0, 1_000_000)
                self._first = Fraction(0)  # of the first frame's time, what is no whole frame
                self._length = Fraction(source.duration or 0, 1_000_000)
                self._clock = Fraction(video.time_base or Fraction(1, 1_000_000))
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
            for s in source.streams
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
                if found is None or (found is not video and _codec_of(found) != want.codec):
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
                f"{self._name}: could not be decoded to its end ({error.strerror}); the file is damaged"
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


def _codec_of(stream: Stream) -> str:
    context: Any = stream.codec_context
    return (getattr(stream, "name", None) or "") if context is None else context.codec.canonical_name


def _setup_of(stream: Stream) -> str:
    """`PacketHashes.setup`; containers give it in one form."""
    context: Any = stream.codec_context
    codec = _codec_of(stream)
    if stream.type == "audio" and codec.startswith(("pcm_", "adpcm_")):
        return f"{context.sample_rate} Hz, {context.channels} channels"
    head = bytes(getattr(context, "extradata", None) or b"")
    if codec == "opus":  # channels, gain, and which is which; MPEG-TS has no delay
        head = head[9:10] + head[16:]
    elif codec == "aac":  # kind, rate and channels; MPEG-TS keeps no more
        head = head[:2]
    elif codec == "mov_text":  # FFmpeg adds its bit rate (btrt) to the style and fonts
        head = re.sub(rb"\0\0\0\x14btrt.{12}", b"", head, flags=re.DOTALL)
    elif stream.type != "subtitle" and codec != "vorbis":
        head = b""
    return hashlib.md5(head.strip(b"\0\r\n"), usedforsecurity=False).hexdigest() if head else ""


@dataclass(slots=True)
class PacketHashes:
    """The packets of one stream of a film, as they are in the file.

    Attributes:
        kind: "video", "audio", "subtitle", "data".
        codec: FFmpeg's name.
        base: seconds of one unit of the times.
        rows: time of presentation and MD5 (32 hexadecimal digits) of each packet, in the order of the file.
        index: number of the stream in the file.
        durations: of each packet of text, which says how long it is shown.
        setup: codec parameters outside the packets: rate and channels of PCM, else the header of sound and of
            subtitles; "" for nothing, or where the packets say all of it.
        hidden: places in `rows` of packets that an edit list cuts away.
    """

    kind: str
    codec: str
    base: Fraction
    rows: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])
    index: int = 0
    durations: list[int] = field(default_factory=list[int])
    setup: str = ""
    hidden: set[int] = field(default_factory=set[int])

    @property
    def md5(self) -> str:
        """MD5 of the packets' MD5s."""
        return hashlib.md5("".join(md5 for _, md5 in self.rows).encode(), usedforsecurity=False).hexdigest()


class _SamePieces:
    """Packets of PCM in pieces of equal length, as each container cuts them at other places.

    Silence of a fiftieth of a second or more is one piece, however long, and a gap between packets the same one: where
    the input has the one, a container may need the other.
    """

    def __init__(self, clock: PcmClock) -> None:
        self._clock, self._waiting = clock, bytearray()
        self._begin = Fraction(0)  # time of what waits
        self._silent = False  # whether that follows silence which was given
        self._least = int(GAP_S * clock.rate) * clock.sample
        self._silence = re.compile(b"(?:%b){%d,}" % (re.escape(clock.silent), self._least))

    @classmethod
    def of(cls, stream: Stream) -> _SamePieces | None:
        """None for streams that are no PCM."""
        clock = PcmClock.of(stream)
        return None if clock is None else cls(clock)

    def push(self, pts: int, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Whole pieces, with the time of each."""
        first = self._clock.end is None
        missing = self._clock.push(pts, len(data))
        if missing > 0 and not self._silent:  # then nothing waits
            yield from self._give(self._loud(), whole=False)
            yield round(self._begin), b""
            self._silent = True
        elif missing < 0:
            yield from self.flush()
        if first or missing:
            self._waiting.clear()
            self._begin = Fraction(pts)
        self._waiting += data
        yield from self._find_silence()
        yield from self._give(self._loud(), whole=True)

    def flush(self) -> Iterator[tuple[int, bytes]]:
        """What is left."""
        yield from self._give(len(self._waiting), whole=False)

    def _find_silence(self) -> Iterator[tuple[int, bytes]]:
        size = self._clock.sample
        at = 0
        while True:
            if self._silent:
                length = len(self._waiting) - len(self._waiting.lstrip(self._clock.silent))
                self._drop(length // size * size)
                self._silent = not self._waiting
            found = self._silence.search(self._waiting, at)
            if found is None:
                return
            start, at = -(-found.start() // size) * size, found.end()
            if at // size * size - start >= self._least:
                at = 0
                yield from self._give(start, whole=False)
                yield round(self._begin), b""
                self._silent = True

    def _loud(self) -> int:
        """Bytes in front of what may become silence that is long enough."""
        size = self._clock.sample
        return -(-len(self._waiting.rstrip(self._clock.silent)) // size) * size

    def _give(self, length: int, *, whole: bool) -> Iterator[tuple[int, bytes]]:
        """The pieces of the first `length` bytes that wait; with `whole`, a shorter one at their end waits on."""
        size = _PIECE * self._clock.sample
        while length >= size or (length and not whole):
            piece = bytes(self._waiting[: min(size, length)])
            yield round(self._begin), piece
            self._drop(len(piece))
            length -= len(piece)

    def _drop(self, length: int) -> None:
        del self._waiting[:length]
        self._begin += length // self._clock.sample * self._clock.tick


def hash_packets(
    film: str | os.PathLike[str], *, stop: Callable[[], bool] | None = None, bare: bool = False, pieces: bool = False
) -> list[PacketHashes]:
    """The packets of all streams of a film, the enhanced one first; attachments have none and are left out, and so are
    the empty texts of MP4, of which each muxer writes others.

    Args:
        film: a file that PyAV opens.
        stop: ends the work with `Interrupted` once it is true.
        bare: AAC without the headers (ADTS) that it has in MPEG-TS, and in no other container; and a text of MP4 that
            is repeated with hardly a gap as one, since a sample of it may only last so long.
        pieces: PCM in pieces of equal length in place of its packets.

    Raises:
        InputError: the film cannot be read.
        Interrupted: `stop` became true.
    """
    name = shown(film)
    with open_container(film) as source:
        video, _ = choose_video(source, name)
        streams = [video, *(s for s in source.streams if s.index != video.index and s.type != "attachment")]
        found = {
            s.index: PacketHashes(
                s.type, _codec_of(s), Fraction(s.time_base or Fraction(1, 1_000_000)), index=s.index, setup=_setup_of(s)
            )
            for s in streams
        }
        pcm = {s.index: one for s in streams if pieces and (one := _SamePieces.of(s)) is not None}

        def note(number: int, pts: int, data: bytes) -> None:
            found[number].rows.append((pts, hashlib.md5(data, usedforsecurity=False).hexdigest()))

        try:
            for packet in source.demux():
                if stop is not None and stop():
                    raise Interrupted
                number = packet.stream_index
                if not packet.size or number not in found:
                    continue
                data = bytes(packet)
                if number in pcm:
                    if packet.is_discard:  # an edit list cuts it away, and no later packet needs it
                        continue
                    for piece in pcm[number].push(packet.pts or 0, data):
                        note(number, *piece)
                    continue
                if data == b"\0\0" and found[number].codec == "mov_text":
                    continue
                if bare and found[number].codec == "aac" and data[:1] == b"\xff" and data[1:2] >= b"\xf0":
                    data = data[7 if data[1] & 1 else 9 :]
                note(number, packet.pts or 0, data)
                place = len(found[number].rows) - 1
                if packet.is_discard:
                    found[number].hidden.add(place)
                if found[number].codec in _TEXT:
                    rows, lasts = found[number].rows, found[number].durations
                    lasts.append(packet.duration or 0)
                    if (
                        bare
                        and found[number].codec == "mov_text"
                        and place
                        and rows[-1][1] == rows[-2][1]
                        and (not {place - 1, place} & found[number].hidden)
                        and (0 <= (gap := rows[-1][0] - rows[-2][0] - lasts[-2]) * found[number].base <= _TEXT_GAP_S)
                    ):
                        rows.pop()
                        lasts.append(lasts.pop() + gap + lasts.pop())
            for number, sound in pcm.items():
                for piece in sound.flush():
                    note(number, *piece)
        except av.FFmpegError as error:
            raise InputError(f"{name}: could not be read to its end ({error.strerror}); the file is damaged") from error
    return list(found.values())


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
