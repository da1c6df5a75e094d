"""ICC profiles, EXIF and XMP in PNG, JPEG and WebP files: taken out of one file and put into another.

Only whole blocks are moved; the one thing ever changed inside is EXIF's orientation, when pixels have been turned.
PNG: W3C PNG 3rd edition; JPEG: EXIF 2.32, ICC.1 annex B.4, XMP part 3; WebP: RIFF container specification.
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

# Chunks that say how the samples are to be read, or something about the image; the rest is the encoder's own.
_PNG_COLORS = {b"gAMA", b"cHRM", b"sRGB", b"cICP", b"mDCV", b"cLLI"}
PNG_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_PNG_KEPT = {*_PNG_COLORS, *PNG_TEXTS, b"pHYs", b"tIME", b"oFFs", b"sCAL", b"pCAL", b"sTER"}
# What has to do with the coded image, and hints for programs that show it.
_PNG_OWN = {*b"IHDR PLTE IDAT IEND tRNS iCCP eXIf acTL fcTL fdAT bKGD hIST sPLT".split()}
_JPEG_KEPT = re.compile(
    rb"\xe0|\xe1(Exif\0|http://ns\.adobe\.com/xap/1\.0/|http://ns\.adobe\.com/xmp/extension/)|"
    rb"\xe2(ICC_PROFILE|MPF)\0|\xebJP|\xed|\xeeAdobe"
)  # JUMBF has credentials
_XMP_KEYWORD = b"XML:com.adobe.xmp"
_HEAD = 16 << 20  # bytes in which the boxes of an AVIF or JPEG 2000 are looked for
_DENSITY_AT, _JFIF_END, _SEGMENT = 13, 20, 65_000  # in a JPEG of ours; bytes of a block in a segment
_EXIF_HEAD, _XMP_HEAD, _ICC_HEAD = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0"
_IPTC_RESOURCE = b"8BIM\x04\x04"
_MORE_XMP, _IPTC_HEAD = b"http://ns.adobe.com/xmp/extension/\0", b"Photoshop 3.0\0"
_ORIENTATION, _SHORT = 0x0112, 3
_METRE, CENTIMETRE = Fraction(254, 10_000), Fraction(254, 100)
_DENSEST = 50_000  # samples of an inch
_LIKE_SRGB = (1, 2, 6, 13)  # transfer characteristics that are shown as sRGB is
# What is not read of a kind, and a mark of it.
_UNREAD = {
    "avif": {"EXIF": b"Exif\0", "XMP": b"application/rdf+xml"},
    "jxl": {"EXIF": b"Exif\0\0\0\0", "XMP": b"<x:xmpmeta"},
    "psd": {"EXIF": b"8BIM\x04\x22", "XMP": b"8BIM\x04\x24", "IPTC": b"8BIM\x04\x04"},
}
_UUID_XMP, _UUID_EXIF = bytes.fromhex("be7acfcb97a942e89c71999491e3afac"), b"JpgTiffExif->JP2"
# Tags of a TIFF file that say something of the image, as EXIF has them; the last are Windows' title to subject.
_DESCRIBES = (
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
_TIFF_PRIVATE, _TIFF_KEPT = 32768, {*_DESCRIBES, 33723, 34377, 34675, 37724, 50706}
SAYS_NOTHING = {_ORIENTATION, 282, 283, 296}
"""Tags of EXIF that say how to show an image: orientation and resolution."""


@dataclass(slots=True)
class ImageMetadata:
    """What an image file carries besides its pixels.

    Attributes:
        icc: ICC profile.
        exif: EXIF as a TIFF structure, without the "Exif" head.
        xmp: XMP packet.
        iptc: JPEG's APP13 segments, joined: Photoshop's head and its resources, IPTC among them.
        comments: of a JPEG.
        more_xmp: segments of a JPEG with the parts of a long XMP.
        resolution: samples of an inch, across and down.
        png: PNG chunks worth keeping, kind and data.
        tiff_shown: TIFF tags by which the samples are shown: number, and type and values.
        tiff_form: bits, kind of colours, number and format of a TIFF's samples, by their tags.
        tiff_alpha: what a TIFF's sample behind the colours is (2: straight transparency); None without.
        density: unit and numbers of samples of a JPEG, as JFIF has them.
        tables: quantisation tables that a JPEG was encoded with.
        unkept: names of what else is in the file (`not_kept`).
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
        """EXIF orientation 1…8; 1 is upright, missing or senseless."""
        kind, _, said = read_directory(self.exif or b"").get(_ORIENTATION, (0, 0, b""))
        order = order_of(self.exif or b"")
        value = struct.unpack_from(order + "H", said)[0] if kind == _SHORT and isinstance(said, bytes) else 1
        return value if 1 <= value <= 8 else 1


def read_meta(data: bytes) -> ImageMetadata:
    """The blocks of an image file that is no TIFF; damaged ones are left out."""
    kind = kind_of(data)
    read = {"png": _read_png, "jpeg": _read_jpeg, "webp": _read_webp, "avif": _read_boxes, "jp2": _read_boxes}.get(
        kind or ""
    )
    meta = read(data) if read else ImageMetadata()
    if kind == "bmp":
        meta.resolution = density(*struct.unpack_from("<ii", data.ljust(46, b"\0"), 38), _METRE)
    settle(meta)
    return meta


