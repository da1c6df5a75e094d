"""Writes PNG, JPEG, TIFF, WebP and BMP with profile and EXIF.

FFmpeg encodes the pixels, except for JPEG (`rtface.media.formats.jpeg`). Profile, EXIF and XMP are inserted as blocks.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from rtface._version import __version__
from rtface.errors import OutputError, UsageError
from rtface.frame import Color, Display, Frame
from rtface.media.files.image_names import IMAGE_KINDS
from rtface.media.files.outputs import check_target
from rtface.media.files.workfile import Target, write_whole
from rtface.media.formats.image_header import size_of
from rtface.media.formats.image_meta import ImageMetadata, exif_of, exif_turned, photoshop_tags, write_meta
from rtface.media.formats.jpeg import encode_jpeg, finer, tables_of_quality
from rtface.media.formats.pixel_format import nearest, pixel_format_info
from rtface.media.formats.tiff_tags import (
    TIFF_FORM,
    TIFF_OF_VALUES,
    Directory,
    exif_with,
    numbers,
    order_of,
    read_directory,
    tag_of,
    with_directory,
)
from rtface.media.marks.provenance import Change, own_tags, true_tags, xmp
from rtface.media.stills.dpx import COLOURS, new_dpx, rewrite_dpx, with_timecode
from rtface.media.stills.exr import rewrite_exr
from rtface.media.stills.image_read import Origin, Still
from rtface.util.av_arrays import copy_image, encode_by, plane_rows
from rtface.util.timecode import Timecode

_COLORSPACE = {"bt601": "ITU601", "bt709": "ITU709", "bt2020": "BT2020", "smpte240m": "SMPTE240M", "fcc": "FCC"}
# The minimum quality of a JPEG on libjpeg's scale. Coarser coding would lose the corrections.
_MIN_QUALITY = 95
SUFFIXES = {"png": ".png", "tiff": ".tif", "dpx": ".dpx", "exr": ".exr"}
"""Extensions of stills written from a film, by kind."""
_FULL_RANGE, _INCH = 2, 2
_SHORT, _RATIONAL, _HEADER, _DEFLATE = 3, 5, 8, 8  # TIFF types; bytes before the samples; compression
_FFMPEG_TAGS = (282, 283, 296, 305)  # tags in which FFmpeg writes a default resolution and its name
_JPEG_FORMATS = {(2, 2): "yuvj420p", (2, 1): "yuvj422p", (1, 2): "yuvj440p", (4, 1): "yuvj411p"}
ONLY_FROM_EXR = (
    "an EXR holds linear light, which rtface does not compute from other samples, so only an EXR input can become "
    "one; choose DPX or TIFF"
)
# The longest side that a format or its encoder allows.
_LONGEST = {"webp": 16_383, "jpeg": 65_500}


@dataclass(frozen=True, slots=True)
class ImagePlan:
    """The destination and kind of an image, chosen before any work.

    Attributes:
        target: the checked destination.
        kind: "png", "jpeg", "tiff", "webp" or "bmp".
    """

    target: Target
    kind: str


def plan_image(output: str | os.PathLike[str], *, still: Still | None = None, overwrite: bool = False) -> ImagePlan:
    """Checks that an image can be written.

    Args:
        output: file to write; its extension determines the kind.
        still: the input image; the output must not be the same file.
        overwrite: whether an existing file may be replaced.

    Raises:
        UsageError: the extension is not that of an image format.
        OutputError: the path cannot be written to, or the image is too large for the format.
    """
    kind = IMAGE_KINDS.get(Path(output).suffix.lower())
    if kind is None:
        raise UsageError(
            "{path}: has no extension of an image format; use one of {kinds}",
            code="image_format",
            path=os.fspath(output),
            kinds=", ".join(IMAGE_KINDS),
        )
    if still is not None:
        if kind == "exr" and still.kind != "exr":
            raise OutputError("{path}: {why}", code="output_reason", path=os.fspath(output), why=ONLY_FROM_EXR)
        _check_size(os.fspath(output), kind, still.frame.image)
    return ImagePlan(check_target(output, inputs=[still.path] if still else [], overwrite=overwrite), kind)


def _check_size(name: str, kind: str, image: av.VideoFrame) -> None:
    if max(image.width, image.height) > _LONGEST.get(kind, 1 << 31):
        raise OutputError(
            "{path}: a {kind} holds at most {most} samples a side, but the image has {width}×{height}; write a PNG "
            "or TIFF",
            code="image_side",
            path=name,
            kind=kind.upper(),
            most=_LONGEST[kind],
            width=image.width,
            height=image.height,
        )


def write_image(
    frame: Frame,
    plan: ImagePlan,
    *,
    still: Still | Origin | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Writes an image atomically.

    Args:
        frame: the image.
        plan: destination and kind of the image.
        still, tags: arguments of `image_bytes`.

    Raises:
        OutputError: the image cannot be encoded or written.
    """
    write_whole(plan.target, image_bytes(frame, plan.kind, plan.target.shown, still=still, tags=tags))


