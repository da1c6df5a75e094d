"""OpenEXR images: shown to the pipeline as video, and written again without losing anything else of the file.

The samples are linear light of any size, so an image is mapped to 16-bit display-like RGB, on which faces are found and
corrected. When it is written, the change of each sample goes back through the same curve and is added to the light that
was read. All other samples, channels, attributes and windows stay as they are: only the blocks of lines that hold a
changed sample are coded again. (OpenEXR file layout: https://openexr.com/en/latest/OpenEXRFileLayout.html.)
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from rtface.errors import OutputError
from rtface.frame import Float32
from rtface.media.stills.dpx import bcd_timecode, bcd_word, timecode_of
from rtface.util.av_arrays import decode_by, plane_rows
from rtface.util.timecode import Timecode

MAGIC = b"v/1\x01"
_TILED, _DEEP, _PARTS = 0x200, 0x800, 0x1000
_NONE, _ZIPS, _ZIP, _DWA = 0, 2, 3, 8
_NAMES = ("no compression", "RLE", "ZIPS", "ZIP", "PIZ", "PXR24", "B44", "B44A", "DWAA", "DWAB")
_LINES = (1, 1, 1, 16, 32, 16, 32, 32, 32, 256)
_UNDERSTOOD = (_NONE, _ZIPS, _ZIP)  # and written again block by block
_DTYPES = {0: np.dtype("<u4"), 1: np.dtype("<f2"), 2: np.dtype("<f4")}
# Planes of FFmpeg's frames, by channel.
_PLANES = {"G": 0, "B": 1, "R": 2, "A": 3}
# The curve: light up to 0.75 of diffuse white as it is, above that rolled off towards 1, then gamma 1/2.2, as
# `rtface.geometry.color_curves` does with HDR. A change in the highlights grows by at most this factor.
_KNEE, _GAMMA, _MOST = 0.75, 2.2, 4.0

Samples = NDArray[Any]


def shown(light: Samples) -> Float32:
    """Linear light (diffuse white 1) as display-like values 0…1."""
    light = np.clip(np.nan_to_num(np.asarray(light, np.float32), nan=0.0), 0.0, 1e6)
    room = 1.0 - _KNEE
    above = np.maximum(light, _KNEE)
    rolled = np.where(light <= _KNEE, light, _KNEE + room * (1.0 - np.exp((_KNEE - above) / room)))
    return np.power(rolled, 1.0 / _GAMMA).astype(np.float32)


def light_of(value: Samples) -> Float32:
    """The inverse of `shown`."""
    rolled = np.power(np.clip(value, 0.0, 1.0 - 1e-5), _GAMMA)
    room = 1.0 - _KNEE
    over = np.clip((rolled - _KNEE) / room, 0.0, 1.0 - 1e-6)
    return np.where(rolled <= _KNEE, rolled, _KNEE - room * np.log1p(-over)).astype(np.float32)


@dataclass(frozen=True, slots=True)
class ExrHeader:
    """The header of a single-part EXR file.

    Attributes:
        attributes: type, place of the value, and its bytes, by name, in the order of the file.
        channels: name and pixel type (0 uint, 1 half, 2 float), in the order of the file.
        compression: its number.
        data, display: windows x0, y0, x1, y1; x1 and y1 are the last ones inside.
        flags: of the version field.
        end: where the header ends and the table of blocks begins.
    """

    attributes: dict[str, tuple[str, int, bytes]]
    channels: list[tuple[str, int]]
    compression: int
    data: tuple[int, int, int, int]
    display: tuple[int, int, int, int]
    flags: int
    end: int

    @classmethod
    def read(cls, data: bytes) -> ExrHeader:
        """Reads a header; ValueError where it is damaged or none."""
        if data[:4] != MAGIC:
            raise ValueError("no EXR header")
        attributes, at = dict[str, tuple[str, int, bytes]](), 8
        try:
            flags = struct.unpack_from("<I", data, 4)[0]
            while data[at]:
                name, at = _text(data, at)
                kind, at = _text(data, at)
                begin, at = at + 4, at + 4 + struct.unpack_from("<I", data, at)[0]
                attributes[name] = kind, begin, data[begin:at]
            windows = [struct.unpack("<4i", attributes[name][2]) for name in ("dataWindow", "displayWindow")]
            compression, channels = attributes["compression"][2][0], _channels(attributes["channels"][2])
        except (struct.error, IndexError, KeyError, UnicodeDecodeError) as error:
            raise ValueError("damaged EXR header") from error
        if any(x1 < x0 or y1 < y0 for x0, y0, x1, y1 in windows):
            raise ValueError("damaged EXR header")
        return cls(attributes, channels, compression, windows[0], windows[1], flags, at + 1)

    def value(self, name: str, size: int) -> bytes:
        """The bytes of an attribute; nothing where it is missing or of another size."""
        value = self.attributes.get(name, ("", 0, b""))[2]
        return value if len(value) == size else b""

    @property
    def rate(self) -> Fraction | None:
        """Frames a second (attribute framesPerSecond); None without."""
        above, below = struct.unpack("<iI", self.value("framesPerSecond", 8) or bytes(8))
        return Fraction(above, below) if above > 0 and below and 1 <= above / below <= 240 else None

    @property
    def bits(self) -> int:
        """Bits of a colour sample."""
        return 32 if any(kind == 2 for name, kind in self.channels if name in ("R", "G", "B", "Y")) else 16

    @property
    def described(self) -> str:
        """Format, samples and compression in words."""
        name = _NAMES[self.compression] if self.compression < len(_NAMES) else f"compression {self.compression}"
        return f"EXR of {'float' if self.bits == 32 else 'half'} samples ({name}, linear)"

    def timecode_at(self, rate: Fraction) -> Timecode | None:
        """The image's timecode at a frame rate (attribute timeCode); None without one that this rate has."""
        value = self.value("timeCode", 8)
        return timecode_of(bcd_timecode(struct.unpack_from("<I", value)[0]) if value else None, rate)


