"""Interprets frame tags: FFmpeg's colour numbers, the display matrix, HDR side data."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import av
from av.sidedata.sidedata import SideDataContainer

from rtface.frame import Color, Display, Matrix, Siting, Transfer

UNSPECIFIED = 2

# AVColorSpace, AVColorTransferCharacteristic (H.273 numbers).
_MATRIX: dict[int, Matrix] = {
    0: "rgb",
    1: "bt709",
    4: "fcc",
    5: "bt601",
    6: "bt601",
    7: "smpte240m",
    8: "ycgco",
    9: "bt2020",
    10: "bt2020",
}
_TRANSFER: dict[int, Transfer] = {8: "linear", 16: "pq", 18: "hlg"}
_SITING: dict[str, Siting] = {
    "left": "left",
    "center": "center",
    "topleft": "topleft",
    "top": "topleft",
    "bottomleft": "left",
    "bottom": "center",
}
# PyAV's names of side data that changes how players show a frame, apart from the matrix and HdrMetadata.
_VIEWS = ("STEREO3D", "SPHERICAL", "ICC_PROFILE", "AMBIENT_VIEWING_ENVIRONMENT", "DYNAMIC_HDR_VIVID", "AFD")
_STEREO_BYTES = 8  # type of stereo and its flags; not every container stores the other fields
# Codecs whose chroma samples are centred between luma samples unless the stream specifies otherwise.
_CENTRED = {"mjpeg", "mpeg1video", "vp8", "theora", "webp", "libwebp"}


@dataclass(frozen=True, slots=True)
class ColorTags:
    """A stream's colour tags, as H.273 numbers. Unspecified tags are not replaced by defaults.

    Attributes:
        range: 0 (unspecified), 1 (limited) or 2 (full).
        primaries, transfer, matrix: 2 means unspecified.
        siting: FFmpeg's name for the chroma location; None if it is unspecified.
    """

    range: int = 0
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED
    matrix: int = UNSPECIFIED
    siting: str | None = None


@dataclass(frozen=True, slots=True)
class HdrMetadata:
    """A stream's static HDR10 metadata (SMPTE ST 2086, CTA-861.3).

    Attributes:
        primaries: x, y of red, green, blue and the white point, or None.
        luminance: darkest and brightest value of the mastering display in cd/m², or None.
        light: brightest pixel (MaxCLL) and brightest frame average (MaxFALL) in cd/m², or None.
        dynamic: names of metadata that changes from frame to frame (HDR10+, Dolby Vision).
    """

    primaries: tuple[Fraction, ...] | None = None
    luminance: tuple[Fraction, Fraction] | None = None
    light: tuple[int, int] | None = None
    dynamic: tuple[str, ...] = ()


def tags_of(image: av.VideoFrame, siting: str | None = None) -> ColorTags:
    """Returns the colour tags of a decoded frame."""
    return ColorTags(
        int(image.color_range), int(image.color_primaries), int(image.color_trc), int(image.colorspace), siting
    )


def tags_from_rgb(tags: ColorTags, width: int, height: int) -> ColorTags:
    """Returns the tags of YCbCr converted from RGB. The range is limited; the matrix is the one that players
    assume for untagged frames of this size. RGB without tags counts as sRGB, which has the primaries of BT.709."""
    return ColorTags(
        1,
        1 if tags.primaries == UNSPECIFIED else tags.primaries,
        13 if tags.transfer == UNSPECIFIED else tags.transfer,
        1 if is_hd(width, height) else 6,
    )


def is_hd(width: int, height: int) -> bool:
    """Tells whether players assume BT.709 for untagged frames of this size."""
    return height > 576 or width >= 1280


def color_of(image: av.VideoFrame, *, siting: str | None = None, codec: str = "") -> Color:
    """Returns how to read a frame's samples. Defaults follow common player behaviour.

    An unspecified matrix is BT.709 above 576 lines or from 1280 columns, otherwise BT.601. An unspecified range is
    full for RGB, gray and yuvj formats, otherwise limited. An unspecified siting is "center" for JPEG, MPEG-1, VP8 and
    Theora, otherwise "left".

    Args:
        image: a decoded frame.
        siting: FFmpeg's name for the frame's chroma location, if known.
        codec: FFmpeg's name for the codec; selects the default siting.
    """
    name = image.format.name
    gray = name.startswith(("gray", "ya8", "ya16", "mono", "yaf"))
    if image.format.is_rgb or gray or name == "pal8":
        matrix: Matrix = "rgb"
    else:
        matrix = _MATRIX.get(int(image.colorspace)) or ("bt709" if is_hd(image.width, image.height) else "bt601")
    tagged_range = int(image.color_range)
    full_range = tagged_range == 2 or (tagged_range != 1 and (matrix == "rgb" or name.startswith("yuvj")))
    if image.format.is_rgb:
        full_range = True
    chroma = _SITING.get(siting or "", "center" if codec in _CENTRED else "left")
    return Color(matrix, full_range, _TRANSFER.get(int(image.color_trc), "sdr"), int(image.color_primaries), chroma)


def orientation(matrix: Sequence[int]) -> tuple[int, bool]:
    """Returns the clockwise quarter turns and the mirroring of a display matrix. Other angles are rounded to the
    nearest quarter turn.

    Args:
        matrix: 9 numbers in FFmpeg's AV_PKT_DATA_DISPLAYMATRIX layout: a b u, c d v, x y w (16.16 fixed point), with x'
            = a·x + c·y and y' = b·x + d·y; y points down.
    """
    a, b, c, d = matrix[0], matrix[1], matrix[3], matrix[4]
    mirror = a * d - b * c < 0
    if mirror:
        a = -a
    if abs(a) >= abs(b):
        return (0 if a >= 0 else 2), mirror
    return (1 if b > 0 else 3), mirror


def display_matrix(image: av.VideoFrame) -> tuple[int, ...] | None:
    """Returns the 9 numbers of a decoded frame's display matrix, or None."""
    data = side_data(image, "DISPLAYMATRIX")
    return struct.unpack("=9i", data[:36]) if data and len(data) >= 36 else None


