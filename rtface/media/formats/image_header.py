"""Reads format, size, additional contents and coding from an image file's header.

PNG: W3C PNG 3rd edition; JPEG: ITU-T T.81, CIPA DC-007; AVIF: ISO/IEC 23008-12, AV1 in ISOBMFF.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import TypeAlias

from rtface.media.formats.tiff_tags import order_of, read_directory

PNG = b"\x89PNG\r\n\x1a\n"
_KINDS = {
    **{PNG: "png", b"\xff\xd8\xff": "jpeg", b"SDPX": "dpx", b"XPDS": "dpx", b"v/1\x01": "exr"},
    **dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "tiff"),
    **{b"\xff\x4f\xff\x51": "jp2", b"BM": "bmp", b"8BPS": "psd"},
    **dict.fromkeys((b"\xff\x0a", b"\0\0\0\x0cJXL "), "jxl"),
    **dict.fromkeys((b"\x80\x2a\x5f\xd7", b"\xd7\x5f\x2a\x80"), "cineon"),
}
_PNG_COMPRESSED = {b"iCCP", b"zTXt"}  # chunks that decoders decompress
_MPF_HEAD, _MPF_IMAGES = b"MPF\0", 0xB001
_MARKER = re.compile(rb"\xff+([^\0\1\xd0-\xd7\xff])")  # markers of segments with a length, and the end marker
_MOTION_PHOTO = re.compile(rb"\xff\xd9.{0,64}?\0\0\0.ftyp(?:isom|iso\d|mp4\d|avc1|qt  |M4V |hvc1)", re.DOTALL)
_PNM = re.compile(rb"P(?:[1-6]\s+(?:#[^\n]*\n\s*)*\d+\s|7\n)")
# Major brands of HEIF: images and sequences in HEVC (HEIC), and in any codec.
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"heif", b"mif1", b"mif2")
# Names of the kinds that FFmpeg does not decode whole, so that they cannot become films.
STILL_ONLY = {"cineon": "Cineon", "heic": "HEIC", "jxl": "JPEG XL", "psd": "PSD"}
_SEQUENCES = (b"hevc", b"hevx", b"msf1", b"avis")
Tables: TypeAlias = "tuple[tuple[int, ...], tuple[int, ...]]"
"""Quantisation tables of luma and chroma, each with 64 steps of 1 to 255 in zigzag order."""


def kind_of(data: bytes) -> str | None:
    """Returns an image's kind by its first bytes; None for anything else.

    rtface reads and writes "png", "jpeg", "webp", "tiff", "dpx", "exr" and "bmp". It only reads "avif", "cineon",
    "heic", "jp2", "jxl", "psd" and "pnm".
    """
    for signature, kind in _KINDS.items():
        if data.startswith(signature):
            return kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[4:12] in (b"ftypavif", b"ftypmif1") and b"avif" in data[8:40]:
        return "avif"
    if data[4:8] == b"ftyp" and data[8:12] in _HEIC and b"avis" not in data[8:40]:
        return "heic"
    if data[4:8] == b"jP  " and data[20:24] in (b"jp2 ", b"jpx "):
        return "jp2"
    return "pnm" if _PNM.match(data) else None


def unread_kind(data: bytes) -> str:
    """Returns the kind of an unsupported image, or "". FFmpeg opens some of these as films: one tile of
    HEIC, or each size of an ICO as a frame."""
    if data[4:8] == b"ftyp" and data[8:12] in _SEQUENCES:
        return "animated AVIF" if b"avis" in data[8:40] else "HEIC"
    if data.startswith(b"\0\0\1\0") and data[4:5] > b"\0" and data[5:6] == data[9:10] == b"\0":
        return "ICO"
    return "PDF" if data.startswith(b"%PDF") else ""


def size_of(data: bytes) -> tuple[int, int] | None:
    """Returns a PNG's, JPEG's, AVIF's or DPX's width and height, or None. Reads only the header."""
    kind = kind_of(data)
    with suppress(struct.error):
        if kind == "dpx":
            return struct.unpack_from(">II" if data[:4] == b"SDPX" else "<II", data, 772)
        if kind == "png":
            return struct.unpack_from(">II", data, 16)
        if kind == "avif":
            return max(
                (
                    struct.unpack_from(">II", match[0], 12)
                    for match in re.finditer(rb"\0\0\0\x14ispe............", data[: 1 << 20], re.DOTALL)
                ),
                default=None,
            )
        if kind == "jpeg":
            height, width = struct.unpack_from(">HH", frame_header(data), 1)
            return width, height
    return None


def more_of(data: bytes) -> str:
    """Describes what a PNG or JPEG contains besides its first image. Returns "" for nothing."""
    kind = kind_of(data)
    with suppress(struct.error, IndexError):
        if kind == "png":
            frames = next((struct.unpack_from(">I", body)[0] for name, body in png_chunks(data) if name == b"acTL"), 1)
            return f"contains {frames} frames" if frames > 1 else ""
        if kind == "jpeg":
            images = max(
                [_images(body) for marker, body in segments(data) if marker == 0xE2 and body.startswith(_MPF_HEAD)],
                default=1,
            )
            if images > 1:
                return f"contains {images} images"
            if _MOTION_PHOTO.search(data):
                return "contains a film (motion photo)"
    return ""


def _images(body: bytes) -> int:
    """Returns the number of images in a JPEG's multi-picture segment (CIPA DC-007)."""
    tiff = body[len(_MPF_HEAD) :]
    _, _, packed = read_directory(tiff).get(_MPF_IMAGES, (0, 0, b""))
    return struct.unpack(order_of(tiff) + "I", packed)[0] if isinstance(packed, bytes) and len(packed) == 4 else 1