def _text(data: bytes, at: int) -> tuple[str, int]:
    end = data.index(b"\0", at, at + 256)
    return data[at:end].decode(), end + 1


def _channels(value: bytes) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    at = 0
    while value[at]:
        name, at = _text(value, at)
        kind, _, across, down = struct.unpack_from("<iIii", value, at)
        if kind not in _DTYPES or (across, down) != (1, 1):
            raise ValueError("EXR channels with fewer samples than pixels")
        found.append((name, kind))
        at += 16
    return found


# -- reading --------------------------------------------------------------------------------------------------------


def _light(data: bytes) -> dict[str, Samples]:
    """Light of the channels that FFmpeg decodes (R, G, B, A or Y, A), half or float, of the display window.

    Raises:
        av.FFmpegError, ValueError: it cannot be decoded.
    """
    images: list[Any] = [*decode_by("exr", data)]
    if not images:
        raise ValueError("no image")
    image, name = images[0], images[0].format.name
    kind = np.dtype("<f2" if "f16" in name else "<f4")
    if not name.startswith(("gbr", "gray")):
        raise ValueError(f"EXR samples of {name}")
    planes = [plane_rows(plane)[:, : plane.width * kind.itemsize].view(kind) for plane in image.planes]
    if name.startswith("gray"):
        return dict(zip(("Y", "A"), planes, strict=False))
    return {channel: planes[k] for channel, k in _PLANES.items() if k < len(planes)}


def decode_exr(data: bytes) -> av.VideoFrame:
    """The image as display-like gbrp16le, or gray16le; raises as `_light`, also where the file is cut off."""
    _check_blocks(data, ExrHeader.read(data))
    light = _light(data)
    names = ["Y"] if "Y" in light else ["G", "B", "R"]
    height, width = light[names[0]].shape
    image = av.VideoFrame(width, height, "gray16le" if len(names) == 1 else "gbrp16le")
    for plane, name in zip(image.planes, names, strict=True):
        plane_rows(plane)[:, : 2 * width].view("<u2")[:] = _coded(light[name])
    return image


