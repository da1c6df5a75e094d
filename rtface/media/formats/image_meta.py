"""Reads and writes ICC profiles, EXIF and XMP of image files.

Blocks are copied unchanged, except that EXIF's orientation is reset if pixels were rotated. PNG: W3C PNG, 3rd edition;
JPEG: EXIF 2.32, ICC.1 annex B.4, XMP part 3; WebP: RIFF container specification.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction

from rtface.media.formats.image_header import (
    PNG,
    Tables,
    jpeg_end,
    kind_of,
    png_chunks,
    quantisation_tables,
    segments,
)
from rtface.media.formats.mp4 import boxes
from rtface.media.formats.tiff_tags import Directory, Numbers, exif_with, order_of, read_directory
from rtface.util.text import printable

# PNG chunks that are copied, because they define the colours of samples, or describe the image.
_PNG_COLORS = {b"gAMA", b"cHRM", b"sRGB", b"cICP", b"mDCV", b"cLLI"}
PNG_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_PNG_KEPT = {*_PNG_COLORS, *PNG_TEXTS, b"pHYs", b"tIME", b"oFFs", b"sCAL", b"pCAL", b"sTER"}
# PNG chunks that do not count as lost: the coded image, metadata that is read separately, and display hints.
_PNG_UNREPORTED = {*b"IHDR PLTE IDAT IEND tRNS iCCP eXIf acTL fcTL fdAT bKGD hIST sPLT".split()}
_JPEG_KEPT = re.compile(
    rb"\xe0|\xe1(Exif\0|http://ns\.adobe\.com/xap/1\.0/|http://ns\.adobe\.com/xmp/extension/)|"
    rb"\xe2(ICC_PROFILE|MPF)\0|\xebJP|\xed|\xeeAdobe"
)  # JUMBF (JP) contains content credentials
_XMP_KEYWORD = b"XML:com.adobe.xmp"
_HEAD_BYTES = 16 << 20  # bytes of a file that are searched for boxes and markers
_DENSITY_AT, _JFIF_END, _SEGMENT_BYTES = 13, 20, 65_000  # two offsets in an encoded JPEG; maximum size of a segment
_EXIF_HEAD, _XMP_HEAD, _ICC_HEAD = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0"
_IPTC_RESOURCE = b"8BIM\x04\x04"
_EXTENDED_XMP, _IPTC_HEAD = b"http://ns.adobe.com/xmp/extension/\0", b"Photoshop 3.0\0"
_ORIENTATION, _SHORT = 0x0112, 3
_METRE, CENTIMETRE = Fraction(254, 10_000), Fraction(254, 100)
_MAX_DENSITY = 50_000  # samples per inch
_LIKE_SRGB = (1, 2, 6, 13)  # transfer characteristics that are displayed like sRGB
# Metadata that is not read, and its marker in the file, keyed by kind of image.
_UNREAD_MARKERS = {
    "avif": {"EXIF": b"Exif\0", "XMP": b"application/rdf+xml"},
    "jxl": {"EXIF": b"Exif\0\0\0\0", "XMP": b"<x:xmpmeta"},
    "psd": {"EXIF": b"8BIM\x04\x22", "XMP": b"8BIM\x04\x24", "IPTC": b"8BIM\x04\x04"},
}
_UUID_XMP, _UUID_EXIF = bytes.fromhex("be7acfcb97a942e89c71999491e3afac"), b"JpgTiffExif->JP2"
# TIFF tags that describe the image and exist in EXIF; the last five are Windows tags, from title to subject.
_DESCRIPTIVE = (
    269,
    270,
    271,
    272,
    274,
    282,
    283,
    285,
    296,
    305,
    306,
    315,
    316,
    18246,
    33432,
    34665,
    34853,
    *range(40091, 40096),
)
_FIRST_PRIVATE, _TIFF_KEPT = 32768, {*_DESCRIPTIVE, 33723, 34377, 34675, 37724, 50706}
SAYS_NOTHING = {_ORIENTATION, 282, 283, 296}
"""EXIF tags that only affect display: orientation and resolution."""


@dataclass(slots=True)
class ImageMetadata:
    """The metadata of an image file.

    Attributes:
        icc: ICC profile.
        exif: EXIF as a TIFF structure, without the "Exif" header.
        xmp: XMP packet.
        iptc: joined APP13 segments of a JPEG: Photoshop's header and resources, including IPTC.
        comments: comments of a JPEG.
        more_xmp: JPEG segments with the extended XMP, which is too long for one segment.
        resolution: samples per inch, horizontally and vertically.
        png: type and data of each PNG chunk to copy.
        tiff_shown: type and values of TIFF tags that affect how samples are displayed, keyed by tag.
        tiff_form: bits, colour model, count and format of a TIFF's samples, keyed by tag.
        tiff_alpha: type of a TIFF's extra sample (2: straight alpha); None if there is no extra sample.
        density: unit and values of a JPEG's resolution, as JFIF stores them.
        tables: quantisation tables of a JPEG.
        unkept: names of the file's parts that are lost (`not_kept`).
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    comments: list[bytes] = field(default_factory=list[bytes])
    more_xmp: list[bytes] = field(default_factory=list[bytes])
    resolution: tuple[Fraction, Fraction] | None = None
    png: list[tuple[bytes, bytes]] = field(default_factory=list[tuple[bytes, bytes]])
    tiff_shown: dict[int, tuple[int, Numbers]] = field(default_factory=dict[int, tuple[int, Numbers]])
    tiff_form: dict[int, Numbers] = field(default_factory=dict[int, Numbers])
    tiff_alpha: int | None = None
    density: bytes | None = None
    tables: Tables | None = None
    unkept: Sequence[str] = ()

    @property
    def orientation(self) -> int:
        """EXIF orientation 1…8; 1 if it is missing or invalid."""
        kind, _, packed = read_directory(self.exif or b"").get(_ORIENTATION, (0, 0, b""))
        order = order_of(self.exif or b"")
        value = struct.unpack_from(order + "H", packed)[0] if kind == _SHORT and isinstance(packed, bytes) else 1
        return value if 1 <= value <= 8 else 1