def image_bytes(
    frame: Frame,
    kind: str,
    name: str,
    *,
    still: Still | Origin | None = None,
    tags: Mapping[str, str] | None = None,
    rate: Fraction | None = None,
    timecode: Timecode | None = None,
) -> bytes:
    """Encodes an image file.

    PNG, TIFF and BMP keep every sample of RGB and gray images. A JPEG keeps its planes and subsampling, and gets tables
    at least as fine as the input's and those of quality 95. A lossless WebP stays lossless. YCbCr becomes RGB if the
    format requires it. A turned image keeps its EXIF orientation in formats whose viewers apply it; otherwise it is
    turned upright.

    Args:
        frame: the image.
        kind: kind of the file: one of `ImagePlan`, "dpx" or "exr".
        name: name of the file, for messages.
        still: the input, whose profile, EXIF and XMP are kept.
        tags: result of `rtface.media.marks.provenance.describe`; only tags that apply to the frame are written.
        rate, timecode: header values of a new DPX; `timecode` also replaces the one in an existing DPX or EXR.

    Raises:
        OutputError: the image cannot be encoded.
    """
    meta = replace(still.meta) if still else ImageMetadata()
    display = frame.display
    if display.quarter_turns or display.mirror:
        if still is not None and (kind == still.kind or kind in ("jpeg", "tiff", "webp")):
            meta.exif = meta.exif or exif_of(meta.orientation)
        else:
            if display.quarter_turns % 2 and meta.resolution:
                meta.resolution = meta.resolution[1], meta.resolution[0]
            frame = upright(frame)
            meta.exif = exif_turned(meta.exif) if meta.exif else None
    if kind != "png":
        meta.png = []
    if kind == "webp" and meta.icc and meta.icc[16:20] == b"GRAY":  # does not fit WebP's RGB samples
        meta.icc = None
    if still is not None and kind != still.kind:
        meta.tiff_shown, meta.tiff_alpha, meta.density = {}, None, None
    change = Change.of(frame)
    tags = true_tags(tags, change, own_tags({}, meta.xmp)) if tags and change else None
    if tags:
        meta.xmp = xmp(tags, meta.xmp)
    _check_size(name, kind, frame.image)
    try:
        if kind == "dpx":
            return _encode_dpx(frame, still, rate, timecode, creator=f"rtface {__version__}" if tags else "")
        if kind == "exr":
            if still is None or still.kind != "exr":
                raise OutputError("{path}: {why}", code="output_reason", path=name, why=ONLY_FROM_EXR)
            return rewrite_exr(_bytes_of(still), frame.image, tags=tags, timecode=timecode)
        return _encode_tiff(frame, meta, tags) if kind == "tiff" else _encode(frame, kind, meta, tags)
    except (av.FFmpegError, cv2.error, ValueError, struct.error) as error:
        why = "not enough memory" if isinstance(error, MemoryError) else " ".join(str(error).split())
        raise OutputError(
            "{path}: an image of {width}×{height} could not be encoded as {kind} ({why}); choose another format, "
            "such as PNG",
            code="image_unencoded",
            path=name,
            width=frame.image.width,
            height=frame.image.height,
            kind=kind.upper(),
            why=why,
        ) from error