def not_kept(data: bytes, kind: str, *, more: bool) -> list[str]:
    """Names of what a file holds apart from its image and what is kept of it; `more`: whether there
    is `more_of` it, which lies behind the end."""
    names, end = list[str](), None
    if kind == "png":
        end = len(PNG)
        for name, body in png_chunks(data):
            end += 12 + len(body)
            if name not in _PNG_KEPT | _PNG_OWN:
                names.append(name.decode("latin-1"))
            if name == b"IEND":
                break
    elif kind == "jpeg":
        end = None if more else jpeg_end(data)
        for marker, body in segments(data):
            if 0xE0 <= marker <= 0xEF and not _JPEG_KEPT.match(bytes([marker]) + body[:40]):
                names.append(f"APP{marker & 15} {body[:16].partition(bytes(1))[0].decode('latin-1')}".strip())
    elif kind in _UNREAD:
        names = [what for what, mark in _UNREAD[kind].items() if data.find(mark, 0, _HEAD) >= 0]
    elif kind == "tiff":
        names = [f"tag {tag}" for tag in read_directory(data) if tag >= _TIFF_PRIVATE and tag not in _TIFF_KEPT]
    if end is not None and (behind := len(data[end:].rstrip(b"\0"))):
        names.append(f"{behind} bytes behind its end")
    return [printable(name) for name in dict.fromkeys(names)]


def settle(meta: ImageMetadata) -> None:
    """Leaves the profile of inks out, as the samples became RGB."""
    if meta.icc and meta.icc[16:20] in (b"CMYK", b"Lab "):
        meta.icc = None


def density(across: float | Fraction, down: float | Fraction, unit: Fraction) -> tuple[Fraction, Fraction] | None:
    """Samples of an inch by those of a unit; `unit` is an inch in units. None for none, or senseless ones."""
    found = Fraction(across) * unit, Fraction(down) * unit
    return found if min(found) > 0 and max(found) < _DENSEST else None


def _read_boxes(data: bytes) -> ImageMetadata:
    """AVIF and JPEG 2000: the ICC profile of a colour box ("colr" of AVIF with a kind of four letters, of JPEG 2000
    with a number), EXIF and XMP of JPEG 2000, and AVIF's code points of colours, as a PNG has them."""
    meta, at = ImageMetadata(), 0
    for kind, size in boxes(io.BytesIO(data)):
        body, at = data[at + 8 : at + size], at + size
        if kind == b"uuid" and body[:16] == _UUID_XMP:
            meta.xmp = body[16:]
        elif kind == b"uuid" and body[:16] == _UUID_EXIF and body[16:20] in (b"II*\0", b"MM\0*"):
            meta.exif = exif_turned(body[16:])  # the samples were decoded upright
    match = re.search(rb"(....)colr(?:prof|rICC|\x02..)", data[:_HEAD], re.DOTALL)
    profile = data[match.end() : match.start() + int.from_bytes(match[1], "big")] if match else b""
    meta.icc = profile if profile[36:40] == b"acsp" else None
    points = re.search(rb"colrnclx\0(.)\0(.)", data[: 1 << 20], re.DOTALL)
    if points and not meta.icc and (points[1][0] not in (1, 2) or points[2][0] not in _LIKE_SRGB):
        meta.png = [(b"cICP", points[1] + points[2] + b"\0\1")]
    return meta


def write_meta(data: bytes, meta: ImageMetadata, *, text: dict[str, str], size: tuple[int, int], alpha: bool) -> bytes:
    """A PNG, JPEG, WebP or BMP file with these blocks in place of its own.

    Args:
        data: an encoded image.
        meta: what to put in.
        text: key and text pairs, written where the format has a place for them (PNG).
        size: width and height; alpha: whether it is transparent (both for WebP's header).
    """
    kind = kind_of(data)
    if kind == "png":
        return _write_png(data, meta, text)
    if kind == "jpeg":
        return _write_jpeg(data, meta)
    if kind == "webp":
        return _write_webp(data, meta, size, alpha)
    if kind == "bmp" and meta.resolution:
        return data[:38] + struct.pack("<ii", *(round(each / _METRE) for each in meta.resolution)) + data[46:]
    return data


# -- EXIF -------------------------------------------------------------------------------------------------------


def exif_turned(exif: bytes) -> bytes:
    """The same EXIF, with the orientation set to upright."""
    places: dict[int, int] = {}
    if read_directory(exif, places=places).get(_ORIENTATION, (0,))[0] != _SHORT:
        return exif
    at = places[_ORIENTATION]
    return exif[:at] + struct.pack(order_of(exif) + "H", 1) + exif[at + 2 :]


def exif_of(orientation: int) -> bytes:
    """A minimal EXIF that says nothing but the orientation."""
    return exif_with({_ORIENTATION: (3, 1, struct.pack("<H", orientation))}, "<")


