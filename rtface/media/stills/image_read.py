"""Reads still images with their bit depth and profile.

EXIF is read, too, except from AVIF, JPEG 2000, JPEG XL, PSD and PNM. FFmpeg or a library decodes the pixels. Profile,
EXIF and XMP are copied as blocks (`rtface.media.formats.image_meta`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import av

from rtface.errors import InputError, InputMissing
from rtface.frame import Frame
from rtface.media.formats.color import color_of, display_of, is_transparent
from rtface.media.formats.image_header import decodable, frame_header, jpeg_end, kind_of, more_of, size_of
from rtface.media.formats.image_meta import (
    CENTIMETRE,
    ImageMetadata,
    density,
    exif_of_tiff,
    not_kept,
    photoshop_of_tiff,
    read_meta,
    settle,
)
from rtface.media.formats.quantiser_tables import jpeg_step
from rtface.media.formats.tiff_tags import TIFF_FORM, TIFF_SHOWN, numbers, order_of, read_directory
from rtface.media.read.quantiser import one_step
from rtface.media.stills.dpx import DpxHeader
from rtface.media.stills.exr import ExrHeader, decode_exr
from rtface.media.stills.heif import ERRORS, decode_avif, decode_heic, heic_metadata
from rtface.media.stills.oiio import KINDS, decode_by_oiio
from rtface.redaction import shown
from rtface.util.av_arrays import decode_by
from rtface.util.foreign import open_regular

# A 4×5 inch negative scanned at 4000 dpi has 320 megapixels. A run on 144 megapixels of 8 bits needs 1.2 GB.
MAX_PIXELS = 350_000_000
_CODECS = {
    "png": "png",
    "jpeg": "mjpeg",
    "tiff": "tiff",
    "webp": "webp",
    "bmp": "bmp",
    "dpx": "dpx",
    "exr": "exr",
    "jp2": "jpeg2000",
}
_PNM = {b"1": "pbm", b"2": "pgm", b"3": "ppm", b"4": "pbm", b"5": "pgm", b"6": "ppm", b"7": "pam"}
# By EXIF orientation, the clockwise quarter turns and then the mirroring that make the stored image upright.
_UPRIGHT = {
    1: (0, False),
    2: (0, True),
    3: (2, False),
    4: (2, True),
    5: (1, True),
    6: (1, False),
    7: (3, True),
    8: (3, False),
}
_PARTS = {"psd": "layers", "heic": "images"}
_FULL_RANGE = 2
_TIFF_READ = (274, 282, 283, 296, 338, 700, 34675, *TIFF_FORM, *TIFF_SHOWN)
_INKS, _FLOAT, _LAYERS, _RAW, _REDUCED = 5, 3, 37724, 50706, 254  # CMYK and float samples; three tags
_TAGS, _BYTES, _EMPTY = (34675, 700), (1, 2, 7), (0, 0, b"")  # tags of profile and XMP; byte-like types; no tag


@dataclass(slots=True)
class Still:
    """An image file that has been read.

    Attributes:
        path: path as given.
        kind: kind of the image, from `rtface.media.formats.image_header.kind_of`.
        frame: the image as stored (not turned), marked as new. `frame.display` contains the orientation.
        meta: profile, EXIF and so on.
        more: description of additional contents, such as "holds 3 pages"; or "".
        changed: descriptions of the changes made by reading.
        damaged: whether a part of the image is missing or damaged.
    """

    path: str
    kind: str
    frame: Frame
    meta: ImageMetadata = field(default_factory=ImageMetadata)
    more: str = ""
    changed: tuple[str, ...] = ()
    damaged: bool = False


def data_of(path: str | os.PathLike[str]) -> bytes:
    """Reads a whole file. Raises InputMissing if that fails."""
    try:
        with open_regular(Path(path)) as file:
            return file.read()
    except OSError as error:
        raise InputMissing(
            "{path}: cannot be read ({why}); check the name", code="unreadable", path=shown(path), why=error.strerror
        ) from error


def read_image(path: str | os.PathLike[str]) -> Still:
    """Reads an image with its depth, colour model, profile and EXIF. Converts palettes to RGB and 1-bit images to gray.

    Raises:
        InputMissing: the file does not exist or may not be read.
        InputError: the file is empty, damaged, larger than the limit, or not an image.
    """
    name, data = shown(path), data_of(path)
    if not data:
        raise InputError("{name}: is empty (0 bytes); copy it again", code="file_empty", name=name)
    kind = kind_of(data)
    if data[4:12] == b"ftypavis" or (kind == "webp" and data[12:16] == b"VP8X" and data[20] & 2):
        raise InputError(
            "{name}: is an animation, not a still; convert it to a film or GIF first",
            code="animation",
            name=name,
        )
    if kind is None:
        raise InputError(
            "{name}: is not a readable image; use PNG, JPEG, TIFF, WebP, BMP, DPX or EXR",
            code="no_image",
            name=name,
        )
    if (size := size_of(data)) is not None:
        _check_pixels(name, *size)
    meta = _metadata(data, kind)
    if kind in (*KINDS, "avif", "heic"):
        image, count, profile, complete = *_decode_by_library(path, data, kind, name), True
        more = f"holds {count} {_PARTS.get(kind, 'pages')}" if count > 1 else ""
        meta.icc = meta.icc or profile
        settle(meta)
    else:
        (image, complete), more = _decode(data, kind, name), more_of(data)
    meta.unkept = not_kept(data, kind, more=bool(more))
    turns, mirror = _UPRIGHT[meta.orientation]
    header = scan_header(data)
    display = display_of(turns, mirror, header.aspect if isinstance(header, DpxHeader) else None, "progressive")
    image.pts, image.time_base, image.duration = 0, Fraction(1), 1
    color = color_of(image, codec=_CODECS.get(kind, ""))
    if isinstance(header, DpxHeader):
        color = replace(color, transfer=header.family)
    elif kind == "cineon":
        color = replace(color, transfer="log")
    quantisers = one_step(jpeg_step(meta.tables[0]), "jpeg", image) if meta.tables else None
    frame = Frame(image, 0, Fraction(1), 1, color, display, new=True, quantisers=quantisers)
    return Still(os.fspath(path), kind, frame, meta, more, (*_describe_changes(data, kind, meta),), not complete)


def _describe_changes(data: bytes, kind: str, meta: ImageMetadata) -> Iterator[str]:
    """Describes what was changed or left out when an image was read."""
    if (kind == "jpeg" and frame_header(data)[5:6] == b"\4") or meta.tiff_form.get(262) == (_INKS,):
        yield "CMYK became RGB"
    if set(meta.tiff_form.get(339, ())) & {_FLOAT}:
        yield "floating-point samples became 16 bits"
    tags = read_directory(data) if kind == "tiff" else {}
    if _LAYERS in tags:
        yield "Photoshop's layers are left out"
    if _RAW in tags or any(tags.get(_REDUCED, (0, 0, b""))[2]):
        yield "it may be a raw photo; only its preview is read"


@dataclass(slots=True)
class Origin:
    """The input file of an image to write.

    Attributes:
        path: path as given.
        kind: kind according to the content.
        data: bytes of the file.
        meta: profile, EXIF and so on.
    """

    path: str
    kind: str
    data: bytes
    meta: ImageMetadata


def read_origin(path: str | os.PathLike[str]) -> Origin:
    """Reads an image file without decoding its samples. Raises InputMissing."""
    data = data_of(path)
    kind = kind_of(data) or ""
    return Origin(os.fspath(path), kind, data, _metadata(data, kind))


def _decode(data: bytes, kind: str, name: str) -> tuple[av.VideoFrame, bool]:
    """Decodes an image. Also returns whether it is complete. Incomplete images other than JPEG raise InputError."""
    if kind == "exr":
        return _decode_exr(data, name), True
    codec = _PNM[data[1:2]] if kind == "pnm" else _CODECS[kind]
    complete, limit = True, {"max_pixels": str(MAX_PIXELS)}
    try:
        try:
            images = decode_by(codec, decodable(data), limit | ({"err_detect": "explode"} if kind == "jpeg" else {}))
        except av.FFmpegError:
            if kind != "jpeg":
                raise
            images, complete = decode_by(codec, decodable(data), limit), False
    except av.FFmpegError as error:
        raise _damage_error(name, error.strerror, "scan or copy it" if kind == "dpx" else "save it") from error
    if not images:
        raise InputError("{name}: ends before the image data; copy it again", code="cut_off", name=name)
    return _normalise(images[0], kind), complete and (kind != "jpeg" or jpeg_end(data) is not None)


def _decode_by_library(
    path: str | os.PathLike[str], data: bytes, kind: str, name: str
) -> tuple[av.VideoFrame, int, bytes | None]:
    try:
        if kind == "avif":
            return decode_avif(data), 1, None
        return decode_heic(data, MAX_PIXELS) if kind == "heic" else decode_by_oiio(path, MAX_PIXELS)
    except ERRORS as error:
        raise _damage_error(name, error, "save it") from error


def _damage_error(name: str, why: object, advice: str) -> InputError:
    return InputError(
        "{name}: is damaged, unsupported, or larger than {most} megapixels ({why}); {advice} again",
        code="image_damaged",
        name=name,
        most=MAX_PIXELS // 1_000_000,
        why=why,
        advice=advice,
    )


def _check_pixels(name: str, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise InputError(
            "{name}: is {width}×{height}; the limit is {most} megapixels; make it smaller first",
            code="image_large",
            name=name,
            width=width,
            height=height,
            most=MAX_PIXELS // 1_000_000,
        )


def _normalise(image: av.VideoFrame, kind: str) -> av.VideoFrame:
    if kind == "jp2" and not image.format.is_rgb:
        image.color_range = _FULL_RANGE  # sYCC is full-range
    if image.format.name == "pal8":
        rgba = image.reformat(format="rgba")
        return rgba if is_transparent(rgba) else image.reformat(format="rgb24", threads=1)
    if kind == "jpeg" and image.format.name == "gbrap":  # converted from CMYK
        return image.reformat(format="gbrp", threads=1)
    if image.format.name.startswith("mono"):
        return image.reformat(format="gray", src_color_range=_FULL_RANGE, dst_color_range=_FULL_RANGE)
    return image


def scan_header(data: bytes) -> DpxHeader | ExrHeader | None:
    """Reads a DPX or EXR header from a file's first bytes. Returns None for other or damaged images."""
    kind = kind_of(data)
    try:
        return DpxHeader.read(data) if kind == "dpx" else ExrHeader.read(data) if kind == "exr" else None
    except ValueError:
        return None


