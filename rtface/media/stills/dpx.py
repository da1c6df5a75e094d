"""Reads and writes DPX images (SMPTE ST 268-1) with all header fields.

FFmpeg decodes and encodes the samples, but supports few header fields. Therefore, an image that was read from a DPX is
written by replacing the bytes of changed samples in the file: header, user data, padding and other samples stay.
"""

from __future__ import annotations

import contextlib
import math
import re
import struct
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np

from rtface.errors import OutputError
from rtface.frame import Transfer
from rtface.util.av_arrays import decode_by, encode_by, plane_rows, sample_bytes
from rtface.util.av_gpu import repacked
from rtface.util.timecode import Timecode, has_drop_frame

MAGIC = (b"SDPX", b"XPDS")
_HEADER = 2048  # size of the generic and industry headers
_UNDEFINED = 0xFFFFFFFF
_TRANSFERS = {
    0: "user-defined",
    1: "printing density",
    2: "linear",
    3: "logarithmic",
    4: "unspecified video",
    5: "SMPTE 274M",
    6: "BT.709",
    7: "BT.601 (625)",
    8: "BT.601 (525)",
    9: "NTSC",
    10: "PAL",
    13: "ADX",
}
_LOG = (1, 3)
# Offsets of header fields: image offset, file size, creator, width, transfer, colorimetry, bits, pixel aspect, frame
# rate (film header), timecode, frame rate (television header).
_IMAGE_AT, _SIZE_AT, _CREATOR_AT, _WIDTH_AT, _TRANSFER_AT, _COLOUR_AT = 4, 16, 160, 772, 801, 802
_BITS_AT, _ASPECT_AT, _FILM_RATE_AT, _TIMECODE_AT, _VIDEO_RATE_AT = 803, 1628, 1724, 1920, 1940
COLOURS = slice(_TRANSFER_AT, _COLOUR_AT + 1)
"""Bytes of the header that contain transfer characteristic and colorimetry."""
# Codes of linear transfer and colorimetry, which FFmpeg up to 5.1 wrote for all images.
_OLD_FFMPEG = b"\2\2"


@dataclass(frozen=True, slots=True)
class DpxHeader:
    """The fields of a DPX header that a run uses.

    Attributes:
        order: "<" or ">", the byte order of the file.
        width, height: size in samples.
        transfer: code of the transfer characteristic (ST 268-1, table 5A).
        bits: bits per sample.
        rate: frames per second, or None if undefined.
        timecode: the image's timecode as (text, drop-frame flag), or None if undefined.
        aspect: sample aspect ratio, or None if undefined.
    """

    order: str
    width: int
    height: int
    transfer: int
    bits: int
    rate: Fraction | None
    timecode: tuple[str, bool] | None
    aspect: Fraction | None

    @classmethod
    def read(cls, data: bytes) -> DpxHeader:
        """Reads the header. Raises ValueError if it is missing or incomplete."""
        if data[:4] not in MAGIC or len(data) < _HEADER - 384:
            raise ValueError("no DPX header")
        order = ">" if data[:4] == b"SDPX" else "<"
        width, height = struct.unpack_from(f"{order}II", data, _WIDTH_AT)
        across, down = struct.unpack_from(f"{order}II", data, _ASPECT_AT)
        has_aspect = 0 < across < _UNDEFINED and 0 < down < _UNDEFINED
        has_industry_header = len(data) >= _HEADER and struct.unpack_from(f"{order}I", data, _IMAGE_AT)[0] >= _HEADER
        rate = timecode = None
        if has_industry_header:
            rate = _rate(data, order, _FILM_RATE_AT) or _rate(data, order, _VIDEO_RATE_AT)
            timecode = bcd_timecode(struct.unpack_from(f"{order}I", data, _TIMECODE_AT)[0])
        return cls(
            order,
            width,
            height,
            4 if data[_CREATOR_AT:].startswith(b"Lavc") and data[COLOURS] == _OLD_FFMPEG else data[_TRANSFER_AT],
            data[_BITS_AT],
            rate,
            timecode,
            Fraction(across, down) if has_aspect else None,
        )

    @property
    def family(self) -> Transfer:
        """The transfer function of the samples."""
        return "log" if self.transfer in _LOG else "linear" if self.transfer == 2 else "sdr"

    @property
    def described(self) -> str:
        """Format, depth and transfer characteristic in words."""
        kind = {"log": ", log", "linear": ""}.get(self.family, "")
        return f"DPX of {self.bits} bits ({_TRANSFERS.get(self.transfer, f'transfer {self.transfer}')}{kind})"

    def timecode_at(self, rate: Fraction) -> Timecode | None:
        """Returns the timecode at a frame rate. Returns None if it does not exist at this rate."""
        return timecode_of(self.timecode, rate)


def _rate(data: bytes, order: str, at: int) -> Fraction | None:
    value = struct.unpack_from(f"{order}f", data, at)[0]
    if not math.isfinite(value) or not 1 <= value <= 240:
        return None
    for standard in (Fraction(round(value)), Fraction(round(value) * 1000, 1001)):
        if abs(value - float(standard)) < 0.006:
            return standard
    return Fraction(value).limit_denominator(1000)


def bcd_timecode(word: int) -> tuple[str, bool] | None:
    """Parses a BCD timecode into text and drop-frame flag. The flag is bit 0x40. Returns None for invalid digits."""
    digits = f"{word & 0xFFFFFF3F:08X}"
    return (":".join(re.findall("..", digits)), bool(word & 0x40)) if digits.isdecimal() else None