def read_meta(data: bytes) -> ImageMetadata:
    """Reads the metadata of a non-TIFF image file. Damaged blocks are left out."""
    kind = kind_of(data)
    reader = {"png": _read_png, "jpeg": _read_jpeg, "webp": _read_webp, "avif": _read_boxes, "jp2": _read_boxes}.get(
        kind or ""
    )
    meta = reader(data) if reader else ImageMetadata()
    if kind == "bmp":
        meta.resolution = density(*struct.unpack_from("<ii", data.ljust(46, b"\0"), 38), _METRE)
    settle(meta)
    return meta


def not_kept(data: bytes, kind: str, *, more: bool) -> list[str]:
    """Lists the parts of a file, except its image, that are lost. `more`: whether additional images (see
    `more_of`) follow the end of the first."""
    names, end = list[str](), None
    if kind == "png":
        end = len(PNG)
        for name, body in png_chunks(data):
            end += 12 + len(body)
            if name not in _PNG_KEPT | _PNG_UNREPORTED:
                names.append(name.decode("latin-1"))
            if name == b"IEND":
                break
    elif kind == "jpeg":
        end = None if more else jpeg_end(data)
        for marker, body in segments(data):
            if 0xE0 <= marker <= 0xEF and not _JPEG_KEPT.match(bytes([marker]) + body[:40]):
                names.append(f"APP{marker & 15} {body[:16].partition(bytes(1))[0].decode('latin-1')}".strip())
    elif kind in _UNREAD_MARKERS:
        names = [label for label, mark in _UNREAD_MARKERS[kind].items() if data.find(mark, 0, _HEAD_BYTES) >= 0]
    elif kind == "tiff":
        names = [f"tag {tag}" for tag in read_directory(data) if tag >= _FIRST_PRIVATE and tag not in _TIFF_KEPT]
    if end is not None and (trailing := len(data[end:].rstrip(b"\0"))):
        names.append(f"{trailing} bytes after its end")
    return [printable(name) for name in dict.fromkeys(names)]


