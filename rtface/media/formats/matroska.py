"""Reads and edits Matroska and WebM files without FFmpeg. RFC 8794, RFC 9559."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from typing import BinaryIO

from rtface.media.formats.color import HdrMetadata

SEGMENT, CRC, UNKNOWN = 0x18538067, 0xBF, -1
_VOID, _SEEK_HEAD, _SEEK, _SEEK_ID, _SEEK_POSITION = 0xEC, 0x114D9B74, 0x4DBB, 0x53AB, 0x53AC
_TRACKS, _TRACK, _TRACK_TYPE, _VIDEO, _BCP47 = 0x1654AE6B, 0xAE, 0x83, 0xE0, 0x22B59D
_WIDTH, _HEIGHT, _UNIT = 0x54B0, 0x54BA, 0x54B2  # DisplayWidth, DisplayHeight, DisplayUnit
_STEREO = 0x53B8
_EYE_WIDTHS = {**dict.fromkeys((1, 8, 9, 11), Fraction(1, 2)), **dict.fromkeys((2, 3, 6, 7), Fraction(2))}
"""Displayed width of one eye's sample, relative to a sample of the whole picture, keyed by stereo mode."""
_MAX_OFFSET = 1 << 62  # the largest offset to seek to
_CROP = 0x54CC, 0x54BB, 0x54DD, 0x54AA  # hidden columns and rows: left, top, right, bottom
_CLUSTER, _MAX_HEADER_BYTES = 0x1F43B675, 1 << 24  # the element with frames; maximum size of Tracks
_RATIO = 3  # DisplayUnit of a display size that is only an aspect ratio
_COLOUR, _MASTERING, _LIGHT = 0x55B0, 0x55D0, (0x55BC, 0x55BD)
_PRIMARIES, _LUMINANCE = range(0x55D1, 0x55D9), (0x55DA, 0x55D9)  # in the order of HdrMetadata: dark before bright


def hides_borders(data: bytes, number: int) -> bool:
    """Tells whether the Tracks element crops a video track's frames."""
    video = next((_child(data, body, end, _VIDEO) for _, body, end in islice(_videos(data, 0), number, None)), None)
    return video is not None and any(_read_uint(data, *video, kind) for kind in _CROP)


def regional_languages(data: bytes) -> list[str]:
    """Lists languages in Tracks that have a region or script: BCP 47, for example zh-Hant."""
    spans = [_child(data, body, end, _BCP47) for kind, _, body, end in elements(data, 0, len(data)) if kind == _TRACK]
    tags = [data[slice(*span)].rstrip(b"\0").decode("ascii", "replace") for span in spans if span]
    return [tag for tag in dict.fromkeys(tags) if "-" in tag]


def read_tracks(file: BinaryIO) -> bytes:
    """Reads the body of the Tracks element. Returns b"" if none precedes the frames."""
    origin = next((body for kind, body, _ in level(file, 0) if kind == SEGMENT), _MAX_OFFSET)
    for kind, body, size in level(file, origin):
        if kind == _TRACKS and 0 < size < _MAX_HEADER_BYTES:
            file.seek(body)
            return file.read(size)
        if kind in (_TRACKS, _CLUSTER):
            break
    return b""