def timecode_of(value: tuple[str, bool] | None, rate: Fraction) -> Timecode | None:
    """Converts a result of `bcd_timecode` for a frame rate. Returns None if it does not exist at this rate."""
    if value is None:
        return None
    try:
        return Timecode.parse(value[0], rate, drop=value[1] and has_drop_frame(rate))
    except ValueError:
        return None


def with_timecode(data: bytes, timecode: Timecode) -> bytes:
    """Writes a timecode into a DPX if its header has that field. Returns the new bytes."""
    header = DpxHeader.read(data)
    if struct.unpack_from(f"{header.order}I", data, _IMAGE_AT)[0] < _HEADER:
        return data
    out = bytearray(data)
    bcd = int(re.sub(r"\D", "", str(timecode))[:8], 16) | (0x40 if timecode.drop else 0)  # see `bcd_timecode`
    struct.pack_into(f"{header.order}I", out, _TIMECODE_AT, bcd)
    return bytes(out)


def decode_dpx(data: bytes) -> av.VideoFrame:
    """Decodes a DPX. Raises av.FFmpegError or ValueError if that fails."""
    if not (images := decode_by("dpx", data)):
        raise ValueError("no image")
    return images[0]


def _encode(image: av.VideoFrame, order: str) -> bytes:
    """Encodes a DPX with FFmpeg in the given byte order."""
    name = image.format.name
    if name.endswith(("le", "be")):
        image = repacked(image, name[:-2] + ("be" if order == ">" else "le"))
    return encode_by("dpx", image)


def _is_equal(one: av.VideoFrame, other: av.VideoFrame) -> bool:
    if (one.width, one.height, one.format.name) != (other.width, other.height, other.format.name):
        return False
    return all(
        np.array_equal(
            plane_rows(a)[:, : a.width * sample_bytes(one, a)], plane_rows(b)[:, : b.width * sample_bytes(other, b)]
        )
        for a, b in zip(one.planes, other.planes, strict=True)
    )


def rewrite_dpx(data: bytes, image: av.VideoFrame) -> bytes:
    """Replaces the changed samples in the bytes of a DPX file.

    Raises:
        OutputError: the image differs in size or format from the file, or FFmpeg cannot write the file's packing
            (12-bit samples without padding, method B, run-length coding).
    """
    original = decode_dpx(data)
    image = repacked(image, original.format.name)
    if (original.width, original.height) != (image.width, image.height):
        raise OutputError(
            "a DPX of {width}×{height} cannot hold an image of {image_width}×{image_height}",
            code="dpx_size",
            width=original.width,
            height=original.height,
            image_width=image.width,
            image_height=image.height,
        )
    if _is_equal(original, image):
        return data
    header = DpxHeader.read(data)
    at = struct.unpack_from(f"{header.order}I", data, _IMAGE_AT)[0]
    files = (_encode(one, header.order) for one in (original, image))
    old, new = (
        np.frombuffer(each[struct.unpack_from(f"{header.order}I", each, _IMAGE_AT)[0] :], np.uint8) for each in files
    )
    out = np.frombuffer(data, np.uint8).copy()
    region = out[at : at + len(new)]
    if len(region) == len(new):
        changed = old != new
        region[changed] = new[changed]
        with contextlib.suppress(av.FFmpegError, ValueError):
            if _is_equal(decode_dpx(out.tobytes()), image):
                return out.tobytes()
    raise OutputError(
        "this kind of DPX cannot be written; choose a folder of TIFF images with {--codec} tiff", code="dpx_kind"
    )


def new_dpx(
    image: av.VideoFrame, *, transfer: Transfer, rate: Fraction | None, timecode: Timecode | None, creator: str
) -> bytes:
    """Encodes an image as DPX, with complete generic and industry headers.

    Args:
        image: rgb24, gbrp10le, gbrp12le, rgb48le, rgba, rgba64le, gray or gray16le.
        transfer: transfer function of the samples.
        rate, timecode: values for the header; None leaves them undefined.
        creator: name of the program, for the header.
    """
    encoded = _encode(image, ">")
    order = ">" if encoded[:4] == b"SDPX" else "<"  # FFmpeg writes 8-bit DPX in one byte order only
    at = struct.unpack_from(f"{order}I", encoded, _IMAGE_AT)[0]
    head = bytearray(encoded[:at].ljust(_HEADER, b"\0"))
    head[1664:_HEADER] = bytes(_HEADER - 1664)
    for field in (*range(1712, 1732, 4), *range(_TIMECODE_AT, 1972, 4)):
        struct.pack_into(f"{order}I", head, field, _UNDEFINED)
    for field in (_FILM_RATE_AT, _VIDEO_RATE_AT) if rate is not None else ():
        struct.pack_into(f"{order}f", head, field, float(rate or 0))
    head[_CREATOR_AT : _CREATOR_AT + 100] = creator.encode("ascii", "replace")[:99].ljust(100, b"\0")
    head[_TRANSFER_AT] = {"log": 1, "linear": 2, "sdr": 6}.get(transfer, 0)
    head[_COLOUR_AT] = {"log": 1, "sdr": 6}.get(transfer, 0)
    struct.pack_into(f"{order}I", head, _IMAGE_AT, _HEADER)
    struct.pack_into(f"{order}III", head, 24, 1664, _HEADER - 1664, 0)
    struct.pack_into(f"{order}I", head, 808, _HEADER)
    struct.pack_into(f"{order}I", head, _SIZE_AT, _HEADER + len(encoded) - at)
    data = bytes(head) + encoded[at:]
    return data if timecode is None else with_timecode(data, timecode)
