"""Returns numpy views of a PyAV frame's native planes, without conversion.

Supported formats: planar YUV 4:2:0, 4:2:2, 4:4:4, 4:1:1, 4:4:0, 4:1:0 (also yuvj, yuva) of 8 to 16 bits in either byte
order; nv12, nv21, nv16, nv24, nv42, nv20, p010…p416; yuyv422, uyvy422, yvyu422, y210, y212, y216; ayuv, vuya, vuyx,
uyva, ayuv64, xv36, xv48; gray of 8 to 16 bits, ya8, ya16; rgb24, bgr24 and all 32-bit orders; rgb48, bgr48, rgba64,
bgra64; gbrp and gbrap of 8 to 16 bits. `fallback` returns the supported format to which swscale can convert any other
one.
"""

from __future__ import annotations

import ctypes
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import av

Samples = NDArray[Any]
Role = Literal["y", "u", "v", "r", "g", "b"]


@dataclass(frozen=True, slots=True)
class Layout:
    """Describes the memory layout of a pixel format's samples.

    Attributes:
        kind: "yuv", "rgb" or "gray".
        bits: significant bits of a sample.
        shift: bits by which the value is shifted left in its storage word (6 in p010).
        dtype: type of a storage word, with byte order.
        subsampling: subsampling of u and v, horizontal and vertical.
        components: for each role, index of the plane, first word, and words from one sample to the next. There is no
            alpha, because it is never read or written.
        full_range: True if the format itself implies full range (yuvj, RGB).
    """

    kind: Literal["yuv", "rgb", "gray"]
    bits: int
    shift: int
    dtype: np.dtype[Any]
    subsampling: tuple[int, int]
    components: dict[Role, tuple[int, int, int]]
    full_range: bool = False

    def role_subsampling(self, role: Role) -> tuple[int, int]:
        """Returns the subsampling of one component."""
        return self.subsampling if role in ("u", "v") else (1, 1)


_SUBSAMPLING = {"420": (2, 2), "422": (2, 1), "444": (1, 1), "411": (4, 1), "440": (1, 2), "410": (4, 4)}
_PACKED_RGB = {
    "rgb24": "rgb",
    "bgr24": "bgr",
    "rgba": "rgba",
    "bgra": "bgra",
    "argb": "argb",
    "abgr": "abgr",
    "rgb0": "rgb0",
    "bgr0": "bgr0",
    "0rgb": "0rgb",
    "0bgr": "0bgr",
    "rgb48": "rgb",
    "bgr48": "bgr",
    "rgba64": "rgba",
    "bgra64": "bgra",
}
_PACKED_444 = {
    "ayuv": ("ayuv", 8, 0),
    "vuya": ("vuya", 8, 0),
    "vuyx": ("vuyx", 8, 0),
    "uyva": ("uyva", 8, 0),
    "ayuv64": ("ayuv", 16, 0),
    "xv36": ("uyvx", 12, 4),
    "xv48": ("uyvx", 16, 0),
}
_PACKED_422 = {
    "yuyv422": ("yuyv", 8, 0),
    "uyvy422": ("uyvy", 8, 0),
    "yvyu422": ("yvyu", 8, 0),
    "y210": ("yuyv", 10, 6),
    "y212": ("yuyv", 12, 4),
    "y216": ("yuyv", 16, 0),
}
_SEMI = {
    "nv12": ("420", "uv", 8),
    "nv21": ("420", "vu", 8),
    "nv16": ("422", "uv", 8),
    "nv24": ("444", "uv", 8),
    "nv42": ("444", "vu", 8),
    "nv20": ("422", "uv", 10),
}
_P0XX = {"0": "420", "2": "422", "4": "444"}


def _dtype(bits: int, order: str | None) -> np.dtype[Any]:
    if bits == 8:
        return np.dtype(np.uint8)
    return np.dtype(">u2" if order == "be" else "<u2")


def _packed(order: str) -> dict[Role, tuple[int, int, int]]:
    return {role: (0, order.index(role), len(order)) for role in ("y", "u", "v", "r", "g", "b") if role in order}