def avif_shape(data: bytes) -> tuple[int, bool, int]:
    """Reads rotation, mirroring and bit depth of an AVIF (ISO/IEC 23008-12).

    Returns the clockwise quarter turns that make the image upright, whether to mirror it afterwards, and the bits per
    sample (8, 10 or 12).
    """
    head = data[: 1 << 20]
    turn, flip = (re.search(rb"\0\0\0\x09" + name + rb"(.)", head, re.DOTALL) for name in (b"irot", b"imir"))
    config = re.search(rb"av1C..(.)", head, re.DOTALL)
    flags = config[1][0] if config else 0
    turns = -(turn[1][0] & 3) % 4 if turn else 0
    if flip is not None and not flip[1][0] & 1:  # swapping top and bottom equals a half turn and a mirroring
        turns = (turns + 2) % 4
    return turns, flip is not None, 8 if not flags & 0x40 else 12 if flags & 0x20 else 10


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yields the type and body of each chunk of a PNG."""
    at = len(PNG)
    while at + 12 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        yield kind, data[at + 8 : at + 8 + size]
        at += 12 + size


def segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields marker and body of a JPEG's segments before its first scan."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        if data[at + 1] == 0xFF:  # fill bytes may precede any marker
            at += 1
            continue
        marker, size = data[at + 1], struct.unpack_from(">H", data, at + 2)[0]
        if marker == 0xDA:
            return
        yield marker, data[at + 4 : at + 2 + size]
        at += 2 + size


def jpeg_end(data: bytes) -> int | None:
    """Returns the offset after a JPEG's end marker; None without that marker."""
    at = 2
    while (match := _MARKER.search(data, at)) and match[1] != b"\xd9":
        at = match.end() + int.from_bytes(data[match.end() : match.end() + 2], "big")
    return match and match.end()


def frame_header(data: bytes) -> bytes:
    """Returns a JPEG's frame header segment; b"" if it is missing."""
    return next((body for marker, body in segments(data) if 0xC0 <= marker <= 0xC2), b"")


def quantisation_tables(data: bytes) -> Tables | None:
    """Returns a JPEG's quantisation tables. None if they are damaged, or missing before the first scan."""
    tables_by_number, table_numbers = dict[int, tuple[int, ...]](), list[int]()
    try:
        for marker, body in segments(data):
            while marker == 0xDB and body:
                is_16_bit, number = body[0] >> 4, body[0] & 15
                steps = struct.unpack_from(">64H" if is_16_bit else ">64B", body, 1)
                tables_by_number[number] = tuple(min(max(step, 1), 255) for step in steps)
                body = body[65 + 64 * bool(is_16_bit) :]  # one segment may contain several tables
            if 0xC0 <= marker <= 0xC2:
                table_numbers = [body[8 + 3 * n] for n in range(body[5])]
        tables = [tables_by_number[number] for number in table_numbers]
    except (struct.error, IndexError, KeyError):
        return None
    if not tables:
        return None
    return tables[0], tuple(map(min, *tables[1:])) if len(tables) > 2 else tables[-1]


def decodable(data: bytes) -> bytes:
    """Removes compressed chunks (profile and text) from a PNG. Decoders would decompress them without a
    limit. Other kinds of images, and PNGs without such chunks, are returned unchanged."""
    if kind_of(data) != "png":
        return data
    parts, at, part_start = list[memoryview](), len(PNG), 0
    view = memoryview(data)
    while at + 12 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        if kind in _PNG_COMPRESSED:
            parts.append(view[part_start:at])
            part_start = at + 12 + size
        at += 12 + size
    return b"".join([*parts, view[part_start:]]) if parts else data