def upright(frame: Frame) -> Frame:
    """Turns and mirrors the image upright and resets its display. A turned image becomes packed RGB or gray."""
    turns, mirror = frame.display.quarter_turns, frame.display.mirror
    if not turns and not mirror:
        return frame
    frame = _to_packed(frame)
    pixels = np.rot90(frame.image.to_ndarray(), -turns)[:, :: -1 if mirror else 1]
    image = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), frame.image.format.name)  # pyright: ignore
    image.color_range, image.pts, image.time_base = frame.image.color_range, frame.pts, frame.time_base
    return replace(frame, image=image, display=Display(fields=frame.display.fields))


def _to_packed(frame: Frame) -> Frame:
    """Converts to gray, gray16le, rgb24, rgb48le, rgba or rgba64le. Only YCbCr loses precision."""
    shape = pixel_format_info(frame.image.format.name)
    formats = {"gray": ("gray", "gray16le")}.get(shape.model, ("rgb24", "rgb48le"))
    pix_fmt = (("rgba", "rgba64le") if shape.alpha else formats)[shape.bits > 8]
    return replace(frame, image=_convert(frame.image, frame.color, pix_fmt))


def _convert(image: av.VideoFrame, color: Color, pix_fmt: str) -> av.VideoFrame:
    if image.format.name == pix_fmt:
        return image
    if pixel_format_info(image.format.name).model == "yuv" and pixel_format_info(pix_fmt).model == "rgb":
        return image.reformat(
            format=pix_fmt,
            src_colorspace=_COLORSPACE.get(color.matrix, "ITU709"),
            src_color_range=2 if color.full_range else 1,
            dst_color_range=_FULL_RANGE,
            interpolation="BICUBIC",
            threads=1,
        )
    out = image.reformat(format=pix_fmt, src_color_range=_FULL_RANGE, dst_color_range=_FULL_RANGE, threads=1)
    out.color_range = image.color_range
    return out


def _encode(frame: Frame, kind: str, meta: ImageMetadata, tags: Mapping[str, str] | None) -> bytes:
    image, color = frame.image, frame.color
    shape = pixel_format_info(image.format.name)
    if kind == "jpeg":
        image = _to_jpeg_planes(image, color)
        data = _encode_jpeg(image, meta)
    elif kind == "webp":
        lossless = shape.model != "yuv"
        pix_fmt = "bgra" if lossless else "yuva420p" if shape.alpha else "yuv420p"
        image = _convert(image, color, pix_fmt)
        data = encode_by("libwebp", image, {"lossless": "1"} if lossless else {"quality": "95"})
    else:
        if shape.model == "yuv" or (kind == "bmp" and (shape.model != "gray" or shape.bits > 8)):
            image = _convert(image, color, "bgr24" if kind == "bmp" else "rgb48be" if shape.bits > 8 else "rgb24")
        names = [f.name for f in av.Codec(kind, "w").video_formats or []]
        formats = [name for name in names if not name.startswith(("pal", "mono"))]
        image = _convert(image, color, nearest(image.format.name, formats, alpha=True)[0])
        data = encode_by(kind, image)
    return write_meta(
        data,
        meta,
        text=dict(tags or {}),
        size=(image.width, image.height),
        alpha=pixel_format_info(image.format.name).alpha,
    )


def _to_jpeg_planes(image: av.VideoFrame, color: Color) -> av.VideoFrame:
    """Converts to the planes of a JPEG: gray, or full-range BT.601. Keeps the subsampling if possible."""
    shape = pixel_format_info(image.format.name)
    if shape.model == "gray":
        return _convert(image, color, "gray")
    if shape.model == "yuv" and shape.bits == 8 and color.full_range and color.matrix == "bt601":
        target = _JPEG_FORMATS.get(shape.sampling, "yuvj444p")
        return (
            image
            if image.format.name == target
            else image.reformat(format=target, src_color_range=_FULL_RANGE, dst_color_range=_FULL_RANGE, threads=1)
        )
    # JPEG is full-range BT.601 (JFIF). With 4:4:4, RGB suffers only rounding errors.
    rgb = _convert(image, color, "rgb24")
    return rgb.reformat(
        format="yuvj444p", dst_colorspace="ITU601", src_color_range=_FULL_RANGE, dst_color_range=_FULL_RANGE, threads=1
    )


