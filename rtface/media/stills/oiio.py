"""Decodes TIFF, JPEG XL, PSD and Cineon files with OpenImageIO.

FFmpeg silently decodes tiles, JPEG and half floats in TIFF as noise, and cannot read the others. EXIF and XMP are
not read with OpenImageIO, because it renames their fields and loses a camera's notes and most of XMP.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

import av
import numpy as np

_WHITE, _RGB, _COLOURS = 0, 2, (0, 1, 2, 3, 5, 6)  # photometric interpretations: white is 0; RGB; readable ones
_MEMORY_MB = 4096
_CINEON_BITS, _UNDEFINED = 10, 0xFFFFFFFF
KINDS = ("tiff", "jxl", "psd", "cineon")
_FORMATS = {
    "uint8": ("gray", "rgb24", "rgba"),
    "uint16": ("gray16le", "rgb48le", "rgba64le"),
    "float": ("", "rgbf32le"),
}


def decode_by_oiio(path: str | os.PathLike[str], max_pixels: int) -> tuple[av.VideoFrame, int, bytes | None]:
    """Returns the first image, the number of images, and the ICC profile. The image is 8-bit or 16-bit gray, RGB or
    RGBA, or float RGB.

    Raises:
        ValueError: the file is damaged, unsupported, or has more than `max_pixels` pixels.
    """
    name = os.fspath(path)
    if name.encode(errors="replace").decode() == name:
        return _decode(name, max_pixels)
    with Path(path).open("rb") as file:  # the library accepts only names in UTF-8
        return _decode(f"/dev/fd/{file.fileno()}", max_pixels)


def _decode(name: str, max_pixels: int) -> tuple[av.VideoFrame, int, bytes | None]:
    import OpenImageIO  # imported only for such a file

    OpenImageIO.attribute("limits:imagesize_MB", _MEMORY_MB)
    hints = OpenImageIO.ImageSpec()
    hints["oiio:UnassociatedAlpha"] = 1  # keeps samples as stored in the file
    file = OpenImageIO.ImageInput.open(name, hints)
    if file is None:
        raise ValueError(OpenImageIO.geterror().partition("\n")[0])
    spec = file.spec()
    cineon = file.format_name() == "cineon"
    if cineon and _is_cut_off(name):
        raise ValueError("it ends before its last sample")
    photometric = spec.get_int_attribute("tiff:PhotometricInterpretation", _RGB)
    if photometric not in _COLOURS or spec.width * spec.height > max_pixels:
        raise ValueError(f"{spec.width}×{spec.height}, photometric interpretation {photometric}")
    count, alpha, depth = spec.nchannels, spec.alpha_channel >= 0, str(spec.format)
    kind = "uint8" if depth == "uint8" else "float" if depth in ("half", "float") and count == 3 else "uint16"
    pixels = file.read_image(0, count if count < 5 else 3 + alpha, kind)
    if pixels is None:
        raise ValueError(file.geterror().partition("\n")[0])
    if count == 2:
        pixels = pixels[..., [0, 0, 0, 1]]
    if photometric == _WHITE and kind == "uint16":  # the library inverts 8-bit samples itself
        pixels = ~pixels
    if cineon and count == 3 and spec.get_int_attribute("oiio:BitsPerSample") == _CINEON_BITS:
        return av.VideoFrame.from_ndarray((pixels >> 16 - _CINEON_BITS).astype(np.uint16), "gbrp10le"), 1, None
    shape = _FORMATS[kind][max(0, pixels.shape[2] - 2)]
    profile, pages = spec.getattribute("ICCProfile"), 1
    while file.seek_subimage(pages, 0) and not file.spec().get_int_attribute("tiff:subfiletype") & 1:
        pages += 1
    image = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels), shape)
    return image, pages, None if profile is None else bytes(profile)


def _is_cut_off(name: str) -> bool:
    """Returns whether a Cineon file is shorter than its header says. The library reads what is missing as black."""
    with Path(name).open("rb") as file:
        head = file.read(24)
        size: int = struct.unpack(">I" if head[:1] == b"\x80" else "<I", head[20:24])[0]
        return file.seek(0, os.SEEK_END) < size < _UNDEFINED
