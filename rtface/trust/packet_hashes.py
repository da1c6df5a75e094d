"""The packets of a film's streams as hashes, alike for streams that another container cuts or wraps in another way."""

from __future__ import annotations

import hashlib
import os
import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av
from av.stream import Stream

from rtface.errors import InputError, Interrupted
from rtface.media.formats.adts_headers import adts_config, plain_config
from rtface.media.formats.coded_headers.units import BLA, UNITS
from rtface.media.formats.mp4 import ROUNDED_S
from rtface.media.formats.pcm import GAP_S, PcmClock
from rtface.media.read.container import (
    choose_video,
    clock_start_of,
    codec_of,
    kept_streams,
    open_container,
    time_base_of,
)
from rtface.media.read.edited_times import EditedTimes
from rtface.redaction import shown
from rtface.trust.coded_parts import CodedParts

# Samples of PCM that are compared as one.
_PIECE = 1024
# Between texts of MP4 that are one; rtface writes texts that touch a little apart.
_TEXT_GAP_S = Fraction(1, 2000)
# Subtitles whose packets are shown for as long as the container says.
_TEXT = ("ass", "subrip", "webvtt", "mov_text", "text")


@dataclass(slots=True)
class PacketHashes:
    """The packets of one stream of a film, as they are in the file.

    Attributes:
        kind: "video", "audio", "subtitle", "data".
        codec: FFmpeg's name.
        base: seconds of one unit of the times.
        rows: time of presentation and MD5 (32 hexadecimal digits) of each packet, in the order of the file.
        index: number of the stream in the file.
        id: of the stream in its container, in MPEG-TS its packets' number.
        durations: of each packet of text, which says how long it is shown.
        setup: codec parameters outside the packets: rate and channels of PCM, else the header of sound and of
            subtitles; "" for nothing, or where the packets say all of it.
        hidden: places in `rows` of packets that an edit list cuts away.
        trimmed: by places in `rows`, the samples at the beginning and end of packets that players leave out.
        end: where the header says that the stream ends, in seconds; None for nothing.
        last: where in the file the last of its packets begins.
        reached: when the last of them is decoded: FFmpeg counts by that where a header ends.
        partly: whether the index of an MP4 file names its first packets only, and fragments have the others.
        parts: of a picture, where asked for (`rtface.trust.coded_parts`).
    """

    kind: str
    codec: str
    base: Fraction
    rows: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])
    index: int = 0
    id: int = 0
    durations: list[int] = field(default_factory=list[int])
    setup: str = ""
    hidden: set[int] = field(default_factory=set[int])
    trimmed: dict[int, tuple[int, int]] = field(default_factory=dict[int, tuple[int, int]])
    end: Fraction | None = None
    last: int = 0
    reached: int = 0
    partly: bool = False
    parts: set[tuple[str, bytes]] = field(default_factory=set[tuple[str, bytes]])

    @property
    def md5(self) -> str:
        """MD5 of the packets' MD5s."""
        return _md5("".join(md5 for _, md5 in self.rows).encode())


def hash_packets(
    film: str | os.PathLike[str],
    *,
    stop: Callable[[], bool] | None = None,
    pieces: bool = False,
    slices: bool = False,
    parts: bool = False,
    variant: str = "best",
) -> list[PacketHashes]:
    """The packets of all streams of a film, the enhanced one first; attachments have none and are left out, and so are
    the empty texts of MP4, of which each muxer writes others. AAC is without the headers (ADTS) that it has in MPEG-TS
    only, and a text of MP4 that is repeated with hardly a gap is one, since a sample of it may only last so long.

    Args:
        film: a file that PyAV opens.
        stop: ends the work with `Interrupted` once it is true.
        pieces: PCM in pieces of equal length in place of its packets.
        slices: of the enhanced one SHA-256, in H.264 and HEVC of the slices.
        parts: whether what pictures say apart from samples is named.
        variant: of an HLS or DASH list (``--variant``).

    Raises:
        InputError: the film cannot be read.
        Interrupted: `stop` became true.
    """
    name = shown(film)
    with open_container(film) as source:
        video, _ = choose_video(source, name, variant=variant)
        streams, edited = [video, *kept_streams(source, video)], EditedTimes(source)
        readers = {s.index: _reader(s, pieces=pieces) for s in streams if s.type != "attachment"}
        if slices:
            readers[video.index] = _Slices(video)
        coded = {
            index: CodedParts(reader.found.codec, reader.header, reader.found.parts)
            for index, reader in readers.items()
            if parts and reader.found.kind == "video"
        }
        try:
            for came in source.demux():
                if stop is not None and stop():
                    raise Interrupted
                packet = edited.timed(came) if came.size and came.stream_index in readers else None
                if packet is not None:
                    reader = readers[packet.stream_index]
                    reader.found.last = max(reader.found.last, packet.pos or 0)
                    reader.found.reached = max(reader.found.reached, packet.dts or packet.pts or 0)
                    reader.push(packet)
                    if packet.stream_index in coded:
                        coded[packet.stream_index].push(bytes(packet))
        except av.FFmpegError as error:
            raise InputError(
                "{name}: could not be read to its end ({why}); the file is damaged",
                code="read_end",
                name=name,
                why=error.strerror,
            ) from error
    for reader in readers.values():
        reader.flush()
    return [reader.found for reader in readers.values()]


