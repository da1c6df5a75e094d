"""The boxes of MP4 and MOV files (ISO 14496-12), as far as a file has to be looked at or mended without FFmpeg."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO

import numpy as np

from rtface.media.formats.color import HdrMetadata

_STEP = 1 << 20
_MOST_SAMPLES = 1 << 24  # of a track; a table of more is damaged


def boxes(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Top-level boxes of an ISO base media file: type and size, also of one that is open to the end of the file; ends
    at the first that makes no sense."""
    at = 0
    while True:
        file.seek(at)
        head = file.read(16)
        if len(head) < 8:
            return
        size, kind = struct.unpack(">I4s", head[:8])
        if size == 1 and len(head) == 16:
            size = struct.unpack(">Q", head[8:])[0]
        size = size or file.seek(0, 2) - at
        if size < 8 or not kind.rstrip(b" ").isalnum():
            return
        yield kind, size
        at += size


def find_bytes(file: BinaryIO, wanted: bytes, at: int, size: int) -> int:
    """Where bytes come next in a file of `size` bytes, or its end."""
    while at < size:
        file.seek(at)
        if (found := file.read(_STEP).find(wanted)) >= 0:
            return at + found
        at += _STEP - len(wanted) + 1
    return size


def _moov(file: BinaryIO) -> tuple[int, bytes]:
    """Where the first index (moov) begins, and all of it; nothing where there is none."""
    at = 0
    for kind, length in boxes(file):
        if kind == b"moov":
            file.seek(at)
            return at, file.read(length)
        at += length
    return at, b""


def cut_to_whole_fragments(file: BinaryIO) -> None:
    """Cuts a fragmented MP4 behind its last whole fragment, where it has one."""
    size, at, whole = file.seek(0, 2), 0, 0
    for kind, length in boxes(file):
        at += length
        if at <= size and kind == b"mdat":
            whole = at
    if at > size and whole:
        file.truncate(whole)


def reach_last_frame(file: BinaryIO) -> None:
    """Lengthens the edits of a finished film that end before its last frame does.

    FFmpeg's fragment writer takes a film's end from the packet that comes next when it closes a fragment, in coding
    order. Where a frame that is shown later was coded earlier (B-frames), the edit list ends one frame too soon,
    and players leave the film's last frame out.
    """
    at, before = _moov(file)
    moov = bytearray(before)
    film = find_box(moov, 8, len(moov), b"mvhd")
    if film is None:
        return
    scale, longest, place = _clock(moov, film)
    for track in inner_boxes(moov, 8, len(moov), b"trak"):
        if _kind(moov, track) == b"vide":  # sound may be meant to end early
            longest = max(longest, _lengthen(moov, track, scale))
    _put_uint(moov, place, longest)
    if bytes(moov) != before:
        file.seek(at)
        file.write(moov)


_ENTRY = 78  # bytes of a visual sample entry in front of its boxes
_TO_ENTRIES = (b"mdia", b"minf", b"stbl", b"stsd")


def _picture_entry(moov: bytearray, number: int) -> tuple[list[Span], Span] | None:
    """The boxes around the first sample entry of a video track of a film of FFmpeg's, and its body, which begins with
    the fixed fields."""
    videos = [track for track in inner_boxes(moov, 8, len(moov), b"trak") if _kind(moov, track) == b"vide"]
    if number >= len(videos):
        return None
    inner = [find_box(moov, *videos[number], *_TO_ENTRIES[:depth]) or (0, 0) for depth in range(1, 5)]
    start = inner[-1][0] + 8
    return [(8, len(moov)), videos[number], *inner], (start + 8, start + struct.unpack_from(">I", moov, start)[0])


def _edits(moov: bytearray, track: Span) -> list[tuple[int, int, int]]:
    """Of each edit of a track: its length in the film's ticks, where it begins in the media's, and its speed."""
    edits = find_box(moov, *track, b"edts", b"elst")
    if edits is None or edits[1] - edits[0] < 8:
        return []
    step, form = (20, ">QqI") if moov[edits[0]] == 1 else (12, ">IiI")
    return [struct.unpack_from(form, moov, at) for at in range(edits[0] + 8, edits[1] - step + 1, step)]