def settle(meta: ImageMetadata) -> None:
    """Drops CMYK and Lab profiles, because the samples are now RGB."""
    if meta.icc and meta.icc[16:20] in (b"CMYK", b"Lab "):
        meta.icc = None


def density(across: float | Fraction, down: float | Fraction, unit: Fraction) -> tuple[Fraction, Fraction] | None:
    """Converts samples per unit to samples per inch. `unit` is the number of units in an inch. Returns None if
    a value is zero or implausible."""
    resolution = Fraction(across) * unit, Fraction(down) * unit
    return resolution if min(resolution) > 0 and max(resolution) < _MAX_DENSITY else None


def _read_boxes(data: bytes) -> ImageMetadata:
    """Reads metadata of AVIF and JPEG 2000. Both store an ICC profile in "colr": the type is four letters in AVIF, but
    a number in JPEG 2000. EXIF and XMP are read from JPEG 2000 only. AVIF's colour code points become a PNG chunk."""
    meta, at = ImageMetadata(), 0
    for kind, size in boxes(io.BytesIO(data)):
        body, at = data[at + 8 : at + size], at + size
        if kind == b"uuid" and body[:16] == _UUID_XMP:
            meta.xmp = body[16:]
        elif kind == b"uuid" and body[:16] == _UUID_EXIF and body[16:20] in (b"II*\0", b"MM\0*"):
            meta.exif = exif_turned(body[16:])  # the decoder has rotated the samples
    match = re.search(rb"(....)colr(?:prof|rICC|\x02..)", data[:_HEAD_BYTES], re.DOTALL)
    profile = data[match.end() : match.start() + int.from_bytes(match[1], "big")] if match else b""
    meta.icc = profile if profile[36:40] == b"acsp" else None
    code_points = re.search(rb"colrnclx\0(.)\0(.)", data[: 1 << 20], re.DOTALL)
    if code_points and not meta.icc and (code_points[1][0] not in (1, 2) or code_points[2][0] not in _LIKE_SRGB):
        meta.png = [(b"cICP", code_points[1] + code_points[2] + b"\0\1")]
    return meta


def write_meta(data: bytes, meta: ImageMetadata, *, text: dict[str, str], size: tuple[int, int], alpha: bool) -> bytes:
    """Returns a PNG, JPEG, WebP or BMP file with replaced metadata.

    Args:
        data: an encoded image.
        meta: the new metadata.
        text: texts by keyword; only PNG can store them.
        size: width and height, for WebP's header.
        alpha: whether the image is transparent, for WebP's header.
    """
    kind = kind_of(data)
    if kind == "png":
        return _write_png(data, meta, text)
    if kind == "jpeg":
        return _write_jpeg(data, meta)
    if kind == "webp":
        return _write_webp(data, meta, size, alpha)
    if kind == "bmp" and meta.resolution:
        return data[:38] + struct.pack("<ii", *(round(value / _METRE) for value in meta.resolution)) + data[46:]
    return data


# -- EXIF -------------------------------------------------------------------------------------------------------


def exif_turned(exif: bytes) -> bytes:
    """Returns the EXIF with the orientation set to upright."""
    offsets: dict[int, int] = {}
    if read_directory(exif, places=offsets).get(_ORIENTATION, (0,))[0] != _SHORT:
        return exif
    at = offsets[_ORIENTATION]
    return exif[:at] + struct.pack(order_of(exif) + "H", 1) + exif[at + 2 :]


def exif_of(orientation: int) -> bytes:
    """Returns a minimal EXIF with the orientation only."""
    return exif_with({_ORIENTATION: (3, 1, struct.pack("<H", orientation))}, "<")


def exif_of_tiff(data: bytes, orientation: int) -> bytes | None:
    """Returns a TIFF file's descriptive tags as EXIF. Returns None if there is nothing to store."""
    order, tags = order_of(data), read_directory(data)
    tags = {number: tag for number, tag in tags.items() if number in _DESCRIPTIVE}
    tags[_ORIENTATION] = 3, 1, struct.pack(order + "H", orientation)
    return exif_with(tags, order) if orientation != 1 or len(tags) > 1 else None