def _check_blocks(data: bytes, header: ExrHeader) -> None:
    """ValueError where a block of lines is not whole: FFmpeg leaves it black."""
    if header.flags & (_TILED | _DEEP | _PARTS) or header.compression >= len(_LINES):
        return
    count = -(-(header.data[3] - header.data[1] + 1) // _LINES[header.compression])
    if count < 1 or header.end + 8 * count > len(data):
        raise ValueError("it is cut off")
    for place in struct.unpack_from(f"<{count}Q", data, header.end):
        if place + 8 > len(data) or place + 8 + struct.unpack_from("<I", data, place + 4)[0] > len(data):
            raise ValueError("it is cut off")


def _coded(light: Samples) -> NDArray[np.uint16]:
    return np.round(shown(light) * 65535.0).astype(np.uint16)


# -- writing --------------------------------------------------------------------------------------------------------


def rewrite_exr(
    data: bytes, image: av.VideoFrame, *, tags: Mapping[str, str] | None = None, timecode: Timecode | None = None
) -> bytes:
    """An EXR file with the changes of `image` against what `decode_exr` gives for it.

    Args:
        data: the file that was read.
        image: gbrp16le or gray16le of the same size.
        tags: string attributes to add where a sample has changed.
        timecode: replaces that of the attribute timeCode, where there is one.

    Raises:
        OutputError: the file is tiled, deep, of several parts, or of a compression that cannot be written together
            with its channels; or the image has another size.
    """
    header = ExrHeader.read(data)
    if timecode is not None and header.value("timeCode", 8):
        at = header.attributes["timeCode"][1]
        data = data[:at] + struct.pack("<I", bcd_word(timecode)) + data[at + 4 :]
    light = _light(data)
    names = ["Y"] if "Y" in light else ["G", "B", "R"]
    planes = [plane_rows(p)[:, : 2 * p.width].view("<u2") for p in image.planes]
    if len(planes) < len(names) or planes[0].shape != light[names[0]].shape:
        raise OutputError("an EXR cannot take an image of another size or with other channels", code="exr_channels")
    new: dict[str, Samples] = {}
    for name, plane in zip(names, planes, strict=False):
        changed = plane != _coded(light[name])
        if changed.any():
            new[name] = _changed(light[name], plane, changed)
    if not new:
        return data
    if header.flags & (_TILED | _DEEP | _PARTS):
        raise OutputError(
            "a tiled, deep or multi-part EXR cannot be written; save it as one part of scan lines first",
            code="exr_tiled",
        )
    return _written(data, header, light | new, set(new), tags or {})


def _changed(light: Samples, plane: Samples, changed: NDArray[np.bool_]) -> Samples:
    old = shown(light[changed])
    step = plane[changed] / np.float32(65535.0) - np.round(old * 65535.0) / np.float32(65535.0)
    grown = light_of(old + step) - light_of(old)
    out = light.copy()
    out[changed] = light[changed].astype(np.float32) + np.clip(grown, -_MOST * np.abs(step), _MOST * np.abs(step))
    return out


def _written(
    data: bytes, header: ExrHeader, light: dict[str, Samples], changed: set[str], tags: Mapping[str, str]
) -> bytes:
    kept = header.compression in _UNDERSTOOD
    names = {name for name, _ in header.channels}
    if header.compression >= _DWA:  # FFmpeg decodes other samples than the OpenEXR library
        raise OutputError(
            "an EXR in DWAA or DWAB compression cannot be written exactly; save it with ZIP compression first",
            code="exr_dwa",
        )
    if not kept and not names <= set(light):
        raise OutputError(
            "an EXR in {compression} with the channels {channels} cannot be written; save it with ZIP compression "
            "first",
            code="exr_compression",
            compression=_NAMES[header.compression],
            channels=", ".join(sorted(names)),
        )
    before = _head(data, header, tags, header.compression if kept else _ZIP)
    x0, y0, x1, y1 = header.data
    lines = _LINES[header.compression if kept else _ZIP]
    count = -(-(y1 - y0 + 1) // lines)
    blocks: list[bytes] = []
    for number in range(count):
        top = y0 + number * lines
        rows = min(lines, y1 + 1 - top)
        old = _block(data, header, number, rows) if kept else None
        blocks.append(_new_block(header, light, changed, old, top, rows, x1 - x0 + 1) if old is None or old[1] else b"")
    # The order of lines in the file stays; an attribute says it.
    order = list(range(count))
    if kept:
        order.sort(key=lambda number: struct.unpack_from("<Q", data, header.end + 8 * number)[0])
    elif header.value("lineOrder", 1) == b"\1":
        order.reverse()
    places, body = [0] * count, bytearray()
    begin = len(before) + 8 * count
    for number in order:
        places[number] = begin + len(body)
        body += blocks[number]
    return before + struct.pack(f"<{count}Q", *places) + bytes(body)


def _head(data: bytes, header: ExrHeader, tags: Mapping[str, str], compression: int) -> bytes:
    """The header with another compression and more string attributes."""
    at = header.attributes["compression"][1]
    head = bytearray(data[: header.end - 1])
    head[at] = compression
    for name, text in tags.items():
        if name not in header.attributes and len(name) < 32:
            value = text.encode()
            head += name.encode() + b"\0string\0" + struct.pack("<I", len(value)) + value
    return bytes(head) + b"\0"


def _block(data: bytes, header: ExrHeader, number: int, rows: int) -> tuple[bytes, bytes]:
    """A block as it lies in the file, and its samples unpacked."""
    try:
        at = struct.unpack_from("<Q", data, header.end + 8 * number)[0]
        size = struct.unpack_from("<I", data, at + 4)[0]
    except struct.error as error:
        raise OutputError("the EXR is damaged: a block is missing", code="exr_block_missing") from error
    packed = data[at + 8 : at + 8 + size]
    width = header.data[2] - header.data[0] + 1
    length = rows * width * sum(_DTYPES[kind].itemsize for _, kind in header.channels)
    if header.compression == _NONE or len(packed) == length:
        raw = packed
    else:
        raw = _joined(zlib.decompressobj().decompress(packed, length))
    if len(raw) != length:
        raise OutputError("the EXR is damaged: a block has another length", code="exr_block_length")
    return data[at : at + 8 + size], raw


def _joined(raw: bytes) -> bytes:
    """Undoes the differences and the splitting into even and odd bytes."""
    steps = np.frombuffer(raw, np.uint8).astype(np.int64)
    steps[1:] -= 128
    split = (np.cumsum(steps) & 255).astype(np.uint8)
    half = (len(raw) + 1) // 2
    out = np.empty(len(raw), np.uint8)
    out[0::2], out[1::2] = split[:half], split[half:]
    return out.tobytes()


def _split(raw: bytes) -> bytes:
    """The inverse of `_joined`."""
    data = np.frombuffer(raw, np.uint8)
    split = np.concatenate([data[0::2], data[1::2]]).astype(np.int64)
    split[1:] = (np.diff(split) + 128) & 255
    return split.astype(np.uint8).tobytes()


def _new_block(
    header: ExrHeader,
    light: dict[str, Samples],
    changed: set[str],
    old: tuple[bytes, bytes] | None,
    top: int,
    rows: int,
    width: int,
) -> bytes:
    """A block of lines with its changed channels; the block as it was where nothing in it has changed."""
    sizes, at, left = [width * _DTYPES[kind].itemsize for _, kind in header.channels], 0, header.data[0]
    lines = np.frombuffer(bytearray(old[1] if old else rows * sum(sizes)), np.uint8).reshape(rows, -1)
    for (name, kind), size in zip(header.channels, sizes, strict=True):
        if old is None or name in changed:  # FFmpeg begins the frame at 0, 0 of the data window's coordinates
            inside = light[name][max(0, top) : max(0, top + rows), max(0, left) : max(0, left + width)]
            place = lines[max(0, -top) :, at : at + size].view(_DTYPES[kind])[:, max(0, -left) :]
            place[: inside.shape[0], : inside.shape[1]] = inside
        at += size
    raw = lines.tobytes()
    if old is not None and raw == old[1]:
        return old[0]
    compression = header.compression if old else _ZIP
    packed = min(raw, zlib.compress(_split(raw), 6) if compression in (_ZIPS, _ZIP) else raw, key=len)
    return struct.pack("<iI", top, len(packed)) + packed
