"""Checks, copies and wraps images that callers pass in, without modifying them."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Literal, cast

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.plane import VideoPlane

from rtface.errors import UsageError
from rtface.frame import Bytes

ArrayFormat = Literal["rgb", "bgr"]
_PIX_FMT = {"rgb": "rgb24", "bgr": "bgr24"}


def check_format(name: str) -> ArrayFormat:
    """Returns `name` if it is "rgb" or "bgr".

    Raises:
        UsageError: `name` is anything else.
    """
    if name not in _PIX_FMT:
        raise UsageError(
            'format={value!r}: use "rgb", or "bgr" for images from OpenCV', code="array_format", value=name
        )
    return cast(ArrayFormat, name)


def image_from_array(image: Any, format: ArrayFormat) -> av.VideoFrame:
    """Copies an H×W×3 uint8 image into a packed RGB or BGR frame.

    Raises:
        UsageError: `image` is not an array, or has a wrong dtype or shape; the message says how to correct it.
    """
    if not isinstance(image, np.ndarray):
        raise UsageError(
            "a frame must be a numpy array or an av.VideoFrame, not {type}; numpy.asarray(image) converts a "
            "PIL image to an array",
            code="array_type",
            type=type(image).__name__,
        )
    if image.dtype != np.uint8:
        raise UsageError(
            "a frame must be uint8 (0…255), not {dtype}; (image * 255).round().astype(numpy.uint8) converts "
            "floats in 0…1; (image >> 8).astype(numpy.uint8) converts 16-bit images",
            code="array_dtype",
            dtype=image.dtype,
        )
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise UsageError(
            "a frame must be height×width×3 and not empty, but is {shape}; "
            "numpy.repeat(image[..., None], 3, axis=2) makes gray images colour, image[..., :3] drops alpha, "
            "image.transpose(1, 2, 0) puts channels last",
            code="array_shape",
            shape="×".join(map(str, image.shape)),
        )
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(image), _PIX_FMT[format])


def copy_image(image: av.VideoFrame) -> av.VideoFrame:
    """Copies a frame's samples, times and colour tags, without its side data."""
    copy = av.VideoFrame(image.width, image.height, image.format.name)
    for source, target in zip(image.planes, copy.planes, strict=True):
        rows_in = plane_rows(source)
        rows_out = plane_rows(target)
        row_bytes = min(rows_in.shape[1], rows_out.shape[1])
        rows_out[:, :row_bytes] = rows_in[:, :row_bytes]
    copy.pts = image.pts
    if image.time_base:  # frames that were not decoded have none
        copy.time_base = image.time_base
    copy.duration = image.duration
    copy.colorspace, copy.color_range = image.colorspace, image.color_range
    copy.color_primaries, copy.color_trc = image.color_primaries, image.color_trc
    return copy


def plane_rows(plane: VideoPlane) -> Bytes:
    """Returns a plane's memory as writable uint8 (rows, line size). Rows may end in padding."""
    flat: Bytes = np.frombuffer(plane, np.uint8)  # pyright: ignore[reportCallIssue, reportArgumentType]
    return flat[: plane.height * plane.line_size].reshape(plane.height, plane.line_size)


def sample_bytes(image: av.VideoFrame, plane: VideoPlane) -> int:
    """Returns the bytes per sample position of a plane. Interleaved components are added up (2 in NV12's chroma)."""
    if not image.format.is_planar:
        return max(1, image.format.padded_bits_per_pixel // 8)
    components = [c for c in image.format.components if image.planes[c.plane].buffer_ptr == plane.buffer_ptr]
    return len(components) * (2 if max(c.bits for c in components) > 8 else 1)


def encode_by(encoder: str, image: av.VideoFrame, options: dict[str, str] | None = None) -> bytes:
    """Encodes an image as a file without metadata.

    Args:
        encoder: FFmpeg's name of an encoder of stills.
        image: an image in a pixel format that the encoder accepts.
        options: options of the encoder.
    """
    context = VideoCodecContext.create(encoder, "w")
    assert isinstance(context, VideoCodecContext)
    context.width, context.height, context.pix_fmt = image.width, image.height, image.format.name
    context.time_base = Fraction(1, 25)
    context.options = options or {}
    # Side data is dropped, because encoders would write its profile and EXIF, some of it wrongly (FFmpeg 8 aborts the
    # process on some EXIF). rtface adds its own afterwards.
    image = copy_image(image)
    image.pts, image.time_base = 0, Fraction(1, 25)
    return b"".join(bytes(p) for p in [*context.encode(image), *context.encode(None)])


def decode_by(decoder: str, data: bytes, options: dict[str, str] | None = None) -> list[av.VideoFrame]:
    """Decodes a file with one image. Returns an empty list if the file is truncated."""
    context = VideoCodecContext.create(decoder, "r")
    assert isinstance(context, VideoCodecContext)
    context.options = options or {}
    return [*context.decode(av.Packet(data)), *context.decode(None)]
