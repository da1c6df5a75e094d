"""ICC profiles, EXIF and XMP in PNG, JPEG and WebP files: taken out of one file and put into another.

Only whole blocks are moved; the one thing ever changed inside is EXIF's orientation, when pixels have been turned.
PNG: W3C PNG 3rd edition; JPEG: EXIF 2.32, ICC.1 annex B.4, XMP part 3; WebP: RIFF container specification.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, TypeAlias

from rtface.media.formats.image_view import View, bmp_view, exif_view, jfif_view, png_view
from rtface.media.formats.mp4 import boxes
from rtface.media.formats.tiff_tags import Directory, exif_with, order_of, read_directory

_PNG = b"\x89PNG\r\n\x1a\n"
# Chunks that say how the samples are to be read, or something about the image; the rest is the encoder's own.
_PNG_COLORS = {b"gAMA", b"cHRM", b"sRGB", b"cICP", b"mDCV", b"cLLI"}
PNG_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_PNG_KEPT = {*_PNG_COLORS, *PNG_TEXTS, b"pHYs", b"tIME", b"oFFs", b"sCAL", b"pCAL", b"sTER"}
_BELOW_PROFILE = {"gAMA", "cHRM", "sRGB"}
_PNG_PACKED = {b"iCCP", b"zTXt"}  # a decoder unpacks them
_XMP_KEYWORD = b"XML:com.adobe.xmp"
_EXIF_HEAD, _XMP_HEAD, _ICC_HEAD = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0"
_IPTC_RESOURCE = b"8BIM\x04\x04"
_MORE_XMP, _IPTC_HEAD = b"http://ns.adobe.com/xmp/extension/\0", b"Photoshop 3.0\0"
_MPF_HEAD = b"MPF\0"
_MARKER = re.compile(rb"\xff+([^\0\1\xd0-\xd7\xff])")  # with a length, or the end
_FILM = re.compile(rb"\xff\xd9.{0,64}?\0\0\0.ftyp(?:isom|iso\d|mp4\d|avc1|qt  |M4V |hvc1)", re.DOTALL)
_ORIENTATION, _SHORT = 0x0112, 3
_METRE, CENTIMETRE = Fraction(254, 10_000), Fraction(254, 100)
_DENSEST = 50_000  # samples of an inch
_LIKE_SRGB = (1, 2, 6, 13)  # transfer characteristics that are shown as sRGB is
_UUIDS = {bytes.fromhex("be7acfcb97a942e89c71999491e3afac"): "xmp", b"JpgTiffExif->JP2": "exif"}
_PNM = re.compile(rb"P(?:[1-6]\s+(?:#[^\n]*\n\s*)*\d+\s|7\n)")
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
SAYS_NOTHING = {_ORIENTATION, 282, 283, 296}
"""Tags of EXIF that say how to show an image: orientation and resolution."""
# Bytes of an ICC profile that are read at most; large ones of printers have two million. Deflate packs a thousand to
# one, so a small file could unpack to gigabytes.
_ICC_BYTES = 16 << 20


Tables: TypeAlias = "tuple[tuple[int, ...], tuple[int, ...]]"
"""Quantisation tables of luma and chroma, 64 steps of 1 to 255 in zigzag order."""


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
        tiff: TIFF tags worth keeping: number and value.
        tiff_shown: TIFF tags by which the samples are shown: number, and type, count and value.
        tiff_form: bits, kind of colours, number and format of a TIFF's samples, by their tags.
        density: unit and numbers of samples of a JPEG, as JFIF has them.
        view: what the header says of how the samples are shown, but for profile and orientation.
        tables: quantisation tables that a JPEG was encoded with.
        rgb: whether a JPEG's header says, as most viewers read it, that its components are red, green and blue.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    comments: list[bytes] = field(default_factory=list[bytes])
    more_xmp: list[bytes] = field(default_factory=list[bytes])
    resolution: tuple[Fraction, Fraction] | None = None
    png: list[tuple[bytes, bytes]] = field(default_factory=list[tuple[bytes, bytes]])
    tiff: dict[int, str] = field(default_factory=dict[int, str])
    tiff_shown: dict[int, tuple[int, int, Any]] = field(default_factory=dict[int, tuple[int, int, Any]])
    tiff_form: dict[int, tuple[Any, ...]] = field(default_factory=dict[int, tuple[Any, ...]])
    density: bytes | None = None
    view: View = field(default_factory=View)
    tables: Tables | None = None
    rgb: bool = False

    @property
    def orientation(self) -> int:
        """EXIF orientation 1…8; 1 is upright."""
        return exif_orientation(self.exif) if self.exif else 1


def kind_of(data: bytes) -> str | None:
    """ "png", "jpeg", "webp", "tiff", "dpx", "exr", "bmp", or one that is read only ("avif", "jp2", "pnm", "tga") by a
    file's first bytes, None for anything else."""
    if data.startswith(_PNG):
        return "png"
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "tiff"
    if data[:4] in (b"SDPX", b"XPDS"):
        return "dpx"
    if data[:4] == b"v/1\x01":
        return "exr"
    if data[4:12] in (b"ftypavif", b"ftypmif1") and b"avif" in data[8:40]:  # an animation ("avis") is a film
        return "avif"
    if data.startswith(b"\xff\x4f\xff\x51") or (data[4:8] == b"jP  " and data[20:24] in (b"jp2 ", b"jpx ")):
        return "jp2"
    if _PNM.match(data):
        return "pnm"
    if _is_tga(data):
        return "tga"
    return "bmp" if data[:2] == b"BM" else None