def _decode_exr(data: bytes, name: str) -> av.VideoFrame:
    header = scan_header(data)
    if isinstance(header, ExrHeader):
        for x0, y0, x1, y1 in (header.data, header.display):
            _check_pixels(name, x1 - x0 + 1, y1 - y0 + 1)
    try:
        return decode_exr(data)
    except (av.FFmpegError, ValueError) as error:
        raise InputError(
            "{name}: is a damaged or unsupported EXR ({why}); save it with a single part of scan lines",
            code="exr_damaged",
            name=name,
            why=error,
        ) from error


def _metadata(data: bytes, kind: str) -> ImageMetadata:
    return _tiff_meta(data) if kind == "tiff" else heic_metadata(data) if kind == "heic" else read_meta(data)


def _tiff_meta(data: bytes) -> ImageMetadata:
    tags, order = read_directory(data), order_of(data)
    stored = {number: values for number in _TIFF_READ if (values := numbers(tags, number, order))}
    orientation = next((number for number in stored.get(274, ()) if number in _UPRIGHT), 1)
    meta = ImageMetadata(exif=exif_of_tiff(data, orientation), iptc=photoshop_of_tiff(data))
    meta.tiff_shown = {number: (tags[number][0], stored[number]) for number in TIFF_SHOWN if number in stored}
    meta.icc, meta.xmp = (bytes(stored.get(n, ())) or None if tags.get(n, _EMPTY)[0] in _BYTES else None for n in _TAGS)
    meta.tiff_alpha = next((number for number in stored.get(338, (0,)) if number in (0, 1, 2)), None)
    meta.tiff_form = {number: stored.get(number, (1,)) for number in TIFF_FORM}
    with suppress(KeyError, TypeError, ZeroDivisionError):  # no resolution, or not per inch or centimetre
        across, down = (Fraction(*stored[number]) for number in (282, 283))
        meta.resolution = density(across, down, {2: Fraction(1), 3: CENTIMETRE}[stored.get(296, (2,))[0]])
    settle(meta)
    return meta