def photoshop_of_tiff(data: bytes) -> bytes | None:
    """Returns a TIFF file's Photoshop resources, including IPTC, in JPEG form."""
    tags = read_directory(data)
    packed, iptc = (value if isinstance(value := tags.get(n, (0, 0, b""))[2], bytes) else b"" for n in (34377, 33723))
    if iptc and _IPTC_RESOURCE not in packed:
        packed += _IPTC_RESOURCE + bytes(2) + struct.pack(">I", len(iptc)) + iptc + bytes(len(iptc) % 2)
    return _IPTC_HEAD + packed if packed else None


def photoshop_tags(segment: bytes) -> Directory:
    """Returns TIFF tags for a JPEG's Photoshop resources and their IPTC."""
    packed = segment.removeprefix(_IPTC_HEAD)
    tags: Directory = {34377: (1, len(packed), packed)}
    if match := re.search(re.escape(_IPTC_RESOURCE) + rb"\0\0(....)", packed, re.DOTALL):
        iptc = packed[match.end() : match.end() + int.from_bytes(match[1], "big")]
        tags[33723] = 7, len(iptc), iptc
    return tags


# -- PNG --------------------------------------------------------------------------------------------------------


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _read_png(data: bytes) -> ImageMetadata:
    meta, samples = ImageMetadata(), False
    for kind, body in png_chunks(data):
        samples = samples or kind == b"IDAT"
        if kind == b"iCCP" and not samples:  # readers ignore a profile that comes later
            with suppress(zlib.error):
                meta.icc = zlib.decompress(body[body.find(b"\0") + 2 :])
        elif kind == b"eXIf":
            meta.exif = body
        elif kind == b"iTXt" and body.startswith(_XMP_KEYWORD + b"\0\0\0\0\0"):
            meta.xmp = body[len(_XMP_KEYWORD) + 5 :]
        elif kind in _PNG_KEPT:
            meta.png.append((kind, body))
            if kind == b"pHYs" and body[8:] == b"\1":
                meta.resolution = density(*struct.unpack_from(">II", body), _METRE)
    return meta


def _write_png(data: bytes, meta: ImageMetadata, text: dict[str, str]) -> bytes:
    chunks = [(k, b) for k, b in png_chunks(data) if k not in _PNG_KEPT and k not in (b"iCCP", b"eXIf")]
    keys = {key.encode("latin-1", "replace")[:79] for key in text}
    added = [(k, b) for k, b in meta.png if not (k == b"iTXt" and b.split(b"\0", 1)[0] in keys)]
    if meta.resolution and not any(k == b"pHYs" for k, _ in added):
        added.append((b"pHYs", struct.pack(">IIB", *(round(value / _METRE) for value in meta.resolution), 1)))
    for comment in meta.comments:
        text |= {"Comment": comment.rstrip(b"\0").decode("utf-8", "replace")}
    if meta.icc:
        added = [(k, b) for k, b in added if k != b"sRGB"]
        added.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(meta.icc)))
    texts = [(_XMP_KEYWORD, meta.xmp)] if meta.xmp else []
    texts += [(key.encode("latin-1", "replace")[:79], content.encode()) for key, content in text.items()]
    added += [(b"eXIf", meta.exif)] if meta.exif else []
    added += [(b"iTXt", key + b"\0\0\0\0\0" + content) for key, content in texts]
    return PNG + b"".join(_chunk(k, b) for k, b in [chunks[0], *added, *chunks[1:]])


# -- JPEG -------------------------------------------------------------------------------------------------------