_PCM_PACKET = 1024  # samples, of each chunk apart: as FFmpeg gives sound whose samples have no length


@dataclass(frozen=True, slots=True)
class EditedTrack:
    """Holds a track that an edit list shows in parts, in its ticks.

    Attributes:
        parts: of each where it begins in the film, where in the track (-1: nothing is shown), and how long it is.
        borders: where its packets begin, and the last one ends.
        shown: when the packets are shown.
    """

    parts: list[tuple[int, int, int]]
    borders: np.ndarray
    shown: np.ndarray


def edited_tracks(file: BinaryIO) -> dict[int, EditedTrack]:
    """Reads the edit lists that FFmpeg times otherwise, by number of the track; none of a film in fragments.

    It is right about pictures and sound in one part, as of nearly every film, whose tables are not read.
    """
    moov = bytearray(_moov(file)[1])
    film, tracks = find_box(moov, 8, len(moov), b"mvhd"), dict[int, EditedTrack]()
    for track in inner_boxes(moov, 8, len(moov), b"trak"):
        head, media = find_box(moov, *track, b"tkhd"), find_box(moov, *track, b"mdia", b"mdhd")
        tables, edits = find_box(moov, *track, b"mdia", b"minf", b"stbl"), _edits(moov, track)
        if not (film and head and media and tables and edits and (scale := _clock(moov, film)[0])):
            continue
        if len(edits) == 1 and _kind(moov, track) in (b"vide", b"soun"):
            continue
        borders, at, parts = _borders(moov, tables), 0, list[tuple[int, int, int]]()
        for length, start, _ in edits:
            ticks = (2 * length * _clock(moov, media)[0] + scale) // (2 * scale)
            parts.append((at, start, ticks))
            at += ticks
        if borders.size > 1:
            number = struct.unpack_from(">I", moov, head[0] + (20 if moov[head[0]] == 1 else 12))[0]
            tracks[number] = EditedTrack(parts, borders, _shown(moov, tables, borders))
    return tracks


def _shown(moov: bytearray, tables: Span, borders: np.ndarray) -> np.ndarray:
    """When the packets of a track are shown, by where they begin."""
    shown, shift = borders[:-1].copy(), find_box(moov, *tables, b"ctts")
    if shift is not None:
        offsets = _runs(moov, shift, ">i4")[: shown.size]
        shown[: offsets.size] += offsets
    return shown


def _borders(moov: bytearray, tables: Span) -> np.ndarray:
    """Where the packets of a track begin, and the last one ends; nothing where tables are missing."""
    times, runs = (find_box(moov, *tables, name) for name in (b"stts", b"stsc"))
    places = find_box(moov, *tables, b"stco") or find_box(moov, *tables, b"co64")
    if not (times and runs and places):
        return np.zeros(0, np.int64)
    count, _, length = struct.unpack_from(">3I", moov, times[0] + 4)
    if (count, length) != (1, 1):
        return np.append(0, np.cumsum(_runs(moov, times, ">u4")))
    table = read_table(moov, runs, 3)
    chunks = np.append(table[:, 0] - 1, struct.unpack_from(">I", moov, places[0] + 4)[0])
    sizes = np.repeat(table[:, 1], np.diff(chunks).clip(0))
    begins = np.cumsum(sizes) - sizes
    packets = [np.arange(begin, begin + size, _PCM_PACKET) for begin, size in zip(begins, sizes, strict=True)]
    return np.concatenate([*packets, [sizes.sum()]])


