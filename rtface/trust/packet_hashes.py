"""Hashes packets of sound, subtitles and additional pictures. Compares an output's packets with the input's."""

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

_PIECE = 1024  # number of PCM samples in a row
_MOVED_S = 0.02  # largest shift against the picture that a container may cause (measured: 0.7 ms)
_AT_CUT_S = 0.25  # this close to the start or end of a cut, packets may be missing
_COMPARED_KINDS = ("audio", "subtitle", "video")


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
        self._base, self._pending, self._start = time_base_of(stream), bytearray(), Fraction(0)
        if self.clock is not None:
            context: Any = stream.codec_context
            self.codec += f", {context.sample_rate} Hz, {context.channels} channels"

    def push(self, packet: av.Packet[Stream]) -> None:
        """Hashes the next packet."""
        data, begin = bytes(packet), Fraction(packet.pts or 0)
        if self.clock is None:
            md5 = _md5(data[adts_config(data)[1] :] if self.codec == "aac" else data)
            is_repeated = self.rows and self.rows[-1].md5 == md5
            if self.codec != "mov_text" or not (is_repeated or data == b"\0\0"):
                self.rows.append(Row(float(begin * self._base), md5, packet.is_discard))
        elif not packet.is_discard:  # hidden PCM is left out, because no later packet needs it
            self._start = begin if self.clock.end is None else self._start
            self.gaps |= self.clock.push(packet.pts, len(data)) != 0
            self._pending += data
            while len(self._pending) >= _PIECE * self.clock.sample:
                self._hash_piece(self.clock)

    def flush(self) -> None:
        """Hashes the remaining data."""
        if self.clock is not None and self._pending:
            self._hash_piece(self.clock)

    def _hash_piece(self, clock: PcmClock) -> None:
        """Hashes PCM in pieces of equal length, because containers cut packets differently."""
        data = bytes(self._pending[: _PIECE * clock.sample])
        del self._pending[: len(data)]
        self.rows.append(Row(float(self._start * self._base), _md5(data)))
        self._start += len(data) // clock.sample * clock.tick


def hash_packets(
    film: str | os.PathLike[str], *, doing: OnProgress | None = None, variant: str = "best"
) -> list[PacketHashes]:
    """Hashes the packets of all streams, independently of containers. The enhanced stream is the first.

    AAC is hashed without the headers (ADTS) of MPEG-TS. Attachments and the empty texts of MP4 are left out; repeated
    texts of MP4 count once.

    Args:
        film: a file that PyAV opens.
        doing: receives progress.
        variant: variant of an HLS list (``--variant``).

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
    remaining, converted = list(source), list[str]()
    for stream in (one for one in output if one.kind in _COMPARED_KINDS):
        label, md5s = f"stream {stream.index} ({stream.kind}, {stream.codec})", {row.md5 for row in stream.rows}
        shared = [len(md5s & {row.md5 for row in one.rows}) if one.codec == stream.codec else 0 for one in remaining]
        if not any(shared):
            result.gaps.append(f"{label}: was converted or split differently; its packets are not compared")
            converted.append(stream.kind)
            continue
        other = remaining.pop(shared.index(max(shared)))
        difference = _first_difference(stream, other, begins, cut)
        if difference and stream.clock is not None and (cut != (None, None) or stream.gaps != other.gaps):
            result.gaps.append(f"{label}: {difference}; it is split at other times, and is not compared")
        elif difference:
            result.problems.append(f"{label}: {difference}")
        else:
            result.proofs.append(f"{label}: all {len(stream.rows)} packets equal those of the input")
    for other in remaining:
        label = f"stream {other.index} ({other.kind}, {other.codec}) of the input is not in the output"
        cover = "cover" if other.kind == "video" and len(other.rows) == 1 else ""
        if {str(other.index), other.kind, cover} & set(dropped):
            result.notes.append(f"{label}: the run left it out (--drop)")
        elif other.kind in converted:
            converted.remove(other.kind)
        elif other.rows and other.kind in _COMPARED_KINDS:
            result.gaps.append(label)


def _first_difference(
    stream: PacketHashes,
    other: PacketHashes,
    begins: tuple[float, float],
    cut: tuple[Fraction | None, Fraction | None],
) -> str:
    """Describes the first packet that differs between two streams. Returns "" if none differs."""
    start, end = (-float("inf") if cut[0] is None else cut[0]), (float("inf") if cut[1] is None else cut[1])
    pending = [
        (row, row.hidden or row.time < start + _AT_CUT_S or row.time >= end - _AT_CUT_S) for row in reversed(other.rows)
    ]
    timed = stream.kind != "video" or len(stream.rows) > 1  # a cover has no time
    for number, row in enumerate(stream.rows):
        while True:
            expected, is_optional = pending.pop() if pending else (None, False)
            late = 0.0
            if expected is not None and timed:  # a subtitle that is on screen at a cut may start there
                time, begin = row.time - begins[0], expected.time - begins[1]
                late = min(time - begin, time - max(begin, 0.0), key=abs)
            difference = expected is None or expected.md5 != row.md5
            if not is_optional or not (difference or abs(late) > _MOVED_S):
                break
        if difference:
            return f"packet {number} differs from that of the input"
        if abs(late) > _MOVED_S:
            return f"packet {number} is {abs(late):.3f} s {'later' if late > 0 else 'earlier'}"
    missing = sum(not is_optional for _, is_optional in pending)
    return f"the last {missing} packets of the input are missing" if missing else ""


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