def _encode_jpeg(image: av.VideoFrame, meta: ImageMetadata) -> bytes:
    """Encodes a JPEG. Its tables are at least as fine as the input's and those of `_MIN_QUALITY`."""
    minimum = tables_of_quality(_MIN_QUALITY)
    planes = [plane_rows(plane)[: plane.height, : plane.width] for plane in image.planes]
    tables = finer(meta.tables, minimum) if meta.tables else minimum
    return encode_jpeg(planes, pixel_format_info(image.format.name).sampling, tables)


def _encode_dpx(
    frame: Frame, still: Still | Origin | None, rate: Fraction | None, timecode: Timecode | None, *, creator: str
) -> bytes:
    """Updates the input's DPX, or encodes a new one. A new DPX is RGB or gray with 8, 10, 12 or 16 bits."""
    old = _bytes_of(still) if still is not None and still.kind == "dpx" else b""
    if old and size_of(old) == (frame.image.width, frame.image.height):
        data = rewrite_dpx(old, frame.image)
        return data if timecode is None else with_timecode(data, timecode)
    shape = pixel_format_info(frame.image.format.name)
    gray = shape.model == "gray"
    pix_fmt = (
        ("gray" if gray else "rgb24")
        if shape.bits <= 8
        else "gray16le"
        if gray
        else ("gbrp10le" if shape.bits <= 10 else "gbrp12le" if shape.bits <= 12 else "rgb48le")
    )
    image = copy_image(_convert(frame.image, frame.color, pix_fmt))
    data = new_dpx(image, transfer=frame.color.transfer, rate=rate, timecode=timecode, creator=creator)
    return data[: COLOURS.start] + old[COLOURS] + data[COLOURS.stop :] if old else data


def _bytes_of(still: Still | Origin) -> bytes:
    return still.data if isinstance(still, Origin) else Path(still.path).read_bytes()


def _encode_tiff(frame: Frame, meta: ImageMetadata, tags: Mapping[str, str] | None) -> bytes:
    """Encodes a TIFF with FFmpeg, and adds the tags. Keeps the byte order of EXIF, because makers' notes need it."""
    image, exif = _to_packed(frame).image, meta.exif or exif_of(1)
    if (order := order_of(exif)) == ">":
        image = av.VideoFrame.from_ndarray(image.to_ndarray().byteswap(), image.format.name)
    data = encode_by("tiff", image, {"compression_algo": "deflate"})
    ffmpeg_tags = {n: tag for n, tag in read_directory(data).items() if n not in _FFMPEG_TAGS}
    layout = {number: numbers(ffmpeg_tags, number, "<")[:1] or (1,) for number in TIFF_FORM}
    same_layout = all((value,) == layout[number] for number, values in meta.tiff_form.items() for value in values)
    entries = {number: tag_of(tag[0], numbers(ffmpeg_tags, number, "<"), order) for number, tag in ffmpeg_tags.items()}
    entries[259] = tag_of(_SHORT, (_DEFLATE,), order)  # Deflate in the TIFF supplement; FFmpeg writes an older number
    entries |= {n: tag_of(*tag, order) for n, tag in meta.tiff_shown.items() if same_layout or n not in TIFF_OF_VALUES}
    if pixel_format_info(image.format.name).alpha:
        entries[338] = tag_of(_SHORT, (2 if meta.tiff_alpha is None else meta.tiff_alpha,), order)
    for number, ratio in zip((282, 283), meta.resolution or (), strict=False):
        entries[number] = tag_of(_RATIONAL, ratio.limit_denominator(1 << 16).as_integer_ratio(), order)
        entries[296] = tag_of(_SHORT, (_INCH,), order)
    directory: Directory = {**entries, **{n: tag for n, tag in read_directory(exif).items() if n not in TIFF_FORM}}
    directory |= {34675: (7, len(meta.icc), meta.icc)} if meta.icc else {}
    directory |= {700: (1, len(meta.xmp), meta.xmp)} if meta.xmp else {}
    directory |= photoshop_tags(meta.iptc) if meta.iptc else {}
    directory |= {305: (2, 7, b"rtface\0")} if tags else {}
    return with_directory(exif_with({}, order)[:_HEADER] + data[_HEADER:], directory)