def hides_borders(file: BinaryIO, number: int) -> bool:
    """Tells whether a clean aperture hides a part of a video track's frames."""
    moov = bytearray(_moov(file)[1])
    if (found := _picture_entry(moov, number)) is None:
        return False
    first, end = found[1]
    if not (clap := find_box(moov, first + _ENTRY, end, b"clap")) or clap[1] - clap[0] < 16:
        return False
    wide, wide_parts, high, high_parts = struct.unpack_from(">4I", moov, clap[0])
    width, height = struct.unpack_from(">HH", moov, first + 24)
    return wide < width * wide_parts or high < height * high_parts


def note_picture(
    file: BinaryIO,
    number: int,
    size: tuple[int, int],
    *,
    aspect: Fraction | None = None,
    hdr: HdrMetadata | None = None,
    boxes: bytes = b"",
) -> None:
    """Notes in a finished film of FFmpeg's what its index does not say of a video track; only the shape where the index
    is not the end of the file, so that it cannot grow.

    Args:
        file: the film.
        number: of the track among the video tracks, from 0 on.
        size: of a frame, in samples.
        aspect: of a sample: players that do not look at it (pasp) show the film as wide as the track says.
        hdr: mastering display and light level.
        boxes: further ones of the picture's description.
    """
    at, before = _moov(file)
    moov, added = bytearray(before), _light(hdr) + boxes
    found, width = _picture_entry(moov, number), round(size[0] * aspect * 65536) if aspect else 0
    track = find_box(moov, *found[0][1], b"tkhd") if found else None
    if track and 0 < width < 1 << 32:
        struct.pack_into(">I", moov, track[1] - 8, width)
    room = found is not None and at + len(before) == file.seek(0, 2)
    if found and added and room:
        around, (start, end) = found
        place = start + _ENTRY
        while place + 8 <= end and 8 <= (size_of := struct.unpack_from(">I", moov, place)[0]) <= end - place:
            place += size_of
        moov[place:place] = added
        for box, _ in (*around, (start, end)):
            struct.pack_into(">I", moov, box - 8, struct.unpack_from(">I", moov, box - 8)[0] + len(added))
    file.seek(at)
    file.write(moov)


def note_languages(file: BinaryIO, languages: Sequence[str]) -> None:
    """Notes the language of each track, in letters.

    FFmpeg's writer of MOV has numbers for some languages only, and none for codes such as deu and swe.
    """
    at, before = _moov(file)
    moov = bytearray(before)
    for track, language in zip(inner_boxes(moov, 8, len(moov), b"trak"), languages, strict=False):
        media = find_box(moov, *track, b"mdia", b"mdhd")
        if media and len(language) == 3 and language.isascii() and language.islower():
            first, second, third = (ord(letter) - 0x60 for letter in language)
            place = _clock(moov, media)[2]  # of the duration, behind which the language stands
            struct.pack_into(">H", moov, place[0] + struct.calcsize(place[1]), first << 10 | second << 5 | third)
    file.seek(at)
    file.write(moov)


def _light(hdr: HdrMetadata | None) -> bytes:
    """Mastering display (green, blue, red as in HEVC) and light level."""
    boxes = b""
    if hdr and hdr.primaries and hdr.luminance:
        rx, ry, gx, gy, bx, by, wx, wy = (round(value * 50_000) for value in hdr.primaries)
        dark, bright = (round(value * 10_000) for value in hdr.luminance)
        boxes += box(b"mdcv", struct.pack(">8H2I", gx, gy, bx, by, rx, ry, wx, wy, bright, dark))
    if hdr and hdr.light:
        boxes += box(b"clli", struct.pack(">2H", *(min(value, 0xFFFF) for value in hdr.light)))
    return boxes


def box(kind: bytes, body: bytes) -> bytes:
    """A box with its body."""
    return struct.pack(">I4s", 8 + len(body), kind) + body


Span = tuple[int, int]
"""A box's body: where it begins and ends."""


def inner_boxes(data: bytearray, start: int, end: int, wanted: bytes) -> Iterator[Span]:
    """The boxes of a type directly below a body; ends at the first that makes no sense."""
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, start)
        if size < 8 or start + size > end:
            return
        if kind == wanted:
            yield start + 8, start + size
        start += size