def note_picture(
    file: BinaryIO,
    number: int,
    size: tuple[int, int],
    aspect: Fraction | None,
    *,
    hdr: HdrMetadata | None = None,
    projection: bytes = b"",
    webm: bool = False,
) -> bool:
    """Writes a video track's shape, HDR and projection into a finished film. FFmpeg must have written the film. Nothing
    after the header moves, because Tracks grows into a Void element before it. If the Void element is too small, the
    HDR metadata is left out, and False is returned.

    Args:
        file: the film.
        number: index of the track among the video tracks.
        size: width and height of a frame, in samples.
        aspect: aspect ratio of a sample; None if it is unknown.
        hdr: metadata of the mastering display and light level.
        projection: the Projection element; empty if there is none.
        webm: whether the film is WebM, which stores display sizes in pixels only.
    """
    header_elements = list[tuple[int, int, int]]()  # ID, start and end of elements up to Tracks
    at = origin = next((body for kind, body, _ in level(file, 0) if kind == SEGMENT), 0)
    for kind, body, length in level(file, origin):
        header_elements.append((kind, at, at := body + length))
        if kind == _TRACKS:
            break
    if not header_elements or header_elements[-1][0] != _TRACKS:
        return True
    file.seek(origin)
    data = file.read(at - origin)
    parts = [(kind, data[start - origin : end - origin]) for kind, start, end in header_elements]
    tracks = _with_video(parts[-1][1], number, size, aspect, hdr=hdr, projection=projection, webm=webm)
    voids = [k for k, (kind, _) in enumerate(parts) if kind == _VOID]
    free = len(parts[voids[0]][1]) + len(parts[-1][1]) - len(tracks) if voids else 0
    if tracks == parts[-1][1]:
        return True
    if free == 1:
        free, tracks = 0, longer(tracks)
    if not voids or free < 0:
        if hdr is not None:
            note_picture(file, number, size, aspect, projection=projection, webm=webm)
        return False
    parts[-1] = _TRACKS, tracks
    parts[voids[0]] = _VOID, void(free) if free else b""
    positions, at = dict[int, int](), 0
    for kind, part in parts:
        positions[kind], at = at, at + len(part)
    header = b"".join(_update_seek_head(part, positions) if kind == _SEEK_HEAD else part for kind, part in parts)
    file.seek(origin)
    file.write(header)
    return True


def _videos(data: bytes, start: int) -> Iterator[tuple[int, int, int]]:
    """Yields the video tracks of Tracks: start, body start, end."""
    for kind, element_start, body, end in elements(data, start, len(data)):
        if kind == _TRACK and _read_uint(data, body, end, _TRACK_TYPE) == 1:
            yield element_start, body, end


def _child(data: bytes, start: int, end: int, element_id: int) -> tuple[int, int] | None:
    return next(((body, stop) for kind, _, body, stop in elements(data, start, end) if kind == element_id), None)


def _read_uint(data: bytes, start: int, end: int, element_id: int) -> int:
    span = _child(data, start, end, element_id)
    return int.from_bytes(data[slice(*span)], "big") if span else 0