def exif_of_tiff(data: bytes, orientation: int) -> bytes | None:
    """What a TIFF file says of its image, as EXIF; None where that is nothing."""
    order, tags = order_of(data), read_directory(data)
    tags = {number: said for number, said in tags.items() if number in _DESCRIBES}
    tags[_ORIENTATION] = 3, 1, struct.pack(order + "H", orientation)
    return exif_with(tags, order) if orientation != 1 or len(tags) > 1 else None


def photoshop_of_tiff(data: bytes) -> bytes | None:
    """Photoshop's resources in a TIFF file, IPTC among them, as a JPEG has them."""
    tags = read_directory(data)
    packed, iptc = (value if isinstance(value := tags.get(n, (0, 0, b""))[2], bytes) else b"" for n in (34377, 33723))
    if iptc and _IPTC_RESOURCE not in packed:
        packed += _IPTC_RESOURCE + bytes(2) + struct.pack(">I", len(iptc)) + iptc + bytes(len(iptc) % 2)
    return _IPTC_HEAD + packed if packed else None


def photoshop_tags(segment: bytes) -> Directory:
    """The tags of a TIFF file for Photoshop's resources as of a JPEG, and for IPTC in them."""
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
        if kind == b"iCCP" and not samples:  # readers pass over one that comes later
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
    new = [(k, b) for k, b in meta.png if not (k == b"iTXt" and b.split(b"\0", 1)[0] in keys)]
    if meta.resolution and not any(k == b"pHYs" for k, _ in new):
        new.append((b"pHYs", struct.pack(">IIB", *(round(each / _METRE) for each in meta.resolution), 1)))
    for comment in meta.comments:
        text |= {"Comment": comment.rstrip(b"\0").decode("utf-8", "replace")}
    if meta.icc:
        new = [(k, b) for k, b in new if k != b"sRGB"]
        new.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(meta.icc)))
    texts = [(_XMP_KEYWORD, meta.xmp)] if meta.xmp else []
    texts += [(key.encode("latin-1", "replace")[:79], said.encode()) for key, said in text.items()]
    new += [(b"eXIf", meta.exif)] if meta.exif else []
    new += [(b"iTXt", key + b"\0\0\0\0\0" + said) for key, said in texts]
    return PNG + b"".join(_chunk(k, b) for k, b in [chunks[0], *new, *chunks[1:]])


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
        elif marker == 0xE1 and body.startswith(_MORE_XMP):
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
    """One segment of a JPEG."""
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


def _write_jpeg(data: bytes, meta: ImageMetadata) -> bytes:
    """Puts blocks behind the JFIF segment with which our encoder begins."""
    blocks = (_EXIF_HEAD, meta.exif), (_XMP_HEAD, meta.xmp)
    profile, iptc = (_pieces(block or b"") for block in (meta.icc, (meta.iptc or b"").removeprefix(_IPTC_HEAD)))
    parts = [
        *((0xE1, head + block) for head, block in blocks if block and len(block) < _SEGMENT),
        *((0xE2, _ICC_HEAD + bytes((n, len(profile))) + piece) for n, piece in enumerate(profile, 1)),
        *((0xE1, each) for each in meta.more_xmp),
        *((0xED, _IPTC_HEAD + piece) for piece in iptc),
        *((0xFE, each) for each in meta.comments),
    ]
    said = meta.density
    if meta.resolution and not said:
        said = struct.pack(">BHH", 1, *(min(max(round(each), 1), 65_535) for each in meta.resolution))
    if said and len(said) == 5:
        data = data[:_DENSITY_AT] + said + data[_DENSITY_AT + 5 :]
    return data[:_JFIF_END] + b"".join(segment(*part) for part in parts) + data[_JFIF_END:]


def _pieces(block: bytes) -> list[bytes]:
    return [block[at : at + _SEGMENT] for at in range(0, len(block), _SEGMENT)]


# -- WebP -------------------------------------------------------------------------------------------------------


def _riff(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 12
    while at + 8 <= len(data):
        kind, size = struct.unpack_from("<4sI", data, at)
        yield kind, data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2


def _read_webp(data: bytes) -> ImageMetadata:
    found = dict(_riff(data))
    exif = found.get(b"EXIF", b"").removeprefix(_EXIF_HEAD) or None
    return ImageMetadata(icc=found.get(b"ICCP"), exif=exif, xmp=found.get(b"XMP "))


def _write_webp(data: bytes, meta: ImageMetadata, size: tuple[int, int], alpha: bool) -> bytes:
    pixels = [(k, b) for k, b in _riff(data) if k in (b"VP8 ", b"VP8L", b"ALPH")]
    flags = 0x20 * bool(meta.icc) | 0x10 * alpha | 0x08 * bool(meta.exif) | 0x04 * bool(meta.xmp)
    head = struct.pack("<I", flags) + (size[0] - 1).to_bytes(3, "little") + (size[1] - 1).to_bytes(3, "little")
    blocks = [(b"VP8X", head), (b"ICCP", meta.icc), *pixels, (b"EXIF", meta.exif), (b"XMP ", meta.xmp)]
    body = b"".join(k + struct.pack("<I", len(b)) + b + b"\0" * (len(b) % 2) for k, b in blocks if b)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body
