"""Stills and scans of every format once, with all that archives and cameras put into them; made on the spot."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import av
import numpy as np
import OpenEXR
import tifffile
from PIL import Image, ImageCms

from rtface.media.formats.tiff_tags import Directory, exif_with
from tests.media.encoded import encoded

WIDTH, HEIGHT = 64, 48
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b"""<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF
xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""
xmlns:crs="http://ns.adobe.com/camera-raw-settings/1.0/" xmlns:own="https://example.org/archive/"
crs:Exposure2012="+0.35" own:Box="17"><crs:ToneCurvePV2012><rdf:Seq><rdf:li>0, 0</rdf:li><rdf:li>255, 255</rdf:li>
</rdf:Seq></crs:ToneCurvePV2012><own:Shelf rdf:parseType="Resource"><own:Row>4</own:Row></own:Shelf></rdf:Description>
</rdf:RDF></x:xmpmeta><?xpacket end="w"?>"""
_IIM = b"\x1c\x02\x69\x00\x08Headline\x1c\x02\x50\x00\x06Author"
_RESOURCES = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(_IIM)) + _IIM + b"8BIM\x07\xd0\0\0\0\0\0\x04path"


def exif(order: str, orientation: int = 6) -> bytes:
    """EXIF as of a camera: maker's note, lens, comment, place."""
    said: Directory = {
        271: (2, 6, b"Maker\0"),
        274: (3, 1, struct.pack(order + "H", orientation)),
        282: (5, 1, struct.pack(order + "II", 300, 1)),
        283: (5, 1, struct.pack(order + "II", 300, 1)),
        296: (3, 1, struct.pack(order + "H", 2)),
        306: (2, 20, b"2020:02:03 04:05:06\0"),
        33432: (2, 5, b"Mine\0"),
        34665: (
            4,
            1,
            {
                33434: (5, 1, struct.pack(order + "II", 1, 125)),
                37500: (7, 200, bytes(range(200))),
                37510: (7, 12, b"ASCII\0\0\0word"),
                42036: (2, 5, b"Lens\0"),
            },
        ),
        34853: (4, 1, {1: (2, 2, b"N\0"), 2: (5, 3, struct.pack(order + "6I", 48, 1, 8, 1, 30, 1))}),
    }
    return exif_with(said, order)