def find_box(data: bytearray, start: int, end: int, *names: bytes) -> Span | None:
    """The first box of the path ``names`` below a body."""
    for name in names:
        found = next(inner_boxes(data, start, end, name), None)
        if found is None:
            return None
        start, end = found
    return start, end


Field = tuple[int, str]
"""Where a number is, and how it is packed (32 or 64 bit by the box's version)."""


def _kind(moov: bytearray, track: Span) -> bytes:
    """Names the kind of a track: vide, soun …; nothing where it says none."""
    handler = find_box(moov, *track, b"mdia", b"hdlr")
    return bytes(moov[handler[0] + 8 : handler[0] + 12]) if handler else b""


def _clock(data: bytearray, head: Span) -> tuple[int, int, Field]:
    """Ticks a second, duration and the duration's field of an mvhd or mdhd box."""
    wide = data[head[0]] == 1
    at = head[0] + (20 if wide else 12)
    field = (at + 4, ">Q" if wide else ">I")
    return struct.unpack_from(">I", data, at)[0], struct.unpack_from(field[1], data, field[0])[0], field


def _shown_for(data: bytearray, head: Span) -> Field:
    """The duration of a tkhd box."""
    return (head[0] + 28, ">Q") if data[head[0]] == 1 else (head[0] + 20, ">I")


def _put_uint(data: bytearray, field: Field, value: int) -> None:
    if value < 1 << (32 if field[1] == ">I" else 64):
        struct.pack_into(field[1], data, field[0], value)


def _lengthen(data: bytearray, track: Span, scale: int) -> int:
    """Lets a track's last edit reach the end of its last sample; returns the track's duration, in the film's ticks."""
    head, edits = find_box(data, *track, b"tkhd"), find_box(data, *track, b"edts", b"elst")
    media = find_box(data, *track, b"mdia", b"mdhd")
    if head is None or edits is None or media is None:
        return 0
    end, rate, entries = _last_moment(data, track), _clock(data, media)[0], _edits(data, track)
    if not entries or not rate:
        return 0
    duration, start, _ = entries[-1]
    total = sum(length for length, _, _ in entries)
    if end is None or start < 0 or not duration:
        return total
    needed = -(-(end - start) * scale // rate)
    if needed <= duration:
        return total
    total += needed - duration
    step, form = (20, ">Q") if data[edits[0]] == 1 else (12, ">I")
    _put_uint(data, (edits[0] + 8 + (len(entries) - 1) * step, form), needed)
    _put_uint(data, _shown_for(data, head), total)
    return total


def _last_moment(data: bytearray, track: Span) -> int | None:
    """When the sample that is shown last ends, in the media's ticks; None without samples."""
    tables = find_box(data, *track, b"mdia", b"minf", b"stbl")
    if not tables or (borders := _borders(data, tables)).size < 2:
        return None
    return int((_shown(data, tables, borders) + np.diff(borders)).max())


def read_table(data: bytearray, span: Span, width: int, form: str = ">u4") -> np.ndarray:
    """Reads a table behind its count, int64 [entries, width]; raises ValueError where its box is too short."""
    count = struct.unpack_from(">I", data, span[0] + 4)[0] * width
    if span[0] + 8 + count * np.dtype(form).itemsize > span[1]:
        raise ValueError("a table that does not fit into its box")
    return np.frombuffer(data, form, count, span[0] + 8).astype(np.int64).reshape(-1, width)


def _runs(data: bytearray, span: Span, form: str) -> np.ndarray:
    """A table of (count, value) runs, written out: int64."""
    pairs = read_table(data, span, 2, form)
    if pairs[:, 0].sum() > _MOST_SAMPLES:
        raise ValueError("a table of more samples than a film has")
    return np.repeat(pairs[:, 1], pairs[:, 0])
