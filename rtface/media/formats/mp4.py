"""Reads and edits the boxes of MP4 and MOV files without FFmpeg. ISO 14496-12."""

from __future__ import annotations

import struct
from collections.abc import Collection, Generator, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from typing import BinaryIO

from rtface.media.formats.color import HdrMetadata

_STEP_BYTES = 1 << 20


def boxes(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Yields type and size of top-level boxes. The last may extend to the file's end. Stops at an invalid box."""
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


def find_bytes(file: BinaryIO, pattern: bytes, at: int, size: int) -> int:
    """Returns the next offset of `pattern`, or `size` if there is none."""
    while at < size:
        file.seek(at)
        if (offset := file.read(_STEP_BYTES).find(pattern)) >= 0:
            return at + offset
        at += _STEP_BYTES - len(pattern) + 1
    return size


def read_index(file: BinaryIO) -> tuple[int, bytearray]:
    """Returns the offset and bytes of the first index (moov). The bytes are empty if there is none."""
    at = 0
    for kind, length in boxes(file):
        if kind == b"moov":
            file.seek(at)
            return at, bytearray(file.read(length))
        at += length
    return at, bytearray()


@contextmanager
def changed_index(file: BinaryIO) -> Generator[bytearray]:
    """Yields the first index (moov) for editing, and writes it back."""
    at, moov = read_index(file)
    yield moov
    file.seek(at)
    file.write(moov)


def cut_to_whole_fragments(file: BinaryIO) -> None:
    """Truncates a fragmented MP4 after its last whole fragment, if any."""
    size, at, last_end = file.seek(0, 2), 0, 0
    for kind, length in boxes(file):
        at += length
        if at <= size and kind == b"mdat":
            last_end = at
    if at > size and last_end:
        file.truncate(last_end)


_ENTRY_BYTES = 78  # bytes of a visual sample entry before its boxes
_TO_ENTRIES = (b"mdia", b"minf", b"stbl", b"stsd")


def _picture_entry(moov: bytearray, number: int) -> tuple[list[Span], Span] | None:
    """Locates a video track's first sample entry in a film from FFmpeg. Returns the boxes that contain the entry, and
    the entry's body, which starts with the fixed fields."""
    videos = [track for track in inner_boxes(moov, 8, len(moov), b"trak") if kind_of_track(moov, track) == b"vide"]
    if number >= len(videos):
        return None
    parents = [find_box(moov, *videos[number], *_TO_ENTRIES[:depth]) or (0, 0) for depth in range(1, 5)]
    start = parents[-1][0] + 8
    return [(8, len(moov)), videos[number], *parents], (start + 8, start + struct.unpack_from(">I", moov, start)[0])


def hides_borders(file: BinaryIO, number: int) -> bool:
    """Tells whether a clean aperture crops a video track's frames."""
    _, moov = read_index(file)
    if (entry := _picture_entry(moov, number)) is None:
        return False
    first, end = entry[1]
    if not (clap := find_box(moov, first + _ENTRY_BYTES, end, b"clap")) or clap[1] - clap[0] < 16:
        return False
    crop_width, width_divisor, crop_height, height_divisor = struct.unpack_from(">4I", moov, clap[0])
    width, height = struct.unpack_from(">HH", moov, first + 24)
    return crop_width < width * width_divisor or crop_height < height * height_divisor


def note_picture(
    file: BinaryIO,
    number: int,
    size: tuple[int, int],
    *,
    aspect: Fraction | None = None,
    hdr: HdrMetadata | None = None,
    boxes: bytes = b"",
) -> None:
    """Writes a video track's shape and boxes into a finished film's index. FFmpeg must have written the film. An index
    that is not at the end of the file cannot grow, so it only gets the shape.

    Args:
        file: the film.
        number: index of the track among the video tracks.
        size: width and height of a frame, in samples.
        aspect: aspect ratio of a sample. It sets the width of the track, for players that ignore the pasp box.
        hdr: metadata of the mastering display and light level.
        boxes: additional boxes for the track's sample description.
    """
    at, moov = read_index(file)
    new_boxes, can_grow = _hdr_boxes(hdr) + boxes, at + len(moov) == file.seek(0, 2)
    entry, width = _picture_entry(moov, number), round(size[0] * aspect * 65536) if aspect else 0
    track = find_box(moov, *entry[0][1], b"tkhd") if entry else None
    if track and 0 < width < 1 << 32:
        struct.pack_into(">I", moov, track[1] - 8, width)
    if entry and new_boxes and can_grow:
        parents, (start, end) = entry
        point = start + _ENTRY_BYTES
        while point + 8 <= end and 8 <= (size_of := struct.unpack_from(">I", moov, point)[0]) <= end - point:
            point += size_of
        moov[point:point] = new_boxes
        for box, _ in (*parents, (start, end)):
            struct.pack_into(">I", moov, box - 8, struct.unpack_from(">I", moov, box - 8)[0] + len(new_boxes))
    file.seek(at)
    file.write(moov)


def note_tracks(file: BinaryIO, languages: Sequence[str], off: Collection[int]) -> None:
    """Writes the language of each track, and disables the tracks in `off`. Players show disabled ones only on request.

    FFmpeg's MOV writer omits languages for which it has no number, such as deu and swe. FFmpeg's writers enable
    the first track of a kind if no track of this kind is a default.
    """
    with changed_index(file) as moov:
        tracks = zip(inner_boxes(moov, 8, len(moov), b"trak"), languages, strict=False)
        for number, (track, language) in enumerate(tracks):
            if number in off and (head := find_box(moov, *track, b"tkhd")):
                moov[head[0] + 3] &= 0xFE  # track_enabled
            media = find_box(moov, *track, b"mdia", b"mdhd")
            if media and len(language) == 3 and language.isascii() and language.islower():
                first, second, third = (ord(letter) - 0x60 for letter in language)
                duration = clock_of(moov, media)[2]  # field of the duration; the language follows it
                struct.pack_into(
                    ">H", moov, duration[0] + struct.calcsize(duration[1]), first << 10 | second << 5 | third
                )


def _hdr_boxes(hdr: HdrMetadata | None) -> bytes:
    """Returns boxes of mastering display and light level. The primaries have HEVC's order: green, blue, red."""
    boxes = b""
    if hdr and hdr.primaries and hdr.luminance:
        rx, ry, gx, gy, bx, by, wx, wy = (round(value * 50_000) for value in hdr.primaries)
        dark, bright = (round(value * 10_000) for value in hdr.luminance)
        boxes += box(b"mdcv", struct.pack(">8H2I", gx, gy, bx, by, rx, ry, wx, wy, bright, dark))
    if hdr and hdr.light:
        boxes += box(b"clli", struct.pack(">2H", *(min(value, 0xFFFF) for value in hdr.light)))
    return boxes


def box(kind: bytes, body: bytes) -> bytes:
    """Returns a box with its type and body."""
    return struct.pack(">I4s", 8 + len(body), kind) + body


Span = tuple[int, int]
"""A box's body: start and end."""


def inner_boxes(data: bytearray, start: int, end: int, name: bytes = b"") -> Iterator[Span]:
    """Yields the boxes directly inside a body, all or of type `name`. Stops at the first invalid box."""
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, start)
        if size < 8 or start + size > end:
            return
        if name in (b"", kind):
            yield start + 8, start + size
        start += size


def find_box(data: bytearray, start: int, end: int, *names: bytes) -> Span | None:
    """Returns the first box at the path ``names`` inside a body."""
    for name in names:
        span = next(inner_boxes(data, start, end, name), None)
        if span is None:
            return None
        start, end = span
    return start, end


Field = tuple[int, str]
"""Offset and `struct` format of a number, which has 32 or 64 bits depending on the box's version."""


def kind_of_track(moov: bytearray, track: Span) -> bytes:
    """Returns the handler type of a track: vide, soun …; b"" if missing."""
    handler = find_box(moov, *track, b"mdia", b"hdlr")
    return bytes(moov[handler[0] + 8 : handler[0] + 12]) if handler else b""


def clock_of(data: bytearray, head: Span) -> tuple[int, int, Field]:
    """Reads mvhd or mdhd: ticks per second, duration, field of the duration."""
    is_64_bit = data[head[0]] == 1
    at = head[0] + (20 if is_64_bit else 12)
    field = (at + 4, ">Q" if is_64_bit else ">I")
    return struct.unpack_from(">I", data, at)[0], struct.unpack_from(field[1], data, field[0])[0], field