def cut_short(streams: Sequence[PacketHashes]) -> list[str]:
    """Names the streams with packets behind the end that the header names."""
    return [
        f"stream {number} ({one.kind}): its header says that it ends before its last packets, where some players stop"
        for number, one in enumerate(streams)
        if one.end is not None and one.reached * one.base > one.end + ROUNDED_S
    ]


def _named_end(stream: Stream) -> Fraction | None:
    film: Any = stream.container
    base, form = time_base_of(stream), film.format.name
    if form.startswith("matroska") and film.duration:
        return clock_start_of(film) + Fraction(film.duration, 1_000_000)
    # Where there are fragments only, no player stops at lengths that the header names.
    if stream.duration and (form.startswith("mxf") or (form.startswith("mov") and stream.frames)):
        return ((stream.start_time or 0) + stream.duration) * base
    return None


def _reader(stream: Stream, *, pieces: bool) -> _Packets:
    codec = codec_of(stream)
    if pieces and (clock := PcmClock.of(stream)) is not None:
        return _Pieces(stream, clock)
    if codec in _TEXT:
        return _Texts(stream)
    return (_BareAac if codec == "aac" else _Packets)(stream)


class _Packets:
    """Packets as they are."""

    def __init__(self, stream: Stream) -> None:
        base, context = time_base_of(stream), getattr(stream, "codec_context", None)
        self.header = bytes(getattr(context, "extradata", None) or b"")
        self.found = PacketHashes(
            stream.type,
            codec_of(stream),
            base,
            index=stream.index,
            id=stream.id,
            setup=_setup_of(stream),
            end=_named_end(stream),
            partly=0 < stream.frames < len(stream.index_entries),
        )

    def push(self, packet: av.Packet[Stream]) -> None:
        """Takes the next packet."""
        self._note_cuts(packet)
        self._note(packet.pts or 0, bytes(packet))
        if packet.is_discard:
            self.found.hidden.add(len(self.found.rows) - 1)

    def _note_cuts(self, packet: av.Packet[Stream]) -> None:
        if packet.has_sidedata("skip_samples"):
            self.found.trimmed[len(self.found.rows)] = struct.unpack_from(
                "<2I", bytes(packet.get_sidedata("skip_samples"))
            )

    def flush(self) -> None:
        """Takes what is left."""

    def _note(self, pts: int, data: bytes) -> None:
        self.found.rows.append((pts, _md5(data)))


class _Slices(_Packets):
    """Units of H.264 or HEVC that have samples, as the others name and describe, and differ between containers; whole
    packets of other codecs."""

    def _note(self, pts: int, data: bytes) -> None:
        if (units := UNITS.get(self.found.codec)) is not None:
            parts = units.split(data, units.length_size(self.header))
            slices = [unit.rstrip(b"\0") for unit in parts if units.kind(unit) in units.slices]
            # Where copying began within a group, the kind alone is another (`packet_copy.GroupCopy.kept`).
            entry = slices and units.kind(slices[0]) in (BLA, *units.open)
            data = b"".join(unit[1:] for unit in slices) if entry else b"".join(slices)
        self.found.rows.append((pts, hashlib.sha256(data).hexdigest()))


class _BareAac(_Packets):
    def _note(self, pts: int, data: bytes) -> None:
        config, length = adts_config(data)
        if config and self.found.setup != _md5(config):
            self.found.setup = "other headers in it" if self.found.setup else _md5(config)
        super()._note(pts, data[length:])


