"""Hashes the packets of films, and compares those of an output with the input's: sound, subtitles, further pictures."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av
from av.stream import Stream

from rtface.errors import InputError, Interrupted
from rtface.media.formats.adts_headers import adts_config
from rtface.media.formats.pcm import PcmClock
from rtface.media.read.container import choose_video, codec_of, kept_streams, open_container, time_base_of
from rtface.media.read.edited_times import EditedTimes
from rtface.redaction import shown
from rtface.trust.checked import Checked

_PIECE = 1024  # samples of PCM that are compared as one
_MOVED_S = 0.02  # by which containers may move a packet against the picture (0.7 ms were seen)
_AT_CUT_S = Fraction(1, 4)  # packets this near to a border of a cut may or may not be in
_COMPARED = ("audio", "subtitle", "video")


@dataclass(slots=True)
class PacketHashes:
    """The packets of one stream of a film, as they are in the file.

    Attributes:
        kind: "video", "audio", "subtitle", "data".
        codec: FFmpeg's name; of PCM with rate and channels.
        base: seconds of one unit of the times.
        rows: time of presentation and MD5 (32 hexadecimal digits) of each packet, in the order of the file.
        index: number of the stream in the file.
        hidden: places in `rows` of packets that an edit list cuts away.
        pieces: whether `rows` are pieces of PCM of equal length.
        gaps: whether time is missing between packets of PCM.
    """

    kind: str
    codec: str
    base: Fraction
    rows: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])
    index: int = 0
    hidden: set[int] = field(default_factory=set[int])
    pieces: bool = False
    gaps: bool = False

    def seconds(self, begin: float) -> list[float]:
        """Times of the packets after `begin`, seconds."""
        return [float(pts * self.base) - begin for pts, _ in self.rows]


def hash_packets(
    film: str | os.PathLike[str], *, stop: threading.Event | None = None, variant: str = "best"
) -> list[PacketHashes]:
    """Hashes the packets of all streams, the enhanced one first, in a form that containers do not change.

    AAC is without the headers (ADTS) of MPEG-TS, PCM in pieces of equal length. Attachments and the empty texts of MP4
    are left out; a text of MP4 that is repeated is one.

    Args:
        film: a file that PyAV opens.
        stop: ends the work with `Interrupted` when set.
        variant: of an HLS or DASH list (``--variant``).

    Raises:
        InputError: the film cannot be read.
    """
    name = shown(film)
    with open_container(film) as source:
        video, _ = choose_video(source, name, variant=variant)
        streams, edited = [video, *kept_streams(source, video)], EditedTimes(source)
        readers = {s.index: _Reader(s) for s in streams if s.type != "attachment"}
        try:
            for came in source.demux():
                if stop is not None and stop.is_set():
                    raise Interrupted
                packet = edited.timed(came) if came.size and came.stream_index in readers else None
                if packet is not None:
                    readers[packet.stream_index].push(packet)
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


def compare_packets(
    found: Checked,
    made: Sequence[PacketHashes],
    source: Sequence[PacketHashes],
    begins: tuple[float, float],
    cut: tuple[Fraction | None, Fraction | None],
    dropped: Collection[str] = (),
) -> None:
    """Compares the packets of copied streams, in order and at their times.

    Args:
        found: takes what comes out.
        made, source: of output and input, without the picture.
        begins: time of the first frame, in the output and in the input.
        cut: of the input, in seconds of its clock; None for none.
        dropped: what ``--drop`` of the run named.
    """
    left, converted = list(source), list[str]()
    for stream in (one for one in made if one.kind in _COMPARED):
        named, own = f"stream {stream.index} ({stream.kind}, {stream.codec})", {md5 for _, md5 in stream.rows}
        shared = [len(own & {md5 for _, md5 in one.rows}) if one.codec == stream.codec else 0 for one in left]
        if not any(shared):
            found.gaps.append(f"{named}: was converted or cut into other pieces; its packets are not compared")
            converted.append(stream.kind)
            continue
        other = left.pop(shared.index(max(shared)))
        wrong = _first_difference(stream, other, begins, cut)
        elsewhere = cut != (None, None) or stream.gaps != other.gaps or len(stream.rows) != len(other.rows)
        if wrong and stream.pieces and elsewhere:
            found.gaps.append(f"{named}: {wrong}; it is cut into pieces elsewhere, and is not compared")
        elif wrong:
            found.problems.append(f"{named}: {wrong}")
        else:
            found.proofs.append(f"{named}: all {len(stream.rows)} packets are those of the input")
    for other in left:
        named = f"stream {other.index} ({other.kind}, {other.codec}) of the input is not in it"
        cover = "cover" if other.kind == "video" and len(other.rows) == 1 else ""
        if {str(other.index), other.kind, cover} & set(dropped):
            found.notes.append(f"{named}: the run left it out (--drop)")
        elif other.kind in converted:
            converted.remove(other.kind)
        elif other.rows and other.kind in _COMPARED:
            found.gaps.append(named)


def _first_difference(
    stream: PacketHashes,
    other: PacketHashes,
    begins: tuple[float, float],
    cut: tuple[Fraction | None, Fraction | None],
) -> str:
    """Where the packets of a stream are not those of another at the same times, in words; empty for nowhere."""
    start, end = cut
    clock, theirs = [pts * other.base for pts, _ in other.rows], other.seconds(begins[1])
    free = [
        place in other.hidden
        or (start is not None and time < start + _AT_CUT_S)
        or (end is not None and time >= end - _AT_CUT_S)
        for place, time in enumerate(clock)
    ]
    timed, place = stream.kind != "video" or len(stream.rows) > 1, 0  # a cover has no time
    for number, (time, (_, md5)) in enumerate(zip(stream.seconds(begins[0]), stream.rows, strict=True)):

        def late(k: int, time: float = time) -> float:
            """Seconds by which a packet comes late; what is on screen where a cut begins may begin there."""
            return min((time - theirs[k], time - max(theirs[k], 0.0)), key=abs) if timed else 0.0

        while place < len(theirs) and free[place] and (other.rows[place][1] != md5 or abs(late(place)) > _MOVED_S):
            place += 1
        if place == len(theirs) or other.rows[place][1] != md5:
            return f"packet {number} is not that of the input"
        if abs(late(place)) > _MOVED_S:
            return f"packet {number} comes {abs(late(place)):.3f} s {'later' if late(place) > 0 else 'earlier'}"
        place += 1
    missing = free[place:].count(False)
    return f"the last {missing} packets of the input are missing" if missing else ""


class _Reader:
    """Takes the packets of one stream."""

    def __init__(self, stream: Stream) -> None:
        self.found = PacketHashes(stream.type, codec_of(stream), time_base_of(stream), index=stream.index)
        self._clock, self._waiting, self._begin = PcmClock.of(stream), bytearray(), Fraction(0)
        if self._clock is not None:
            context: Any = stream.codec_context
            self.found.pieces = True
            self.found.codec += f", {context.sample_rate} Hz, {context.channels} channels"

    def push(self, packet: av.Packet[Stream]) -> None:
        """Takes the next packet."""
        codec, rows, data = self.found.codec, self.found.rows, bytes(packet)
        if self._clock is not None:
            self._push_samples(self._clock, packet, data)
            return
        md5 = _md5(data[adts_config(data)[1] :] if codec == "aac" else data)
        if codec == "mov_text" and (data == b"\0\0" or (rows and rows[-1][1] == md5)):
            return
        if packet.is_discard:
            self.found.hidden.add(len(rows))
        rows.append((packet.pts or 0, md5))

    def flush(self) -> None:
        """Takes what is left."""
        if self._clock is not None and self._waiting:
            self._give(self._clock, len(self._waiting))

    def _push_samples(self, clock: PcmClock, packet: av.Packet[Stream], data: bytes) -> None:
        """Cuts PCM into pieces of equal length, as each container cuts its packets at other places."""
        if packet.is_discard:  # an edit list cuts it away, and no later packet needs it
            return
        if clock.end is None:
            self._begin = Fraction(packet.pts or 0)
        self.found.gaps |= clock.push(packet.pts, len(data)) != 0
        self._waiting += data
        while len(self._waiting) >= _PIECE * clock.sample:
            self._give(clock, _PIECE * clock.sample)

    def _give(self, clock: PcmClock, size: int) -> None:
        self.found.rows.append((round(self._begin), _md5(bytes(self._waiting[:size]))))
        del self._waiting[:size]
        self._begin += size // clock.sample * clock.tick


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
