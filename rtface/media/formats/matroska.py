"""Matroska and WebM files (RFC 8794, RFC 9559) as far as they are read or mended without FFmpeg."""

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
_SHOWN_WIDTH, _SHOWN_HEIGHT, _SHOWN_UNIT = 0x54B0, 0x54BA, 0x54B2
_STEREO = 0x53B8
_EYES = {**dict.fromkeys((1, 8, 9, 11), Fraction(1, 2)), **dict.fromkeys((2, 3, 6, 7), Fraction(2))}
"""By stereo mode how wide a sample of one eye's picture is shown, by how wide one of both is."""
_FARTHEST = 1 << 62  # a place that a file may be asked for
_CROP = 0x54CC, 0x54BB, 0x54DD, 0x54AA  # columns and rows that are hidden: left, top, right, bottom
_CLUSTER, _LONGEST = 0x1F43B675, 1 << 24  # where frames begin; bytes of a header, at most
_RATIO = 3  # the unit of a shown size that is a ratio only
_COLOUR, _MASTERING, _LIGHT = 0x55B0, 0x55D0, (0x55BC, 0x55BD)
_PRIMARIES, _LUMINANCE = range(0x55D1, 0x55D9), (0x55DA, 0x55D9)  # as in HdrMetadata: dark before bright


def hides_borders(data: bytes, number: int) -> bool:
    """Tells whether the element Tracks hides columns or rows of a video track's frames."""
    video = next((_child(data, body, end, _VIDEO) for _, body, end in islice(_videos(data, 0), number, None)), None)
    return video is not None and any(_number(data, *video, kind) for kind in _CROP)


def regional_languages(data: bytes) -> list[str]:
    """Lists the languages of the element Tracks that have a region or script (BCP 47), as zh-Hant."""
    places = [_child(data, body, end, _BCP47) for kind, _, body, end in elements(data, 0, len(data)) if kind == _TRACK]
    tags = [data[slice(*place)].rstrip(b"\0").decode("ascii", "replace") for place in places if place]
    return [tag for tag in dict.fromkeys(tags) if "-" in tag]


def read_tracks(file: BinaryIO) -> bytes:
    """Reads the body of the element Tracks; nothing where none precedes the frames."""
    origin = next((body for kind, body, _ in level(file, 0) if kind == SEGMENT), _FARTHEST)
    for kind, body, size in level(file, origin):
        if kind == _TRACKS and 0 < size < _LONGEST:
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
    """Notes in a finished film of FFmpeg's what its header says of a video track. Nothing behind the header moves: the
    empty space in front of it gives the room. Where there is not enough, False: the HDR metadata is left out.

    Args:
        file: the film.
        number: of the track among the video tracks, from 0 on.
        size: of a frame, in samples.
        aspect: of a sample; None where it is unknown.
        hdr: mastering display and light level.
        projection: element of that name.
        webm: whether it is WebM, which gives sizes in pixels only.
    """
    before = list[tuple[int, int, int]]()  # id, where each begins and ends, up to the tracks
    at = origin = next((body for kind, body, _ in level(file, 0) if kind == SEGMENT), 0)
    for kind, body, length in level(file, origin):
        before.append((kind, at, at := body + length))
        if kind == _TRACKS:
            break
    if not before or before[-1][0] != _TRACKS:
        return True
    file.seek(origin)
    data = file.read(at - origin)
    parts = [(kind, data[start - origin : end - origin]) for kind, start, end in before]
    tracks = _with_video(parts[-1][1], number, size, aspect, hdr=hdr, projection=projection, webm=webm)
    spaces = [k for k, (kind, _) in enumerate(parts) if kind == _VOID]
    free = len(parts[spaces[0]][1]) + len(parts[-1][1]) - len(tracks) if spaces else 0
    if tracks == parts[-1][1]:
        return True
    if free == 1:
        free, tracks = 0, longer(tracks)
    if not spaces or free < 0:
        if hdr is not None:
            note_picture(file, number, size, aspect, projection=projection, webm=webm)
        return False
    parts[-1] = _TRACKS, tracks
    parts[spaces[0]] = _VOID, void(free) if free else b""
    places, at = dict[int, int](), 0
    for kind, part in parts:
        places[kind], at = at, at + len(part)
    whole = b"".join(_moved(part, places) if kind == _SEEK_HEAD else part for kind, part in parts)
    file.seek(origin)
    file.write(whole)
    return True


def _videos(data: bytes, start: int) -> Iterator[tuple[int, int, int]]:
    """Video tracks in the element Tracks: where each and its body begin, and it ends."""
    for kind, begin, body, end in elements(data, start, len(data)):
        if kind == _TRACK and _number(data, body, end, _TRACK_TYPE) == 1:
            yield begin, body, end


def _child(data: bytes, start: int, end: int, wanted: int) -> tuple[int, int] | None:
    return next(((body, stop) for kind, _, body, stop in elements(data, start, end) if kind == wanted), None)


def _number(data: bytes, start: int, end: int, wanted: int) -> int:
    found = _child(data, start, end, wanted)
    return int.from_bytes(data[slice(*found)], "big") if found else 0