def _read_jpeg(data: bytes) -> ImageMetadata:
    meta, parts = ImageMetadata(), dict[int, bytes]()
    for marker, body in segments(data):
        if marker == 0xE1 and body.startswith(_EXIF_HEAD) and meta.exif is None:
            meta.exif = body[len(_EXIF_HEAD) :]
        elif marker == 0xE1 and body.startswith(_XMP_HEAD):
            meta.xmp = body[len(_XMP_HEAD) :]
        elif marker == 0xE2 and body.startswith(_ICC_HEAD) and len(body) > 14:
            parts[body[12]] = body[14:]
        elif marker == 0xE1 and body.startswith(_EXTENDED_XMP):
            meta.more_xmp.append(body)
        elif marker == 0xED:
            meta.iptc = body if meta.iptc is None else meta.iptc + body.removeprefix(_IPTC_HEAD)
        elif marker == 0xFE:
            meta.comments.append(body)
        elif marker == 0xE0 and body.startswith(b"JFIF\0") and meta.density is None:
            meta.density = body[7:12]
            if body[7:8] in (b"\1", b"\2") and len(body) >= 12:
                meta.resolution = density(
                    *struct.unpack_from(">HH", body, 8), CENTIMETRE if body[7] == 2 else Fraction(1)
                )
    meta.tables = quantisation_tables(data)
    if parts:
        meta.icc = b"".join(parts[i] for i in sorted(parts))
    return meta


def segment(marker: int, body: bytes) -> bytes:
    """Returns one segment of a JPEG."""
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


def _write_jpeg(data: bytes, meta: ImageMetadata) -> bytes:
    """Inserts blocks after the JFIF segment that starts an encoded JPEG."""
    blocks = (_EXIF_HEAD, meta.exif), (_XMP_HEAD, meta.xmp)
    profile_parts, iptc_parts = (
        [block[at : at + _SEGMENT_BYTES] for at in range(0, len(block), _SEGMENT_BYTES)]
        for block in (meta.icc or b"", (meta.iptc or b"").removeprefix(_IPTC_HEAD))
    )
    parts = [
        *((0xE1, head + block) for head, block in blocks if block and len(block) < _SEGMENT_BYTES),
        *((0xE2, _ICC_HEAD + bytes((n, len(profile_parts))) + piece) for n, piece in enumerate(profile_parts, 1)),
        *((0xE1, part) for part in meta.more_xmp),
        *((0xED, _IPTC_HEAD + piece) for piece in iptc_parts),
        *((0xFE, text) for text in meta.comments),
    ]
    jfif_density = meta.density
    if meta.resolution and not jfif_density:
        jfif_density = struct.pack(">BHH", 1, *(min(max(round(value), 1), 65_535) for value in meta.resolution))
    if jfif_density and len(jfif_density) == 5:
        data = data[:_DENSITY_AT] + jfif_density + data[_DENSITY_AT + 5 :]
    return data[:_JFIF_END] + b"".join(segment(*part) for part in parts) + data[_JFIF_END:]


# -- WebP -------------------------------------------------------------------------------------------------------


def _riff(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 12
    while at + 8 <= len(data):
        kind, size = struct.unpack_from("<4sI", data, at)
        yield kind, data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2


def _read_webp(data: bytes) -> ImageMetadata:
    chunks = dict(_riff(data))
    exif = chunks.get(b"EXIF", b"").removeprefix(_EXIF_HEAD) or None
    return ImageMetadata(icc=chunks.get(b"ICCP"), exif=exif, xmp=chunks.get(b"XMP "))


def _write_webp(data: bytes, meta: ImageMetadata, size: tuple[int, int], alpha: bool) -> bytes:
    pixels = [(k, b) for k, b in _riff(data) if k in (b"VP8 ", b"VP8L", b"ALPH")]
    flags = 0x20 * bool(meta.icc) | 0x10 * alpha | 0x08 * bool(meta.exif) | 0x04 * bool(meta.xmp)
    head = struct.pack("<I", flags) + (size[0] - 1).to_bytes(3, "little") + (size[1] - 1).to_bytes(3, "little")
    blocks = [(b"VP8X", head), (b"ICCP", meta.icc), *pixels, (b"EXIF", meta.exif), (b"XMP ", meta.xmp)]
    body = b"".join(k + struct.pack("<I", len(b)) + b + b"\0" * (len(b) % 2) for k, b in blocks if b)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body