class _Texts(_Packets):
    def push(self, packet: av.Packet[Stream]) -> None:
        of_mp4 = self.found.codec == "mov_text"
        if of_mp4 and bytes(packet) == b"\0\0":
            return
        super().push(packet)
        rows, lasts, place = self.found.rows, self.found.durations, len(self.found.rows) - 1
        lasts.append(packet.duration or 0)
        if of_mp4 and place and rows[-1][1] == rows[-2][1] and not {place - 1, place} & self.found.hidden:
            gap = rows[-1][0] - rows[-2][0] - lasts[-2]
            if 0 <= gap * self.found.base <= _TEXT_GAP_S:
                rows.pop()
                lasts.append(lasts.pop() + gap + lasts.pop())


class _Pieces(_Packets):
    """PCM in pieces of equal length, as each container cuts its packets at other places.

    Silence of a fiftieth of a second or more is one piece, however long, and a gap between packets the same one: where
    the input has the one, a container may need the other.
    """

    def __init__(self, stream: Stream, clock: PcmClock) -> None:
        super().__init__(stream)
        self._clock, self._waiting = clock, bytearray()
        self._begin = Fraction(0)  # time of what waits
        self._silent = False  # whether that follows silence which was given
        self._least = int(GAP_S * clock.rate) * clock.sample
        self._silence = re.compile(b"(?:%b){%d,}" % (re.escape(clock.silent), self._least))

    def push(self, packet: av.Packet[Stream]) -> None:
        self._note_cuts(packet)
        if packet.is_discard:  # an edit list cuts it away, and no later packet needs it
            return
        pts, data = packet.pts or 0, bytes(packet)
        first = self._clock.end is None
        missing = self._clock.push(pts, len(data))
        if missing > 0 and not self._silent:  # then nothing waits
            self._give(self._loud(), whole=False)
            self._note_silence()
        elif missing < 0:
            self.flush()
        if first or missing:
            self._waiting.clear()
            self._begin = Fraction(pts)
        self._waiting += data
        self._find_silence()
        self._give(self._loud(), whole=True)

    def flush(self) -> None:
        self._give(len(self._waiting), whole=False)

    def _find_silence(self) -> None:
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
                self._give(start, whole=False)
                self._note_silence()

    def _note_silence(self) -> None:
        self._note(round(self._begin), b"")
        self._silent = True

    def _loud(self) -> int:
        """Bytes in front of what may become silence that is long enough."""
        size = self._clock.sample
        return -(-len(self._waiting.rstrip(self._clock.silent)) // size) * size

    def _give(self, length: int, *, whole: bool) -> None:
        """The pieces of the first `length` bytes that wait; with `whole`, a shorter one at their end waits on."""
        size = _PIECE * self._clock.sample
        while length >= size or (length and not whole):
            piece = bytes(self._waiting[: min(size, length)])
            self._note(round(self._begin), piece)
            self._drop(len(piece))
            length -= len(piece)

    def _drop(self, length: int) -> None:
        del self._waiting[:length]
        self._begin += length // self._clock.sample * self._clock.tick


def _setup_of(stream: Stream) -> str:
    """`PacketHashes.setup`; containers give it in one form."""
    context: Any = stream.codec_context
    codec = codec_of(stream)
    if stream.type == "audio" and codec.startswith(("pcm_", "adpcm_")):
        return f"{context.sample_rate} Hz, {context.channels} channels"
    head = bytes(getattr(context, "extradata", None) or b"")
    if codec == "opus":  # channels, gain, and which is which; MPEG-TS has no delay
        head = head[9:10] + head[16:]
    elif codec == "aac":  # kind, rate and channels; MPEG-TS keeps no more
        head = plain_config(head) or head[:2]
    elif codec == "flac":  # sizes of blocks, rate, channels and bits; writers count the rest
        head = head[:4] + head[10:14]
    elif codec == "mov_text":  # FFmpeg adds its bit rate (btrt) to the style and fonts
        head = re.sub(rb"\0\0\0\x14btrt.{12}", b"", head, flags=re.DOTALL)
    elif stream.type not in ("audio", "subtitle"):
        head = b""
    return _md5(head if codec == "aac" else head.strip(b"\0\r\n")) if head else ""


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
