"""What a still holds, read by other programs than rtface, and what of it another still lacks."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
import OpenEXR
import tifffile
from PIL import Image

from rtface.media.formats.image_header import png_chunks, segments
from rtface.media.formats.tiff_tags import read_directory
from rtface.media.stills.dpx import decode_dpx

CHANGED = (slice(4, 16), slice(4, 16))
"""Where the second still may have other samples, those of the data window of an EXR among them."""
# Tags of a TIFF that are of its samples as they lie in the file, or told otherwise; EXIF's place in a file.
_STRUCTURE = {
    254,
    256,
    258,
    262,
    277,
    292,
    293,
    320,
    338,
    339,
    347,
    530,
    531,
    532,
    257,
    259,
    273,
    278,
    279,
    284,
    317,
    322,
    323,
    324,
    325,
}
_ELSEWHERE = {282, 283, 296, 700, 33723, 34377, 34675}
_EXR_STRUCTURE = {"compression", "tiles", "chunkCount", "type", "version", "name"}

Facts = dict[str, Any]


def _tags(data: bytes) -> Iterator[tuple[str, Any]]:
    """The tags of a TIFF structure as numbers, whatever its byte order."""

    def said(tags: Any, where: str) -> Iterator[tuple[str, Any]]:
        for tag, (kind, _, value) in tags.items():
            if isinstance(value, dict):
                yield from said(value, f"{where}{tag}/")
            elif not where.endswith("exif ") or tag not in _STRUCTURE | _ELSEWHERE:
                unit = {3: "H", 4: "I", 5: "I", 13: "I", 16: "Q"}.get(kind)
                order = ">" if data[:2] == b"MM" else "<"
                yield f"{where}{tag}", value if unit is None else tuple(np.frombuffer(value, order + unit).tolist())

    yield from said(read_directory(data), "exif ")


def _png(data: bytes) -> Facts:
    facts: Facts = {}
    for kind, body in png_chunks(data):
        name, text = body.split(b"\0", 1)[0].decode("latin-1"), body[body.find(b"\0") + 1 :]
        if kind == b"iCCP":
            facts["icc"] = zlib.decompress(text[1:])
        elif kind == b"eXIf":
            facts.update(_tags(body))
        elif kind == b"pHYs":
            facts["dpi"] = tuple(round(each * 0.0254) for each in struct.unpack_from(">II", body))
        elif kind == b"iTXt" and name == "XML:com.adobe.xmp":
            facts["xmp"] = text[4:]
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            facts[f"text {name}"] = zlib.decompress(text[1:]) if kind == b"zTXt" else text.lstrip(b"\0")
        elif kind not in (b"IHDR", b"IDAT", b"IEND"):
            facts[kind.decode()] = body
    return facts


def _jpeg(data: bytes) -> Facts:
    facts: Facts = {}
    for marker, body in segments(data):
        if body.startswith(b"Exif\0"):
            facts.update(_tags(body[6:]))
        elif body.startswith(b"http://ns.adobe.com/xap/1.0/"):
            facts["xmp"] = body.split(b"\0", 1)[1]
        elif body.startswith(b"ICC_PROFILE\0"):
            facts["icc"] = facts.get("icc", b"") + body[14:]
        elif body.startswith(b"Photoshop 3.0\0"):
            facts["iptc"] = body[14:]
        elif marker == 0xFE:
            facts["text Comment"] = body
        elif marker == 0xE0:
            facts["dpi"] = struct.unpack_from(">HH", body, 8)
        elif marker in (0xC0, 0xC2):
            facts["coded sampling"] = tuple(body[7::3])
        elif marker == 0xDB:
            facts[f"coded steps {body[0]}"] = np.frombuffer(body, np.uint8)[1:65]
    return facts


def _webp(data: bytes) -> Facts:
    facts, at = Facts(), 12
    while at + 8 <= len(data):
        kind, size = struct.unpack_from("<4sI", data, at)
        body = data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2
        if kind == b"EXIF":
            facts.update(_tags(body.removeprefix(b"Exif\0\0")))
        elif kind in (b"ICCP", b"XMP "):
            facts[{b"ICCP": "icc", b"XMP ": "xmp"}[kind]] = body
        elif kind in (b"VP8 ", b"VP8L"):
            facts["coded"] = kind
    return facts


def _tiff(data: bytes) -> Facts:
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        tags = file.pages.first.tags
        facts: Facts = dict(_tags(data))
        for number, name in ((34675, "icc"), (700, "xmp"), (34377, "iptc"), (33723, "iim")):
            if number in tags:
                facts[name] = bytes(tags[number].value)
        if 282 in tags:
            facts["dpi"] = tuple(round(Fraction(*tags[number].value)) for number in (282, 283))
        if file.pages.first.compression in (1, 8):
            facts["samples"] = file.pages.first.asarray()
        else:
            image = Image.open(io.BytesIO(data))
            facts["samples"] = np.array(
                image.convert("RGB" if image.mode == "P" else "L" if image.mode == "1" else None)
            )
    return facts


def _bmp(data: bytes) -> Facts:
    return {"dpi": tuple(round(each * 0.0254) for each in struct.unpack_from("<II", data, 38))}


def _dpx(data: bytes) -> Facts:
    return {"header": data[:2048], "samples": decode_dpx(data).to_ndarray()}


def _exr(data: bytes) -> Facts:
    facts, at = Facts(), 8
    while data[at]:  # attributes of the first part as they lie there
        name, kind = data[at : at + 600].split(b"\0")[:2]
        begin = at + len(name) + len(kind) + 6
        at = begin + struct.unpack_from("<I", data, begin - 4)[0]
        if name.decode() not in _EXR_STRUCTURE:
            facts[name.decode()] = kind, data[begin:at]
    file = OpenEXR.File(io.BytesIO(data), separate_channels=True)
    for number, part in enumerate(file.parts):
        for name, channel in part.channels.items():
            facts[f"samples {number} {name}"] = channel.pixels
    facts["storage"] = str(file.parts[0].header["type"])
    return facts


_READERS = {"png": _png, "jpg": _jpeg, "webp": _webp, "tif": _tiff, "bmp": _bmp, "dpx": _dpx, "exr": _exr}


def facts_of(data: bytes, kind: str) -> Facts:
    """All that a still of a kind says and shows, by name."""
    facts = _READERS[kind](data)
    if (
        kind == "webp"
    ):  # whether a still without transparency has room for it, and colours that are not seen, are no matter
        image = np.array(Image.open(io.BytesIO(data)).convert("RGBA"))
        facts["samples"] = np.where(image[..., 3:] > 0, image, 0)
    elif kind not in ("tif", "dpx", "exr"):
        flags = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
        facts["samples"] = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    return facts


def lacking(before: Facts, after: Facts, *, samples: bool) -> str:
    """Names of what the second still lacks or says otherwise, with how much its samples are off; "" for nothing."""
    lost: list[str] = []
    for name, value in before.items():
        other = after.get(name)
        if not samples and name.startswith(("coded", "samples")):
            continue
        if isinstance(value, np.ndarray):
            if said := _off(name, value, other):
                lost.append(said)
        elif other is None:
            lost.append(f"-{name}")
        elif abs(other - value) > 0.03 if isinstance(value, float) else other != value:
            lost.append(f"≠{name}")
    added = sorted(after.keys() - before.keys()) if samples else []
    return " ".join([*lost, *(f"+{name}" for name in added)])


def _off(name: str, value: np.ndarray, other: np.ndarray | None) -> str:
    if name.endswith(("picture", "audio samples")) and other is not None:
        return _near(name, value, other)
    if other is None or other.shape != value.shape:
        return f"-{name}"
    if name.startswith("coded steps"):
        return "" if (other <= value).all() else f"≠{name}"
    one, two = value.copy(), other.copy()
    if name.startswith("samples"):
        one[CHANGED], two[CHANGED] = 0, 0
    if one.dtype != two.dtype:
        return f"{name}: {one.dtype}→{two.dtype}"
    if (one == two).all():
        return ""
    off = np.abs(one.astype(np.float64) - two).max()
    return f"≠{name}" if off > 16 else f"{name}: ≤{off:.4g}"


def _near(name: str, value: np.ndarray, other: np.ndarray) -> str:
    """Frames, and sound without its silence: other by a little ("~") or much."""
    if value.shape == other.shape and (value == other).all():
        return ""
    if name.endswith("samples"):  # of lossy codecs, which begin within a frame of 1,024
        near = value.shape[0] == other.shape[0] and abs(value.shape[1] - other.shape[1]) < 5000
        levels = [np.sqrt((wave.astype(np.float64) ** 2).mean(1)) for wave in (value, other)]
        return f"~{name}" if near and np.allclose(*levels, rtol=0.05) else f"≠{name}"
    near = value.shape == other.shape and np.abs(value.astype(np.float64) - other).mean() < 0.02 * 65535
    return f"~{name}" if near else f"≠{name}"