# Major brands of HEIF: its images and sequences of HEVC (HEIC), and those of any codec.
_HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"heif", b"mif1", b"mif2", b"msf1")


def unread_kind(data: bytes) -> str:
    """The kind of an image that is not read, by a file's first bytes; "" for anything else. FFmpeg opens some of them
    as films, of one tile of the picture or of each of its sizes."""
    if data[4:8] == b"ftyp" and data[8:12] in _HEIF:
        return "" if kind_of(data) or b"avis" in data[8:40] else "HEIC"
    if data.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL ")):
        return "JPEG XL"
    if data.startswith(b"\0\0\1\0") and data[4:5] > b"\0" and data[5:6] == data[9:10] == b"\0":
        return "ICO"
    return "PSD" if data.startswith(b"8BPS") else ""


def _is_tga(data: bytes) -> bool:
    """Whether 18 bytes can only be the header of a Targa image, which has no name of its kind."""
    if len(data) < 18:
        return False
    mapped, kind, width, height, bits, flags = struct.unpack_from("<xBB9xHHBB", data)
    return (
        width > 0 < height
        and bits in (8, 15, 16, 24, 32)
        and flags & 0xC0 == 0
        and (mapped, kind) in ((0, 2), (0, 3), (0, 10), (0, 11), (1, 1), (1, 9))
        and (mapped == 1 or data[3:8] == bytes(5))
    )


def size_of(data: bytes) -> tuple[int, int] | None:
    """Width and height of a PNG, JPEG, AVIF or DPX by its header alone, None for other kinds and damaged ones."""
    kind = kind_of(data)
    try:
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
            for marker, body in segments(data):
                if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
                    height, width = struct.unpack_from(">HH", body, 1)
                    return width, height
    except struct.error:
        return None
    return None


def more_of(data: bytes) -> str:
    """What else a PNG or JPEG file holds, in words: further frames or images, or a film; "" for nothing."""
    kind = kind_of(data)
    with suppress(struct.error, IndexError):
        if kind == "png":
            chunks = list(_chunks(data))
            frames = next((struct.unpack_from(">I", body)[0] for name, body in chunks if name == b"acTL"), 1)
            if any(name == b"fdAT" for name, _ in chunks):  # the image itself need not be one of them
                frames = max(frames, 2)
            return f"holds {frames} frames" if frames > 1 else ""
        if kind == "jpeg":
            images = max(
                [_images(body) for marker, body in segments(data) if marker == 0xE2 and body.startswith(_MPF_HEAD)],
                default=1,
            )
            if images > 1:
                return f"holds {images} images"
            if _FILM.search(data):
                return "holds a film (motion photo)"
    return ""


def _images(body: bytes) -> int:
    """Number of images by a JPEG's multi-picture segment (CIPA DC-007)."""
    tiff = body[len(_MPF_HEAD) :]
    order = order_of(tiff)
    at = struct.unpack_from(f"{order}I", tiff, 4)[0]
    for entry in range(struct.unpack_from(f"{order}H", tiff, at)[0]):
        tag, _, _, value = struct.unpack_from(f"{order}HHII", tiff, at + 2 + 12 * entry)
        if tag == 0xB001:
            return value
    return 1


