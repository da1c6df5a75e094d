"""Decodes HEIC with pillow-heif (an extra), and AVIF with OpenCV."""

from __future__ import annotations

import io
from contextlib import suppress
from typing import Any

import av
import cv2
import numpy as np

from rtface.errors import MissingComponent
from rtface.media.formats.image_header import avif_shape
from rtface.media.formats.image_meta import ImageMetadata, exif_turned
from rtface.util.install import extra_line

ERRORS = (ValueError, EOFError, SyntaxError, RuntimeError, OSError, cv2.error)
"""Errors that are raised for damaged and unsupported files."""
_FORMATS = {1: ("gray", "gray16le"), 3: ("rgb24", "rgb48le"), 4: ("rgba", "rgba64le")}


def heic_metadata(data: bytes) -> ImageMetadata:
    """Reads EXIF and XMP. Marks EXIF as upright. Omits damaged parts."""
    meta = ImageMetadata()
    with suppress(*ERRORS):
        info = _open_heif(data).info
        meta.xmp, meta.exif = info["xmp"], exif_turned((info["exif"] or b"").removeprefix(b"Exif\0\0")) or None
    return meta


def decode_heic(data: bytes, max_pixels: int) -> tuple[av.VideoFrame, int, bytes | None]:
    """Decodes the primary image, upright.

    Returns:
        The image as 8-bit or 16-bit gray, RGB or RGBA; the number of images; the ICC profile.

    Raises:
        MissingComponent: pillow-heif is not installed.
        ERRORS: the file is damaged, of an unsupported kind, or larger than `max_pixels`.
    """
    file = _open_heif(data)
    if file.size[0] * file.size[1] > max_pixels:
        raise ValueError(f"{file.size[0]}×{file.size[1]}")
    pixels, bits = np.asarray(file), int(file.info["bit_depth"])
    return _to_frame(pixels >> (16 - bits) if bits > 8 else pixels, bits), len(file), file.info.get("icc_profile")


def decode_avif(data: bytes) -> av.VideoFrame:
    """Decodes an AVIF to upright 8-bit or 16-bit gray, RGB or RGBA. Raises `ERRORS`."""
    pixels: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ValueError("AVIF")
    turns, mirror, bits = avif_shape(data)
    if pixels.ndim == 3:
        pixels = pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]
    return _to_frame(np.rot90(pixels, -turns)[:, :: -1 if mirror else 1], bits)


def _to_frame(pixels: Any, bits: int) -> av.VideoFrame:
    """Makes a frame from samples. Scales 10-bit and 12-bit samples to 16 bits."""
    is_16_bit = pixels.dtype == np.uint16
    if is_16_bit:
        pixels = np.left_shift(pixels, 16 - bits) | np.right_shift(pixels, 2 * bits - 16)
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), _FORMATS[channels][is_16_bit])


def _open_heif(data: bytes) -> Any:
    """Opens a file as `pillow_heif.HeifFile`. The primary image is decoded when it is used."""
    try:
        import pillow_heif  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingComponent(
            "HEIC images need pillow-heif: {repair}", code="heic_extra", repair=extra_line("heic")
        ) from error
    return pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=False)