@lru_cache(maxsize=256)
def layout(name: str) -> Layout | None:
    """Returns the layout of a pixel format (FFmpeg's name). None if the format needs conversion."""
    planar = re.fullmatch(r"yuv([ja]?)(420|422|444|411|440|410)p(\d*)(msb)?(le|be)?", name)
    if planar:
        variant, sub, bits_text, msb, order = planar.groups()
        bits = int(bits_text or 8)
        return Layout(
            "yuv",
            bits,
            16 - bits if msb else 0,
            _dtype(bits, order),
            _SUBSAMPLING[sub],
            {"y": (0, 0, 1), "u": (1, 0, 1), "v": (2, 0, 1)},
            full_range=variant == "j",
        )
    gbr = re.fullmatch(r"gbra?p(\d*)(msb)?(le|be)?", name)
    if gbr and int(gbr[1] or 8) <= 16:
        bits = int(gbr[1] or 8)
        return Layout(
            "rgb",
            bits,
            16 - bits if gbr[2] else 0,
            _dtype(bits, gbr[3]),
            (1, 1),
            {"g": (0, 0, 1), "b": (1, 0, 1), "r": (2, 0, 1)},
            full_range=True,
        )
    gray = re.fullmatch(r"(gray|ya)(\d*)(le|be)?", name)
    if gray and int(gray[2] or 8) in (8, 9, 10, 12, 14, 16):
        bits = int(gray[2] or 8)
        return Layout("gray", bits, 0, _dtype(bits, gray[3]), (1, 1), {"y": (0, 0, 1 + (gray[1] == "ya"))})
    p0xx = re.fullmatch(r"p([024])(10|12|16)(le|be)", name)
    if p0xx:
        bits = int(p0xx[2])
        return Layout(
            "yuv",
            bits,
            16 - bits,
            _dtype(16, p0xx[3]),
            _SUBSAMPLING[_P0XX[p0xx[1]]],
            {"y": (0, 0, 1), "u": (1, 0, 2), "v": (1, 1, 2)},
        )
    order = name[-2:] if name[-2:] in ("le", "be") else None
    base = name[:-2] if order else name
    if base in _SEMI:
        sub, uv, bits = _SEMI[base]
        return Layout(
            "yuv",
            bits,
            0,
            _dtype(bits, order),
            _SUBSAMPLING[sub],
            {"y": (0, 0, 1), "u": (1, uv.index("u"), 2), "v": (1, uv.index("v"), 2)},
        )
    if base in _PACKED_RGB:
        bits = 16 if base.endswith(("48", "64")) else 8
        return Layout("rgb", bits, 0, _dtype(bits, order), (1, 1), _packed(_PACKED_RGB[base]), full_range=True)
    if base in _PACKED_444:
        text, bits, shift = _PACKED_444[base]
        return Layout("yuv", bits, shift, _dtype(bits, order), (1, 1), _packed(text))
    if base in _PACKED_422:
        text, bits, shift = _PACKED_422[base]
        parts = _packed(text)
        parts["y"] = (0, text.index("y"), 2)
        return Layout("yuv", bits, shift, _dtype(bits, order), (2, 1), parts)
    return None


def fallback(name: str) -> str:
    """Returns the supported format nearest to an unsupported one, for swscale.

    The conversion is lossless for palettes, 1-bit and packed low-bit RGB, and for the 10-bit packings x2rgb10, x2bgr10,
    xv30 and v30x. Floating point and X'Y'Z' become 16 bits a sample.
    """
    if name == "pal8":
        return "rgba"
    if name.startswith(("mono", "grayf")):
        return "gray16le" if name.startswith("grayf") else "gray"
    if name.startswith(("x2rgb10", "x2bgr10")):
        return "gbrp10le"
    if name.startswith(("xv30", "v30x")):
        return "yuv444p10le"
    if name == "uyyvyy411":
        return "yuv411p"
    from av import VideoFormat  # in the frame path, only conversions need PyAV

    description = VideoFormat(name)
    bits = max((c.bits for c in description.components), default=8)
    alpha = any(c.is_alpha for c in description.components)
    if bits > 8:
        return "gbrap16le" if alpha else "gbrp16le"
    return "rgba" if alpha else "rgb24"


def planes(image: av.VideoFrame, plane_layout: Layout, parity: int | None = None) -> dict[Role, Samples]:
    """Returns every component's samples as writable h×w views, in storage words.

    Args:
        image: frame whose memory the views share; call `make_writable()` before writing.
        plane_layout: `layout(image.format.name)`.
        parity: None for whole planes, 0 or 1 for the even or odd rows of each (a field).
    """
    views: dict[Role, Samples] = {}
    native = image.planes
    for role, (index, first, step) in plane_layout.components.items():
        plane = native[index]
        sx, sy = plane_layout.role_subsampling(role)
        shape = (-(-image.height // sy), -(-image.width // sx))
        stride = plane.line_size
        item = plane_layout.dtype.itemsize
        if stride >= 0:
            memory: Any = plane
            view = np.ndarray(shape, plane_layout.dtype, memory, first * item, (stride, step * item))
        else:  # bottom-up (raw RGB in AVI, vflip): the pointer is at the top row, the last one in memory
            lowest = plane.buffer_ptr + stride * (shape[0] - 1)
            memory = (ctypes.c_uint8 * (-stride * shape[0])).from_address(lowest)
            view = np.ndarray(shape, plane_layout.dtype, memory, first * item, (-stride, step * item))[::-1]
        if parity is not None:
            view = view[parity::2]
        views[role] = view
    return views