def read_meta(data: bytes) -> ImageMetadata:
    """The blocks of an image file that is no TIFF; damaged ones are left out."""
    kind = kind_of(data)
    read = {"png": _read_png, "jpeg": _read_jpeg, "webp": _read_webp, "avif": _read_boxes, "jp2": _read_boxes}.get(
        kind or ""
    )
    meta = read(data) if read else ImageMetadata()
    if kind == "bmp":
        meta.view = bmp_view(data)
        meta.resolution = density(*struct.unpack_from("<ii", data.ljust(46, b"\0"), 38), _METRE)
    settle(meta)
    return meta


def settle(meta: ImageMetadata) -> None:
    """Leaves out of metadata what the rest of it, or RGB, makes void: the profile of inks, curves below a profile."""
    if meta.icc and meta.icc[16:20] in (b"CMYK", b"Lab "):
        meta.icc = None
    if meta.icc:  # it stands above these
        meta.view = {what: said for what, said in meta.view.items() if what not in _BELOW_PROFILE}
    elif meta.exif:
        meta.view |= exif_view(meta.exif)


def density(across: float | Fraction, down: float | Fraction, unit: Fraction) -> tuple[Fraction, Fraction] | None:
    """Samples of an inch by those of a unit; `unit` is an inch in units. None for none, or senseless ones."""
    found = Fraction(across) * unit, Fraction(down) * unit
    return found if min(found) > 0 and max(found) < _DENSEST else None


