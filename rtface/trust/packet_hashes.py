"""Hashes packets of sound, subtitles and further pictures. Compares an output's packets with the input's."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import av
from av.stream import Stream

from rtface.errors import InputError
from rtface.media.formats.adts_headers import adts_config
from rtface.media.formats.pcm import PcmClock
from rtface.media.read.container import choose_video, codec_of, open_container, time_base_of
from rtface.media.read.edited_times import EditedTimes
from rtface.media.read.variants import kept_streams
from rtface.redaction import shown
from rtface.trust.check_result import CheckResult, OnProgress

_PIECE = 1024  # so many samples of PCM are compared together
_MOVED_S = 0.02  # largest shift of a packet that a container may cause, against the picture (0.7 ms were seen)
_AT_CUT_S = 0.25  # packets this near to a border of a cut may or may not be present
_COMPARED = ("audio", "subtitle", "video")


class Row(NamedTuple):
    """Describes a packet: time in seconds, MD5, and whether an edit list hides the packet."""

    time: float
    md5: str
    hidden: bool = False


class PacketHashes:
    """Hashes the packets of one stream of a film.

    Attributes:
        kind: "video", "audio", "subtitle", "data".
        codec: FFmpeg's name of the codec, for PCM with rate and channels.
        index: number of the stream in the file.
        rows: packets in file order; for PCM, pieces of equal length.
        gaps: whether time is missing between packets of PCM.
        clock: clock of the samples, for PCM.
    """

    def __init__(self, stream: Stream) -> None:
        self.kind, self.index, self.codec = stream.type, stream.index, codec_of(stream)
        self.rows, self.gaps, self.clock = list[Row](), False, PcmClock.of(stream)
        self._base, self._waiting, self._begin = time_base_of(stream), bytearray(), Fraction(0)
        if self.clock is not None:
            context: Any = stream.codec_context
            self.codec += f", {context.sample_rate} Hz, {context.channels} channels"

    def push(self, packet: av.Packet[Stream]) -> None:
        """Hashes the next packet."""
        data, begin = bytes(packet), Fraction(packet.pts or 0)
        if self.clock is None:
            md5 = _md5(data[adts_config(data)[1] :] if self.codec == "aac" else data)
            again = self.rows and self.rows[-1].md5 == md5
            if self.codec != "mov_text" or not (again or data == b"\0\0"):
                self.rows.append(Row(float(begin * self._base), md5, packet.is_discard))
        elif not packet.is_discard:  # hidden PCM is left out: no later packet needs it
            self._begin = begin if self.clock.end is None else self._begin
            self.gaps |= self.clock.push(packet.pts, len(data)) != 0
            self._waiting += data
            while len(self._waiting) >= _PIECE * self.clock.sample:
                self._take_piece(self.clock)

    def flush(self) -> None:
        """Hashes the remaining data."""
        if self.clock is not None and self._waiting:
            self._take_piece(self.clock)

    def _take_piece(self, clock: PcmClock) -> None:
        """Hashes PCM in pieces of equal length, because containers cut packets differently."""
        data = bytes(self._waiting[: _PIECE * clock.sample])
        del self._waiting[: len(data)]
        self.rows.append(Row(float(self._begin * self._base), _md5(data)))
        self._begin += len(data) // clock.sample * clock.tick


def hash_packets(
    film: str | os.PathLike[str], *, doing: OnProgress | None = None, variant: str = "best"
) -> list[PacketHashes]:
    """Hashes the packets of all streams, independently of containers. The enhanced stream is the first.

    AAC is hashed without the headers (ADTS) of MPEG-TS. Attachments and the empty texts of MP4 are left out; repeated
    texts of MP4 count once.

    Args:
        film: a file that PyAV opens.
        doing: receives progress.
        variant: variant of an HLS or DASH list (``--variant``).

    Raises:
        InputError: the film cannot be read.
    """
    name = shown(film)
    with open_container(film) as source:
        video, _ = choose_video(source, name, variant=variant)
        streams, edited = [video, *kept_streams(source, video)], EditedTimes(source)
        hashes = {s.index: PacketHashes(s) for s in streams if s.type != "attachment"}
        try:
            for raw in source.demux():
                if doing is not None:
                    doing("comparison", 1.0)
                packet = edited.timed(raw) if raw.size and raw.stream_index in hashes else None
                if packet is not None:
                    hashes[packet.stream_index].push(packet)
        except av.FFmpegError as error:
            raise InputError(
                "{name}: could not be read to its end ({why}); the file is damaged",
                code="read_end",
                name=name,
                why=error.strerror,
            ) from error
    for stream in hashes.values():
        stream.flush()
    return list(hashes.values())


def compare_packets(
    result: CheckResult,
    output: Sequence[PacketHashes],
    source: Sequence[PacketHashes],
    begins: tuple[float, float],
    cut: tuple[Fraction | None, Fraction | None],
    dropped: Collection[str] = (),
) -> None:
    """Compares the packets of copied streams, in order and at their times.

    Args:
        result: receives the findings.
        output, source: streams of output and input, without the picture.
        begins: time of the first frame, in the output and in the input.
        cut: start and end of the cut, in seconds of the input's clock; None if not cut.
        dropped: values of the run's ``--drop``.
    """
    left, converted = list(source), list[str]()
    for stream in (one for one in output if one.kind in _COMPARED):
        named, md5s = f"stream {stream.index} ({stream.kind}, {stream.codec})", {row.md5 for row in stream.rows}
        shared = [len(md5s & {row.md5 for row in one.rows}) if one.codec == stream.codec else 0 for one in left]
        if not any(shared):
            result.gaps.append(f"{named}: was converted or cut into other pieces; its packets are not compared")
            converted.append(stream.kind)
            continue
        other = left.pop(shared.index(max(shared)))
        wrong = _first_difference(stream, other, begins, cut)
        if wrong and stream.clock is not None and (cut != (None, None) or stream.gaps != other.gaps):
            result.gaps.append(f"{named}: {wrong}; it is cut into pieces elsewhere, and is not compared")
        elif wrong:
            result.problems.append(f"{named}: {wrong}")
        else:
            result.proofs.append(f"{named}: all {len(stream.rows)} packets are those of the input")
    for other in left:
        named = f"stream {other.index} ({other.kind}, {other.codec}) of the input is not in it"
        cover = "cover" if other.kind == "video" and len(other.rows) == 1 else ""
        if {str(other.index), other.kind, cover} & set(dropped):
            result.notes.append(f"{named}: the run left it out (--drop)")
        elif other.kind in converted:
            converted.remove(other.kind)
        elif other.rows and other.kind in _COMPARED:
            result.gaps.append(named)


def _first_difference(
    stream: PacketHashes,
    other: PacketHashes,
    begins: tuple[float, float],
    cut: tuple[Fraction | None, Fraction | None],
) -> str:
    """Describes the first packet that differs from the other stream's. Returns "" if none differs."""
    start, end = (-float("inf") if cut[0] is None else cut[0]), (float("inf") if cut[1] is None else cut[1])
    waiting = [
        (row, row.hidden or row.time < start + _AT_CUT_S or row.time >= end - _AT_CUT_S) for row in reversed(other.rows)
    ]
    timed = stream.kind != "video" or len(stream.rows) > 1  # a cover has no time
    for number, row in enumerate(stream.rows):
        while True:
            expected, free = waiting.pop() if waiting else (None, False)
            late = 0.0
            if expected is not None and timed:  # a subtitle on screen at a cut may begin there
                time, begin = row.time - begins[0], expected.time - begins[1]
                late = min(time - begin, time - max(begin, 0.0), key=abs)
            wrong = expected is None or expected.md5 != row.md5
            if not free or not (wrong or abs(late) > _MOVED_S):
                break
        if wrong:
            return f"packet {number} is not that of the input"
        if abs(late) > _MOVED_S:
            return f"packet {number} comes {abs(late):.3f} s {'later' if late > 0 else 'earlier'}"
    missing = sum(not free for _, free in waiting)
    return f"the last {missing} packets of the input are missing" if missing else ""


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
