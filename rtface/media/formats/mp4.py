"""The boxes of MP4 and MOV files (ISO 14496-12), as far as a file has to be looked at or mended without FFmpeg."""

from __future__ import annotations

import struct
from collections.abc import Collection, Generator, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from typing import BinaryIO

from rtface.media.formats.color import HdrMetadata

_STEP = 1 << 20


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


def read_index(file: BinaryIO) -> tuple[int, bytearray]:
    """Reads the first index (moov), and where it begins; nothing where there is none."""
    at = 0
    for kind, length in boxes(file):
        if kind == b"moov":
            file.seek(at)
            return at, bytearray(file.read(length))
        at += length
    return at, bytearray()


@contextmanager
def changed_index(file: BinaryIO) -> Generator[bytearray]:
    """Reads the first index (moov) to be changed, and writes it back."""
    at, moov = read_index(file)
    yield moov
    file.seek(at)
    file.write(moov)


def cut_to_whole_fragments(file: BinaryIO) -> None:
    """Cuts a fragmented MP4 behind its last whole fragment, where it has one."""
    size, at, whole = file.seek(0, 2), 0, 0
    for kind, length in boxes(file):
        at += length
        if at <= size and kind == b"mdat":
            whole = at
    if at > size and whole:
        file.truncate(whole)


_ENTRY = 78  # bytes of a visual sample entry in front of its boxes
_TO_ENTRIES = (b"mdia", b"minf", b"stbl", b"stsd")


def _picture_entry(moov: bytearray, number: int) -> tuple[list[Span], Span] | None:
    """The boxes around the first sample entry of a video track of a film of FFmpeg's, and its body, which begins with
    the fixed fields."""
    videos = [track for track in inner_boxes(moov, 8, len(moov), b"trak") if kind_of_track(moov, track) == b"vide"]
    if number >= len(videos):
        return None
    inner = [find_box(moov, *videos[number], *_TO_ENTRIES[:depth]) or (0, 0) for depth in range(1, 5)]
    start = inner[-1][0] + 8
    return [(8, len(moov)), videos[number], *inner], (start + 8, start + struct.unpack_from(">I", moov, start)[0])


def hides_borders(file: BinaryIO, number: int) -> bool:
    """Tells whether a clean aperture hides a part of a video track's frames."""
    _, moov = read_index(file)
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
    at, moov = read_index(file)
    added, room = _light(hdr) + boxes, at + len(moov) == file.seek(0, 2)
    found, width = _picture_entry(moov, number), round(size[0] * aspect * 65536) if aspect else 0
    track = find_box(moov, *found[0][1], b"tkhd") if found else None
    if track and 0 < width < 1 << 32:
        struct.pack_into(">I", moov, track[1] - 8, width)
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


def note_tracks(file: BinaryIO, languages: Sequence[str], off: Collection[int]) -> None:
    """Notes the language of each track, in letters, and which are `off` until somebody chooses them.

    FFmpeg's writer of MOV has numbers for some languages only, and none for codes such as deu and swe; that of both
    containers enables the first track of a kind where none is on by default.
    """
    with changed_index(file) as moov:
        tracks = zip(inner_boxes(moov, 8, len(moov), b"trak"), languages, strict=False)
        for number, (track, language) in enumerate(tracks):
            if number in off and (head := find_box(moov, *track, b"tkhd")):
                moov[head[0] + 3] &= 0xFE  # track_enabled
            media = find_box(moov, *track, b"mdia", b"mdhd")
            if media and len(language) == 3 and language.isascii() and language.islower():
                first, second, third = (ord(letter) - 0x60 for letter in language)
                place = clock_of(moov, media)[2]  # of the duration, behind which the language stands
                struct.pack_into(">H", moov, place[0] + struct.calcsize(place[1]), first << 10 | second << 5 | third)


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


def inner_boxes(data: bytearray, start: int, end: int, wanted: bytes = b"") -> Iterator[Span]:
    """The boxes of a type, or all, directly below a body; ends at the first that makes no sense."""
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, start)
        if size < 8 or start + size > end:
            return
        if wanted in (b"", kind):
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


def kind_of_track(moov: bytearray, track: Span) -> bytes:
    """Names the kind of a track: vide, soun …; nothing where it says none."""
    handler = find_box(moov, *track, b"mdia", b"hdlr")
    return bytes(moov[handler[0] + 8 : handler[0] + 12]) if handler else b""


def clock_of(data: bytearray, head: Span) -> tuple[int, int, Field]:
    """Reads ticks a second, duration and the duration's field of an mvhd or mdhd box."""
    wide = data[head[0]] == 1
    at = head[0] + (20 if wide else 12)
    field = (at + 4, ">Q" if wide else ">I")
    return struct.unpack_from(">I", data, at)[0], struct.unpack_from(field[1], data, field[0])[0], field