def _read_boxes(data: bytes) -> ImageMetadata:
    """AVIF and JPEG 2000: the ICC profile of a colour box ("colr" of AVIF with a kind of four letters, of JPEG 2000
    with a number), EXIF and XMP, and AVIF's code points of colours, as a PNG has them."""
    meta, more = ImageMetadata(), dict(_items(data))
    match = re.search(rb"(....)colr(?:prof|rICC|\x02..)", data[:_ICC_BYTES], re.DOTALL)
    profile = data[match.end() : match.start() + int.from_bytes(match[1], "big")] if match else b""
    meta.icc = profile if profile[36:40] == b"acsp" else None
    exif = more.get("exif", b"")
    # The samples were decoded upright.
    meta.exif = exif_turned(exif) if exif[:4] in (b"II*\0", b"MM\0*") else None
    meta.xmp = more.get("xmp")
    points = re.search(rb"colrnclx\0(.)\0(.)", data[: 1 << 20], re.DOTALL)
    if points and not meta.icc and (points[1][0] not in (1, 2) or points[2][0] not in _LIKE_SRGB):
        meta.view["cICP"] = points[1] + points[2] + b"\0\1"
        meta.png = [(b"cICP", meta.view["cICP"])]
    return meta


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and body of the boxes of an ISO base media file."""
    at = 0
    for kind, size in boxes(io.BytesIO(data)):
        head = 16 if data[at : at + 4] == b"\0\0\0\1" else 8
        yield kind, data[at + head : at + size]
        at += size


def _items(data: bytes) -> Iterator[tuple[str, bytes]]:
    """EXIF and XMP: of JPEG 2000 boxes of their own, of AVIF items (ISO/IEC 23008-12, annex A)."""
    for kind, body in _boxes(data):
        if kind == b"uuid" and body[:16] in _UUIDS:
            yield _UUIDS[body[:16]], body[16:]
    meta = dict(_boxes(dict(_boxes(data)).get(b"meta", b"")[4:]))
    kinds, about = dict[bytes, int](), meta.get(b"iinf", b"")
    for _, entry in _boxes(about[8 if about[:1] > b"\0" else 6 :]):
        wide = 4 if entry[:1] == b"\3" else 2
        kinds.setdefault(entry[6 + wide : 10 + wide], int.from_bytes(entry[4 : 4 + wide], "big"))
    for number, inside, at, size in _places(meta.get(b"iloc", b"")):
        body = (meta.get(b"idat", b"") if inside else data)[at : at + size]
        if number == kinds.get(b"Exif"):
            yield "exif", body[4 + int.from_bytes(body[:4], "big") :]
        elif number == kinds.get(b"mime"):
            yield "xmp", body


def _places(iloc: bytes) -> Iterator[tuple[int, bool, int, int]]:
    """Number of each item of one piece of an AVIF, and where it is: whether in the box "idat", offset, size."""
    file = io.BytesIO(iloc)

    def number(size: int) -> int:
        return int.from_bytes(file.read(size), "big")

    version, sizes = number(4) >> 24, number(2)
    wide = 4 if version == 2 else 2
    for _ in range(min(number(wide), len(iloc))):
        item, inside, _, base = number(wide), version > 0 and number(2) & 1, number(2), number(sizes >> 4 & 15)
        for _ in range(min(pieces := number(2), len(iloc))):
            number(sizes & 15 if version else 0)
            at, size = base + number(sizes >> 12), number(sizes >> 8 & 15)
            if pieces == 1:
                yield item, bool(inside), at, size


@dataclass(frozen=True, slots=True)
class AvifShape:
    """What the header of an AVIF says of its samples (ISO/IEC 23008-12, AV1 in ISOBMFF).

    Attributes:
        turns, mirror: clockwise quarter turns, and then whether to mirror, that make it upright.
        bits: of a sample: 8, 10 or 12.
    """

    turns: int = 0
    mirror: bool = False
    bits: int = 8


def avif_shape(data: bytes) -> AvifShape:
    """What the header of an AVIF says of its samples."""
    head = data[: 1 << 20]
    turn, flip = (re.search(rb"\0\0\0\x09" + name + rb"(.)", head, re.DOTALL) for name in (b"irot", b"imir"))
    coded = re.search(rb"av1C..(.)", head, re.DOTALL)
    flags = coded[1][0] if coded else 0
    turns = -(turn[1][0] & 3) % 4 if turn else 0
    if flip is not None and not flip[1][0] & 1:  # exchanges top and bottom
        turns = (turns + 2) % 4
    return AvifShape(turns, flip is not None, 8 if not flags & 0x40 else 12 if flags & 0x20 else 10)


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


def exif_orientation(exif: bytes) -> int:
    """The orientation tag of the first directory, 1 when it is missing or senseless."""
    kind, _, said = read_directory(exif).get(_ORIENTATION, (0, 0, b""))
    value = struct.unpack_from(order_of(exif) + "H", said)[0] if kind == _SHORT and isinstance(said, bytes) else 1
    return value if 1 <= value <= 8 else 1


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


def exif_of_tiff(data: bytes, orientation: int, without: Collection[int]) -> bytes | None:
    """What a TIFF file says of its image, as EXIF; None where that is nothing. Tags may be left out."""
    order, tags = order_of(data), read_directory(data)
    tags = {number: said for number, said in tags.items() if number in _DESCRIBES and number not in without}
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


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(_PNG)
    while at + 12 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        yield kind, data[at + 8 : at + 8 + size]
        at += 12 + size


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _read_png(data: bytes) -> ImageMetadata:
    meta = ImageMetadata(view=png_view(_chunks(data), _PNG_COLORS))
    samples = False
    for kind, body in _chunks(data):
        samples = samples or kind == b"IDAT"
        if kind == b"iCCP" and not samples:  # readers pass over one that comes later
            meta.icc = _unpacked(body[body.find(b"\0") + 2 :])
        elif kind == b"eXIf":
            meta.exif = body
        elif kind == b"iTXt" and body.startswith(_XMP_KEYWORD + b"\0\0\0\0\0"):
            meta.xmp = body[len(_XMP_KEYWORD) + 5 :]
        elif kind in _PNG_KEPT:
            meta.png.append((kind, body))
            if kind == b"pHYs" and body[8:] == b"\1":
                meta.resolution = density(*struct.unpack_from(">II", body), _METRE)
    return meta


def _unpacked(packed: bytes) -> bytes | None:
    """A deflated ICC profile; None where it is damaged, cut off, or larger than any real one."""
    inflate = zlib.decompressobj()
    try:
        profile = inflate.decompress(packed, _ICC_BYTES)
    except zlib.error:
        return None
    return profile if inflate.eof else None


def decodable(data: bytes) -> bytes:
    """A PNG without its packed blocks (profile and text), which decoders unpack whatever their size; other kinds and
    PNGs that have none come back as they are."""
    if kind_of(data) != "png":
        return data
    kept, at, begin = list[memoryview](), len(_PNG), 0
    whole = memoryview(data)
    while at + 12 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        if kind in _PNG_PACKED:
            kept.append(whole[begin:at])
            begin = at + 12 + size
        at += 12 + size
    return b"".join([*kept, whole[begin:]]) if kept else data


def unpacks_large(data: bytes) -> bool:
    """Whether a PNG's profile or text is far larger than any real one, once it is unpacked."""
    for kind, body in _chunks(data):
        if kind in _PNG_PACKED:
            with suppress(zlib.error):
                if len(zlib.decompressobj().decompress(body[body.find(b"\0") + 2 :], _ICC_BYTES)) == _ICC_BYTES:
                    return True
    return False


