"""The structs of `kernels.cu`, field by field, and their bytes."""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Any

import numpy as np

Struct = np.ndarray[Any, np.dtype[np.void]]


def struct_type(**fields: Any) -> np.dtype[np.void]:
    """Creates a C struct's dtype. Each field is a type, or a type and a shape."""
    return np.dtype(
        [(name, *(kind if isinstance(kind, tuple) else (kind,))) for name, kind in fields.items()], align=True
    )


_INT, _FLOAT, _ADDRESS, _LONG = np.int32, np.float32, np.uint64, np.int64
SOURCE = struct_type(
    at=(_ADDRESS, 3),
    pitch=_INT,
    step=_INT,
    word=_INT,
    shift=_INT,
    width=_INT,
    height=_INT,
    half=_INT,
    inside=_INT,
    m=(_FLOAT, 6),
)
CROP_FACE = struct_type(first=SOURCE, second=SOURCE, pixels=_ADDRESS, native=_ADDRESS)
CROP_JOB = struct_type(
    count=_INT,
    size=_INT,
    kind=_INT,
    entries=_INT,
    table=_ADDRESS,
    wide=_INT,
    unused=_INT,
    rows=(_FLOAT, (3, 4)),
    gamut=(_FLOAT, 9),
    pad=_FLOAT,
)
SEEN_JOB = struct_type(
    count=_INT,
    size=_INT,
    pixels=_ADDRESS,
    to=_ADDRESS,
    width=_INT,
    height=_INT,
    m=(_FLOAT, 6),
    low=(_FLOAT, 2),
    high=(_FLOAT, 2),
    input=_ADDRESS,
    planar=_INT,
    bgr=_INT,
    divisor=_FLOAT,
    unused=_INT,
)
FILTER = struct_type(
    **{"from": _ADDRESS},
    to=_ADDRESS,
    plane=_LONG,
    pitch=_INT,
    step=_INT,
    word=_INT,
    shift=_INT,
    width=_INT,
    height=_INT,
    zeros=_INT,
    channels=_INT,
    weights=(_FLOAT, 3),
    nx=_INT,
    ny=_INT,
    to_pitch=_INT,
    to_width=_INT,
    to_height=_INT,
    kx=(_FLOAT, 5),
    ky=(_FLOAT, 5),
    unused=_INT,
)
FILTER_JOB = struct_type(count=_INT, unused=_INT)
UNCURVE_FACE = struct_type(**{"from": _ADDRESS}, native=_ADDRESS, to=_ADDRESS, size=_INT, unused=_INT)
UNCURVE_JOB = struct_type(count=_INT, entries=_INT, table=_ADDRESS, wide=_INT, gamut=(_FLOAT, 9))
TARGET = struct_type(
    at=(_ADDRESS, 3),
    pitch=_INT,
    step=_INT,
    word=_INT,
    shift=_INT,
    parts=_INT,
    x=_INT,
    y=_INT,
    dither_x=(_INT, 3),
    dither_y=(_INT, 3),
    low=(_FLOAT, 3),
    high=(_FLOAT, 3),
    unused=_INT,
)
PATCH = struct_type(
    values=_ADDRESS,
    mask=_ADDRESS,
    plane=_LONG,
    pitch=_INT,
    width=_INT,
    height=_INT,
    channels=_INT,
    mask_pitch=_INT,
    mask_width=_INT,
    mask_height=_INT,
    gated=_INT,
    cubic=_INT,
    target=_INT,
    box=(_INT, 4),
    near=_INT,
    nears=_INT,
    weights=(_FLOAT, (3, 3)),
    m=(_FLOAT, 6),
    k=(_FLOAT, 6),
    coloured=_LONG,
)
TINT = struct_type(
    at=(_ADDRESS, 2),
    pitch=_INT,
    step=_INT,
    word=_INT,
    shift=_INT,
    width=_INT,
    height=_INT,
    low=_INT,
    high=_INT,
    coloured=_INT,
    unused=_INT,
)
TINT_COLOURED = (TINT.fields or {})["coloured"][1]
TINT_JOB = struct_type(count=_INT, unused=_INT)
PASTE_JOB = struct_type(count=_INT, unused=_INT, targets=(TARGET, 2))
STRUCTS = {
    "Source": SOURCE,
    "CropFace": CROP_FACE,
    "CropJob": CROP_JOB,
    "Filter": FILTER,
    "FilterJob": FILTER_JOB,
    "UncurveFace": UNCURVE_FACE,
    "UncurveJob": UNCURVE_JOB,
    "Target": TARGET,
    "Patch": PATCH,
    "PasteJob": PASTE_JOB,
    "SeenJob": SEEN_JOB,
    "Tint": TINT,
    "TintJob": TINT_JOB,
}
"""The structs by their names in `kernels.cu`."""


_CODES: dict[Any, str] = {np.dtype(_ADDRESS): "Q", np.dtype(_LONG): "q", np.dtype(_INT): "i", np.dtype(_FLOAT): "f"}


@lru_cache(maxsize=64)
def _format(dtype: np.dtype[Any]) -> struct.Struct:
    """Returns the layout of a structured dtype, including padding."""
    return struct.Struct("<" + _codes(dtype))


def _codes(dtype: np.dtype[Any]) -> str:
    if dtype.subdtype is not None:
        item, shape = dtype.subdtype
        return _codes(item) * int(np.prod(shape))
    if dtype.fields is None:
        return _CODES[dtype]
    codes, at = "", 0
    for kind, offset in (field[:2] for field in dtype.fields.values()):
        codes += "x" * (offset - at) + _codes(kind)
        at = offset + kind.itemsize
    return codes + "x" * (dtype.itemsize - at)


def packed(dtype: np.dtype[Any], *values: float) -> bytes:
    """Packs one struct from its fields' values in order. Faster than an array for few structs. Raises struct.error if
    values are missing or too large."""
    return _format(dtype).pack(*values)