def noise(channels: int, dtype: Any = np.uint8) -> np.ndarray:
    """Samples that use every bit; rows × columns × channels, or rows × columns of one."""
    random = np.random.default_rng(channels)
    shape = (HEIGHT, WIDTH, channels) if channels > 1 else (HEIGHT, WIDTH)
    if np.issubdtype(dtype, np.floating):
        return random.random(shape).astype(dtype)
    return random.integers(0, np.iinfo(dtype).max, shape, endpoint=True).astype(dtype)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _png(pix_fmt: str, samples: np.ndarray, *extra: tuple[bytes, bytes]) -> bytes:
    said = [
        (b"iCCP", b"sRGB\0\0" + zlib.compress(PROFILE)),
        (b"pHYs", struct.pack(">IIB", 11811, 11811, 1)),
        (b"tEXt", b"Title\0Words"),
        (b"zTXt", b"Note\0\0" + zlib.compress(b"packed")),
        (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
        (b"eXIf", exif(">")),
        (b"tIME", struct.pack(">HBBBBB", 2020, 2, 3, 4, 5, 6)),
        *extra,
    ]
    data = encoded(av.VideoFrame.from_ndarray(samples, pix_fmt), "png")
    return (
        data[:33] + b"".join(_chunk(*each) for each in said) + data[data.index(b"IDAT") - 4 :]
    )  # without FFmpeg's pHYs


def _jpeg(mode: str = "RGB", **options: Any) -> bytes:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    smooth = np.stack([3 * x, 4 * y, 200 - x - y], -1).clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    options = {"icc_profile": PROFILE, "dpi": (300, 300), "comment": b"on the back: 1931"} | options
    Image.fromarray(smooth).convert(mode).save(file, "JPEG", exif=b"Exif\0\0" + exif(">"), xmp=XMP, **options)
    segment = b"Photoshop 3.0\0" + _RESOURCES
    data = file.getvalue()
    return data[:20] + b"\xff\xed" + struct.pack(">H", len(segment) + 2) + segment + data[20:]


def _webp(channels: int, *, lossless: bool) -> bytes:
    file = io.BytesIO()
    options: dict[str, Any] = {"lossless": lossless, "exact": True, "quality": 90}
    Image.fromarray(noise(channels)).save(file, "WEBP", icc_profile=PROFILE, exif=exif("<"), xmp=XMP, **options)
    return file.getvalue()


def _tiff(samples: np.ndarray, *, order: str = "<", **options: Any) -> bytes:
    file = io.BytesIO()
    more = [
        (271, "s", 0, "Maker", True),
        (274, "H", 1, 6, True),
        (315, "s", 0, "Author", True),
        (33723, 7, len(_IIM), _IIM, True),
        (34377, "B", len(_RESOURCES), _RESOURCES, True),
        (700, "B", len(XMP), XMP, True),
        (65000, "s", 0, "private", True),
    ]
    colours = "minisblack" if samples.ndim == 2 else "rgb"
    said: dict[str, Any] = {"photometric": colours, "iccprofile": PROFILE, "extratags": more, "description": "Words"}
    said |= {
        "resolution": (300, 300),
        "resolutionunit": 2,
        "datetime": "2020:02:03 04:05:06",
        "metadata": None,
        "byteorder": order,
    }
    tifffile.imwrite(file, samples, **(said | options))
    return file.getvalue()


def _other_tiff(mode: str, compression: str) -> bytes:
    """A TIFF by libtiff."""
    file = io.BytesIO()
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    smooth = np.stack([3 * x, 4 * y, 200 - x - y], -1).clip(0, 255).astype(np.uint8)
    Image.fromarray(smooth).convert(mode).save(file, "TIFF", compression=compression)
    return file.getvalue()


def _bmp() -> bytes:
    data = encoded(av.VideoFrame.from_ndarray(noise(3), "bgr24"), "bmp")
    return data[:38] + struct.pack("<ii", 11811, 11811) + data[46:]


def _dpx() -> bytes:
    image = av.VideoFrame.from_ndarray(noise(3, np.uint16), "rgb48le").reformat(format="gbrp10be")
    data = bytearray(encoded(image, "dpx"))
    data[260:264] = b"Reel"
    data[801] = data[802] = 1
    data[1664:1680] = b"KU12345678901234"
    struct.pack_into(">f", data, 1724, 24.0)
    struct.pack_into(">I", data, 1920, 0x01000000)
    return bytes(data)


def cineon(samples: np.ndarray) -> bytes:
    """A Cineon scan of 10-bit RGB, rows × columns × 3."""
    (height, width, _), head = samples.shape, bytearray(2048)
    struct.pack_into(">6I", head, 0, 0x802A5FD7, 2048, 1024, 1024, 0, 2048 + 4 * width * height)
    head[193], head[681] = 3, 5
    for number in range(3):
        struct.pack_into(">4B2I", head, 196 + 28 * number, 0, number + 1, 10, 0, width, height)
    words = (samples.astype(np.uint32) << np.array((22, 12, 2), np.uint32)).sum(2, dtype=np.uint32)
    return bytes(head) + words.astype(">u4").tobytes()


def _attribute(name: str, kind: str, value: bytes) -> bytes:
    return name.encode() + b"\0" + kind.encode() + b"\0" + struct.pack("<I", len(value)) + value


_EXR_SAID = b"".join(
    _attribute(*each)
    for each in (
        ("owner", "string", b"archive"),
        ("framesPerSecond", "rational", struct.pack("<iI", 24, 1)),
        ("timeCode", "timecode", struct.pack("<II", 0x01000000, 7)),
        ("keyCode", "keycode", struct.pack("<7i", 1, 2, 3, 4, 5, 4, 64)),
        ("chromaticities", "chromaticities", struct.pack("<8f", 0.7, 0.3, 0.2, 0.7, 0.1, 0.05, 0.31, 0.32)),
        ("utcOffset", "float", struct.pack("<f", 3600)),
        ("com.maker.grain", "grainblob", bytes(range(5))),
        ("box", "box2f", struct.pack("<4f", 1, 2, 3, 4)),
        ("names", "stringvector", struct.pack("<I", 2) + b"ab" + struct.pack("<I", 1) + b"c"),
        ("curve", "floatvector", struct.pack("<3f", 1, 2, 3)),
        ("preview", "preview", struct.pack("<II", 2, 1) + bytes(range(8))),
        ("envmap", "envmap", b"\0"),
        ("toWorld", "m44f", struct.pack("<16f", *range(16))),
    )
)


def _exr(channels: Mapping[str, str], *, windows: tuple[int, ...] = (0, 0, WIDTH - 1, HEIGHT - 1) * 2) -> bytes:
    """An EXR without compression: half "<f2", float "<f4" and whole "<u4" channels, attributes of many types."""
    kinds = {"<u4": 0, "<f2": 1, "<f4": 2}
    names = b"".join(n.encode() + b"\0" + struct.pack("<iIii", kinds[k], 0, 1, 1) for n, k in channels.items()) + b"\0"
    head = b"v/1\1\2\0\0\0" + _attribute("channels", "chlist", names) + _attribute("compression", "compression", b"\0")
    head += _attribute("dataWindow", "box2i", struct.pack("<4i", *windows[:4]))
    head += _attribute("displayWindow", "box2i", struct.pack("<4i", *windows[4:]))
    head += _attribute("lineOrder", "lineOrder", b"\0") + _attribute("pixelAspectRatio", "float", struct.pack("<f", 1))
    head += _attribute("screenWindowCenter", "v2f", bytes(8))
    head += _attribute("screenWindowWidth", "float", struct.pack("<f", 1)) + _EXR_SAID + b"\0"
    places, body, random = list[int](), b"", np.random.default_rng(1)
    width, height = windows[2] - windows[0] + 1, windows[3] - windows[1] + 1
    for row in range(height):
        places.append(len(head) + 8 * height + len(body))
        parts = [random.integers(0, 1 << 32, width) if k == "<u4" else random.random(width) for k in channels.values()]
        line = b"".join(part.astype(kind).tobytes() for part, kind in zip(parts, channels.values(), strict=True))
        body += struct.pack("<iI", windows[1] + row, len(line)) + line
    return head + struct.pack(f"<{height}Q", *places) + body


def _packed_exr(compression: str, *channels: str, tiles: bool = False, parts: int = 1) -> bytes:
    """An EXR by the OpenEXR library, of half samples."""
    made: list[Any] = []
    for number in range(parts):
        header: dict[str, Any] = {"compression": getattr(OpenEXR, compression), "owner": "archive"}
        header |= {"type": OpenEXR.tiledimage if tiles else OpenEXR.scanlineimage}
        if tiles:
            header["tiles"] = OpenEXR.TileDescription()
        planes = {name: noise(1, np.float32).astype("<f2") for name in channels}
        made.append(OpenEXR.Part(header, planes, f"part{number}"))
    file = io.BytesIO()
    OpenEXR.File(made).write(file)
    return file.getvalue()


RGB = ("B", "G", "R")
FILES: dict[str, Callable[[], bytes]] = {
    "rgb8.png": lambda: _png("rgb24", noise(3)),
    "rgba8.png": lambda: _png("rgba", noise(4), (b"gAMA", struct.pack(">I", 45455)), (b"cICP", bytes((9, 16, 0, 1)))),
    "rgb16.png": lambda: _png("rgb48be", noise(3, np.uint16)),
    "rgba16.png": lambda: _png("rgba64be", noise(4, np.uint16)),
    "gray16.png": lambda: _png("gray16be", noise(1, np.uint16)),
    "420.jpg": lambda: _jpeg(quality=85, subsampling=2),
    "444.jpg": lambda: _jpeg(quality=97, subsampling=0, icc_profile=PROFILE + bytes(100_000)),
    "gray.jpg": lambda: _jpeg("L", quality=90),
    "progressive.jpg": lambda: _jpeg(quality=90, progressive=True),
    "lossless.webp": lambda: _webp(3, lossless=True),
    "alpha.webp": lambda: _webp(4, lossless=True),
    "lossy.webp": lambda: _webp(3, lossless=False),
    "rgb8.tif": lambda: _tiff(noise(3)),
    "rgb8-big-endian.tif": lambda: _tiff(noise(3), order=">", compression="zlib", predictor=True),
    "rgb16.tif": lambda: _tiff(noise(3, np.uint16)),
    "gray16.tif": lambda: _tiff(noise(1, np.uint16), order=">"),
    "straight.tif": lambda: _tiff(noise(4), extrasamples=[2]),
    "premultiplied16.tif": lambda: _tiff(noise(4, np.uint16), extrasamples=[1]),
    "tiles.tif": lambda: _tiff(noise(3), tile=(16, 16)),
    "tiles16.tif": lambda: _tiff(noise(3, np.uint16), tile=(16, 16), compression="zlib"),
    "jpeg.tif": lambda: _other_tiff("RGB", "jpeg"),
    "lzw.tif": lambda: _other_tiff("RGB", "tiff_lzw"),
    "palette.tif": lambda: _other_tiff("P", "packbits"),
    "ink.tif": lambda: _other_tiff("1", "group4"),
    "float.tif": lambda: _tiff(noise(3, np.float32)),
    "big.tif": lambda: _tiff(noise(3), bigtiff=True),
    "rgb.bmp": _bmp,
    "log10.dpx": _dpx,
    "half.exr": lambda: _exr(dict.fromkeys(RGB, "<f2")),
    "float.exr": lambda: _exr(dict.fromkeys(RGB, "<f4")),
    "gray.exr": lambda: _exr({"Y": "<f2"}),
    "layers.exr": lambda: _exr({"A": "<f2", **dict.fromkeys(RGB, "<f2"), "Z": "<f4", "depth.id": "<u4"}),
    "windows.exr": lambda: _exr(dict.fromkeys(RGB, "<f2"), windows=(2, 3, 57, 40, 0, 0, 63, 47)),
    "zip.exr": lambda: _packed_exr("ZIP_COMPRESSION", *RGB, "Z"),
    "zips.exr": lambda: _packed_exr("ZIPS_COMPRESSION", *RGB),
    "rle.exr": lambda: _packed_exr("RLE_COMPRESSION", *RGB, "Z"),
    "piz.exr": lambda: _packed_exr("PIZ_COMPRESSION", *RGB, "Z"),
    "pxr24.exr": lambda: _packed_exr("PXR24_COMPRESSION", *RGB),
    "b44.exr": lambda: _packed_exr("B44_COMPRESSION", *RGB),
    "dwaa.exr": lambda: _packed_exr("DWAA_COMPRESSION", *RGB),
    "tiles.exr": lambda: _packed_exr("ZIP_COMPRESSION", *RGB, tiles=True),
    "parts.exr": lambda: _packed_exr("ZIP_COMPRESSION", *RGB, parts=2),
}
# Made into another format: what both hold comes along.
OTHERS = {
    "420.jpg": (".png", ".tif", ".webp"),
    "rgb8.png": (".jpg", ".tif", ".webp"),
    "rgb16.tif": (".png", ".jpg"),
    "alpha.webp": (".png", ".tif"),
}


def write(folder: Path) -> None:
    """All of them."""
    for name, make in FILES.items():
        (folder / name).write_bytes(make())