def _write_png(data: bytes, meta: ImageMetadata, text: dict[str, str]) -> bytes:
    chunks = [(k, b) for k, b in _chunks(data) if k not in _PNG_KEPT and k not in (b"iCCP", b"eXIf")]
    head, rest = chunks[0], chunks[1:]
    keys = {key.encode("latin-1", "replace")[:79] for key in text}
    new = [(k, b) for k, b in meta.png if not (k == b"iTXt" and b.split(b"\0", 1)[0] in keys)]
    if meta.resolution and not any(k == b"pHYs" for k, _ in new):
        new.append((b"pHYs", struct.pack(">IIB", *(round(each / _METRE) for each in meta.resolution), 1)))
    for comment in meta.comments:
        text |= {"Comment": comment.rstrip(b"\0").decode("utf-8", "replace")}
    if meta.icc:
        new = [(k, b) for k, b in new if k != b"sRGB"]
        new.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(meta.icc)))
    if meta.exif:
        new.append((b"eXIf", meta.exif))
    if meta.xmp:
        new.append((b"iTXt", _XMP_KEYWORD + b"\0\0\0\0\0" + meta.xmp))
    for key, value in text.items():
        new.append((b"iTXt", key.encode("latin-1", "replace")[:79] + b"\0\0\0\0\0" + value.encode()))
    return _PNG + b"".join(_chunk(k, b) for k, b in [head, *new, *rest])


# -- JPEG -------------------------------------------------------------------------------------------------------


def segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and body of a JPEG's segments before its first scan."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        if data[at + 1] == 0xFF:  # may stand in front of any marker
            at += 1
            continue
        marker, size = data[at + 1], struct.unpack_from(">H", data, at + 2)[0]
        if marker == 0xDA:
            return
        yield marker, data[at + 4 : at + 2 + size]
        at += 2 + size


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
            meta.density, meta.view = body[7:12], jfif_view(body)
            if body[7:8] in (b"\1", b"\2") and len(body) >= 12:
                meta.resolution = density(
                    *struct.unpack_from(">HH", body, 8), CENTIMETRE if body[7] == 2 else Fraction(1)
                )
        elif marker == 0xEE and body[:5] == b"Adobe" and body[11:12] == b"\0" and meta.density is not None:
            meta.view["Adobe's transform"] = 0  # against JFIF, which is YCbCr
    meta.tables, meta.rgb = quantisation_tables(data), _says_rgb(data)
    if parts:
        meta.icc = b"".join(parts[i] for i in sorted(parts))
    return meta


def has_end(data: bytes) -> bool:
    """Whether the marker that ends a JPEG is in it."""
    at = 2
    while (found := _MARKER.search(data, at)) and found[1] != b"\xd9":
        at = found.end() + int.from_bytes(data[found.end() : found.end() + 2], "big")
    return found is not None


def frame_header(data: bytes) -> bytes:
    """The segment that begins the samples of a JPEG; nothing where it is missing."""
    return next((body for marker, body in segments(data) if 0xC0 <= marker <= 0xC2), b"")


def _says_rgb(data: bytes) -> bool:
    """By the rules of libjpeg: JFIF is YCbCr, then Adobe's marker decides, then the names of the components."""
    found = list(segments(data))
    if any(marker == 0xE0 and body.startswith(b"JFIF\0") for marker, body in found):
        return False
    frame = frame_header(data)
    if frame[5:6] != b"\3":
        return False
    adobe = [body for marker, body in found if marker == 0xEE and body.startswith(b"Adobe") and len(body) > 11]
    return not adobe[-1][11] if adobe else frame[6:15:3] == b"RGB"