def _uint(kind: int, value: int) -> bytes:
    return element(kind, value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big"))


def _display_size(size: tuple[int, int], aspect: Fraction | None, *, webm: bool) -> bytes:
    """Returns the display size elements of a video track."""
    if aspect is None:
        return b"" if webm else _uint(_UNIT, 4)
    if aspect == 1:
        return b""
    width = size[0] * aspect
    if webm or width.denominator == 1:
        return _uint(_WIDTH, round(width)) + _uint(_HEIGHT, size[1])
    ratio = width / size[1]
    return _uint(_WIDTH, ratio.numerator) + _uint(_HEIGHT, ratio.denominator) + _uint(_UNIT, _RATIO)


def _with_video(
    tracks: bytes,
    number: int,
    size: tuple[int, int],
    aspect: Fraction | None,
    *,
    hdr: HdrMetadata | None,
    projection: bytes,
    webm: bool,
) -> bytes:
    """Returns Tracks with new elements in one video track. If the track gets shorter, a Void element fills it."""
    _, body, _ = head(tracks, 0) or (0, 0, 0)
    videos = list(_videos(tracks, body))
    if number >= len(videos):
        return tracks
    start, inner, stop = videos[number]
    track = [(kind, tracks[b:e], tracks[s:e]) for kind, s, b, e in elements(tracks, inner, stop)]
    new = b""
    for kind, content, old in track:
        if kind == _VIDEO:
            shape = aspect and aspect * _EYE_WIDTHS.get(_read_uint(content, 0, len(content), _STEREO), 1)
            display = _display_size(size, shape, webm=webm)
            unchanged = b"".join(
                content[s:e]
                for k, s, _, e in elements(content, 0, len(content))
                if k not in (_WIDTH, _HEIGHT, _UNIT, _VOID, _COLOUR)
            )
            colour = _child(content, 0, len(content), _COLOUR)
            tags = (content[slice(*colour)] if colour else b"") + (_hdr(hdr) if hdr else b"")
            new += element(_VIDEO, unchanged + display + projection + (element(_COLOUR, tags) if tags else b""))
        elif kind != _VOID:
            new += old
    spare = stop - inner - len(new)
    new += void(spare) if spare > 1 else b""
    new = element(_TRACK, new, inner - start - 1)
    parts = [(kind, tracks[s:e]) for kind, s, _, e in elements(tracks, body, len(tracks))]
    data = b"".join(new if part == tracks[start:stop] else part for kind, part in parts if kind != CRC)
    return element(_TRACKS, (checksum(data) if parts[0][0] == CRC else b"") + data, body - 4)


def _hdr(hdr: HdrMetadata) -> bytes:
    """Returns the HDR elements of a track's colour."""
    levels = [*zip(_PRIMARIES, hdr.primaries or (), strict=False), *zip(_LUMINANCE, hdr.luminance or (), strict=False)]
    mastering = b"".join(element(kind, struct.pack(">f", value)) for kind, value in levels)
    light = b"".join(_uint(kind, value) for kind, value in zip(_LIGHT, hdr.light or (), strict=False))
    return light + (element(_MASTERING, mastering) if mastering else b"")


def _update_seek_head(seek_head: bytes, positions: dict[int, int]) -> bytes:
    """Returns SeekHead with new positions of elements, relative to the segment's start."""
    _, body, _ = head(seek_head, 0) or (0, 0, 0)
    new, has_checksum = b"", False
    for kind, start, inner, end in elements(seek_head, body, len(seek_head)):
        part = seek_head[start:end]
        has_checksum = has_checksum or kind == CRC
        if kind == _SEEK and (target := _read_uint(seek_head, inner, end, _SEEK_ID)) in positions:
            part = element(
                _SEEK,
                b"".join(
                    element(k, positions[target].to_bytes(e - b, "big"), b - s - 2)
                    if k == _SEEK_POSITION
                    else seek_head[s:e]
                    for k, s, b, e in elements(seek_head, inner, end)
                ),
                inner - start - 2,
            )
        new += part if kind != CRC else b""
    return element(_SEEK_HEAD, (checksum(new) if has_checksum else b"") + new, body - 4)


def level(file: BinaryIO, at: int) -> Iterator[tuple[int, int, int]]:
    """Yields consecutive elements of a file: ID, body offset, size. Stops at the first invalid element."""
    while at < _MAX_OFFSET:
        file.seek(at)
        parsed = head(file.read(12), 0)
        if parsed is None:
            return
        kind, body, size = parsed
        yield kind, at + body, size
        if size == UNKNOWN:
            return
        at += body + size


def head(data: bytes, at: int) -> tuple[int, int, int] | None:
    """Returns an element's ID, body offset and size (UNKNOWN if open-ended). Invalid elements return None."""
    if at >= len(data) or not data[at]:
        return None
    length = 9 - data[at].bit_length()
    size_at = at + length
    if length > 4 or size_at >= len(data) or not data[size_at]:
        return None
    kind = int.from_bytes(data[at:size_at], "big")
    width = 9 - data[size_at].bit_length()
    size_field = int.from_bytes(data[size_at : size_at + width], "big")
    if size_at + width > len(data):
        return None
    size = size_field & ((1 << 7 * width) - 1)
    return kind, size_at + width, UNKNOWN if size == (1 << 7 * width) - 1 else size


def elements(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yields the elements of a body: ID, start, body start, end."""
    while start < end and (parsed := head(data, start)) is not None:
        kind, body, size = parsed
        if size < 0 or body + size > end:
            return
        yield kind, start, body, body + size
        start = body + size


def element(kind: int, body: bytes, width: int = 0) -> bytes:
    """Returns an element with a length field of at least `width` bytes."""
    width = max(width, next(w for w in range(1, 9) if len(body) < (1 << 7 * w) - 1))
    size = (len(body) | 1 << 7 * width).to_bytes(width, "big")
    return kind.to_bytes((kind.bit_length() + 7) // 8, "big") + size + body


def longer(encoded: bytes) -> bytes:
    """Returns an element with a length field that is one byte longer."""
    kind, body, _ = head(encoded, 0) or (0, 0, 0)
    return element(kind, encoded[body:], body - (kind.bit_length() + 7) // 8 + 1)


def checksum(body: bytes | bytearray) -> bytes:
    """Returns the CRC-32 element for the other elements of its parent."""
    return element(CRC, struct.pack("<I", zlib.crc32(body)))


def void(length: int) -> bytes:
    """Returns a Void element of `length` bytes, at least 2."""
    if length < 10:
        return bytes((0xEC, 0x80 | (length - 2))) + bytes(length - 2)
    return b"\xec\x01" + (length - 9).to_bytes(7, "big") + bytes(length - 9)