def _uint(kind: int, value: int) -> bytes:
    return element(kind, value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big"))


def _shown(size: tuple[int, int], aspect: Fraction | None, *, webm: bool) -> bytes:
    """Elements of a track's video: the shown size."""
    if aspect is None:
        return b"" if webm else _uint(_SHOWN_UNIT, 4)
    if aspect == 1:
        return b""
    shown = size[0] * aspect
    if webm or shown.denominator == 1:
        return _uint(_SHOWN_WIDTH, round(shown)) + _uint(_SHOWN_HEIGHT, size[1])
    ratio = shown / size[1]
    return _uint(_SHOWN_WIDTH, ratio.numerator) + _uint(_SHOWN_HEIGHT, ratio.denominator) + _uint(_SHOWN_UNIT, _RATIO)


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
    """The element Tracks with other elements in a track's video; as long as before where it would get shorter."""
    _, body, _ = head(tracks, 0) or (0, 0, 0)
    videos = list(_videos(tracks, body))
    if number >= len(videos):
        return tracks
    begin, inner, stop = videos[number]
    track = [(kind, tracks[b:e], tracks[s:e]) for kind, s, b, e in elements(tracks, inner, stop)]
    new = b""
    for kind, content, whole in track:
        if kind == _VIDEO:
            shape = aspect and aspect * _EYES.get(_number(content, 0, len(content), _STEREO), 1)
            added = _shown(size, shape, webm=webm)
            kept = b"".join(
                content[s:e]
                for k, s, _, e in elements(content, 0, len(content))
                if k not in (_SHOWN_WIDTH, _SHOWN_HEIGHT, _SHOWN_UNIT, _VOID, _COLOUR)
            )
            colour = _child(content, 0, len(content), _COLOUR)
            tones = (content[slice(*colour)] if colour else b"") + (_hdr(hdr) if hdr else b"")
            new += element(_VIDEO, kept + added + projection + (element(_COLOUR, tones) if tones else b""))
        elif kind != _VOID:
            new += whole
    spare = stop - inner - len(new)
    new += void(spare) if spare > 1 else b""
    new = element(_TRACK, new, inner - begin - 1)
    rest = [(kind, tracks[s:e]) for kind, s, _, e in elements(tracks, body, len(tracks))]
    data = b"".join(new if part == tracks[begin:stop] else part for kind, part in rest if kind != CRC)
    return element(_TRACKS, (checksum(data) if rest[0][0] == CRC else b"") + data, body - 4)


def _hdr(hdr: HdrMetadata) -> bytes:
    """Elements of a track's colour."""
    levels = [*zip(_PRIMARIES, hdr.primaries or (), strict=False), *zip(_LUMINANCE, hdr.luminance or (), strict=False)]
    mastering = b"".join(element(kind, struct.pack(">f", value)) for kind, value in levels)
    light = b"".join(_uint(kind, value) for kind, value in zip(_LIGHT, hdr.light or (), strict=False))
    return light + (element(_MASTERING, mastering) if mastering else b"")


def _moved(seek_head: bytes, places: dict[int, int]) -> bytes:
    """The element SeekHead with the places of what moved, counted from the beginning of the segment."""
    _, body, _ = head(seek_head, 0) or (0, 0, 0)
    new, checked = b"", False
    for kind, start, inner, end in elements(seek_head, body, len(seek_head)):
        part = seek_head[start:end]
        checked = checked or kind == CRC
        if kind == _SEEK and (what := _number(seek_head, inner, end, _SEEK_ID)) in places:
            part = element(
                _SEEK,
                b"".join(
                    element(k, places[what].to_bytes(e - b, "big"), b - s - 2)
                    if k == _SEEK_POSITION
                    else seek_head[s:e]
                    for k, s, b, e in elements(seek_head, inner, end)
                ),
                inner - start - 2,
            )
        new += part if kind != CRC else b""
    return element(_SEEK_HEAD, (checksum(new) if checked else b"") + new, body - 4)


def level(file: BinaryIO, at: int) -> Iterator[tuple[int, int, int]]:
    """Elements in a row from a place on: id, where the body begins, its size; ends at the first
    that makes no sense."""
    while at < _FARTHEST:
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
    """An element's id, where its body begins, and its size (UNKNOWN for an open one)."""
    if at >= len(data) or not data[at]:
        return None
    length = 9 - data[at].bit_length()
    place = at + length
    if length > 4 or place >= len(data) or not data[place]:
        return None
    kind = int.from_bytes(data[at:place], "big")
    width = 9 - data[place].bit_length()
    coded = int.from_bytes(data[place : place + width], "big")
    if place + width > len(data):
        return None
    size = coded & ((1 << 7 * width) - 1)
    return kind, place + width, UNKNOWN if size == (1 << 7 * width) - 1 else size


def elements(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Elements of a body: id, and where each begins, its body begins, and it ends."""
    while start < end and (parsed := head(data, start)) is not None:
        kind, body, size = parsed
        if size < 0 or body + size > end:
            return
        yield kind, start, body, body + size
        start = body + size


def element(kind: int, body: bytes, width: int = 0) -> bytes:
    """An element whose length takes `width` bytes, or as few more as it needs."""
    width = max(width, next(w for w in range(1, 9) if len(body) < (1 << 7 * w) - 1))
    size = (len(body) | 1 << 7 * width).to_bytes(width, "big")
    return kind.to_bytes((kind.bit_length() + 7) // 8, "big") + size + body


def longer(whole: bytes) -> bytes:
    """The same element with a length that takes one byte more."""
    kind, body, _ = head(whole, 0) or (0, 0, 0)
    return element(kind, whole[body:], body - (kind.bit_length() + 7) // 8 + 1)


def checksum(body: bytes | bytearray) -> bytes:
    """The element CRC-32 of what follows it in its parent."""
    return element(CRC, struct.pack("<I", zlib.crc32(body)))


def void(length: int) -> bytes:
    """A Void element of so many bytes, at least 2."""
    if length < 10:
        return bytes((0xEC, 0x80 | (length - 2))) + bytes(length - 2)
    return b"\xec\x01" + (length - 9).to_bytes(7, "big") + bytes(length - 9)