def quantisation_tables(data: bytes) -> Tables | None:
    """The quantisation tables of a JPEG; None where they are damaged or come later."""
    found, used = dict[int, tuple[int, ...]](), list[int]()
    try:
        for marker, body in segments(data):
            while marker == 0xDB and body:
                wide, number = body[0] >> 4, body[0] & 15
                steps = struct.unpack_from(">64H" if wide else ">64B", body, 1)
                found[number] = tuple(min(max(step, 1), 255) for step in steps)
                body = body[65 + 64 * bool(wide) :]  # one segment may hold several
            if 0xC0 <= marker <= 0xC2:
                used = [body[8 + 3 * n] for n in range(body[5])]
        own = [found[number] for number in used]
    except (struct.error, IndexError, KeyError):
        return None
    if not own:
        return None
    return own[0], tuple(map(min, *own[1:])) if len(own) > 2 else own[-1]


def segment(marker: int, body: bytes) -> bytes:
    """One segment of a JPEG."""
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


def _write_jpeg(data: bytes, meta: ImageMetadata) -> bytes:
    own = b"".join(
        segment(m, b)
        for m, b in segments(data)
        if not (m in (0xE1, 0xED, 0xFE) or (m == 0xE2 and b.startswith(_ICC_HEAD)))
    )
    scan = _scan_at(data)
    new = b""
    if meta.exif and len(meta.exif) < 65_000:
        new += segment(0xE1, _EXIF_HEAD + meta.exif)
    if meta.xmp and len(meta.xmp) < 65_000:
        new += segment(0xE1, _XMP_HEAD + meta.xmp)
    if meta.icc:
        pieces = [meta.icc[i : i + 65_000] for i in range(0, len(meta.icc), 65_000)]
        for number, piece in enumerate(pieces, 1):
            new += segment(0xE2, _ICC_HEAD + bytes((number, len(pieces))) + piece)
    new += b"".join(segment(0xE1, each) for each in meta.more_xmp)
    for at in range(len(_IPTC_HEAD), len(meta.iptc or b""), 65_000):
        new += segment(0xED, _IPTC_HEAD + (meta.iptc or b"")[at : at + 65_000])
    new += b"".join(segment(0xFE, each) for each in meta.comments)
    # The JFIF segment, where there is one, has to stay first; the encoder writes it first.
    jfif = own.startswith(b"\xff\xe0")
    first = 2 + struct.unpack_from(">H", own, 2)[0] if jfif else 0
    said = meta.density
    if meta.resolution and not said:
        said = struct.pack(">BHH", 1, *(min(max(round(each), 1), 65_535) for each in meta.resolution))
    if jfif and said and len(said) == 5:  # behind name and version
        own = own[:11] + said + own[16:]
    return data[:2] + own[:first] + new + own[first:] + data[scan:]


def _scan_at(data: bytes) -> int:
    at = 2
    while data[at + 1] != 0xDA:
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    return at


# -- WebP -------------------------------------------------------------------------------------------------------


def _riff(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 12
    while at + 8 <= len(data):
        kind, size = struct.unpack_from("<4sI", data, at)
        yield kind, data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2


def _read_webp(data: bytes) -> ImageMetadata:
    found = dict(_riff(data))
    exif = found.get(b"EXIF")
    if exif and exif.startswith(_EXIF_HEAD):
        exif = exif[len(_EXIF_HEAD) :]
    return ImageMetadata(icc=found.get(b"ICCP"), exif=exif, xmp=found.get(b"XMP "))


def _write_webp(data: bytes, meta: ImageMetadata, size: tuple[int, int], alpha: bool) -> bytes:
    pixels = [(k, b) for k, b in _riff(data) if k in (b"VP8 ", b"VP8L", b"ALPH")]
    flags = 0x20 * bool(meta.icc) | 0x10 * alpha | 0x08 * bool(meta.exif) | 0x04 * bool(meta.xmp)
    head = struct.pack("<I", flags) + (size[0] - 1).to_bytes(3, "little") + (size[1] - 1).to_bytes(3, "little")
    blocks = [(b"VP8X", head)]
    blocks += [(b"ICCP", meta.icc)] if meta.icc else []
    blocks += pixels
    blocks += [(b"EXIF", meta.exif)] if meta.exif else []
    blocks += [(b"XMP ", meta.xmp)] if meta.xmp else []
    body = b"".join(k + struct.pack("<I", len(b)) + b + b"\0" * (len(b) % 2) for k, b in blocks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body