def display_of(
    turns: int, mirror: bool, aspect: Fraction | None, fields: Literal["progressive", "tff", "bff"]
) -> Display:
    """Creates a Display. Implausible aspects (0, or beyond 1:16) become 1."""
    plausible = Fraction(aspect) if aspect and Fraction(1, 16) <= aspect <= 16 else Fraction(1)
    return Display(turns, mirror, plausible, fields)


def hdr_of(image: av.VideoFrame) -> HdrMetadata | None:
    """Returns the HDR metadata of a decoded frame, or None."""
    primaries = luminance = light = None
    data = side_data(image, "MASTERING_DISPLAY_METADATA")
    if data and len(data) >= 88:
        numbers = struct.unpack("=22i", data[:88])
        ratios = [Fraction(n, d) if d else Fraction(0) for n, d in zip(numbers[:20:2], numbers[1:20:2], strict=True)]
        if numbers[20]:
            primaries = tuple(ratios[:8])
        if numbers[21]:
            luminance = (ratios[8], ratios[9])
    data = side_data(image, "CONTENT_LIGHT_LEVEL")
    if data and len(data) >= 8:
        light = struct.unpack("=2I", data[:8])
    dynamic = tuple(
        label
        for kind, label in (("DYNAMIC_HDR_PLUS", "HDR10+"), ("DOVI_METADATA", "Dolby Vision"))
        if side_data(image, kind) is not None
    )
    if primaries is None and luminance is None and light is None and not dynamic:
        return None
    return HdrMetadata(primaries, luminance, light, dynamic)


def views_of(image: av.VideoFrame) -> dict[str, str]:
    """Returns the side data for stereo, spherical, colour-managed or cropped display. Keys are PyAV's type names;
    values are hexadecimal."""
    return {
        kind: (data[:_STEREO_BYTES] if kind == "STEREO3D" else data).hex()
        for kind in _VIEWS
        if (data := side_data(image, kind)) is not None
    }


def is_transparent(image: av.VideoFrame) -> bool:
    """Tells whether an image has samples that are not fully opaque."""
    alpha = any(c.is_alpha for c in image.format.components)
    return alpha and int(image.reformat(format="rgba").to_ndarray()[..., 3].min()) < 255


def has_captions(image: av.VideoFrame) -> bool:
    """Tells whether a decoded frame carries closed captions (CEA-608/708)."""
    return side_data(image, "A53_CC") is not None


def side_data(image: av.VideoFrame, kind: str) -> bytes | None:
    """Returns a copy of a frame's side data, or None. `kind` is PyAV's type name."""
    try:
        # Not image.side_data: its reference cycle keeps all of the decoder's frames until the next garbage collection.
        container = SideDataContainer(image)  # pyright: ignore[reportCallIssue] - not in PyAV's types
        return bytes(container[kind])  # pyright: ignore[reportArgumentType, reportCallIssue]
    except (KeyError, ValueError):  # PyAV 18 has no name for some types (EXIF, LCEVC)
        return None
