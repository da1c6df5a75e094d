"""The interface of the kernels in `kernels.cu`: names, argument types, descriptors, launches.

Every kernel takes the address of one descriptor: a head, then entries. The structured dtypes here are the structs of
`kernels.cu`, field by field.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rtface.device.cuda.gpu import Shape3
from rtface.frame import Bytes, Color, Float, Float32
from rtface.geometry.color_curves import curve_of

CODE = Path(__file__).with_name("kernels.cu")
KERNELS: dict[str, tuple[type[np.generic], ...]] = dict.fromkeys(
    ("crop", "seen", "area", "blur", "uncurve", "tint", "paste"), (np.uint64,)
)
"""Argument types of every kernel: the descriptor's address."""
BLOCK: Shape3 = (32, 8, 1)
CROP_COLUMNS, CROP_ROWS = 2, 4  # pixels of a crop to a thread, from row -1 on
TINT_ROWS = 8  # samples below each other that one thread looks at

Struct = np.ndarray[Any, np.dtype[np.void]]


def struct_type(**fields: Any) -> np.dtype[np.void]:
    """A C struct: a field by each name, of a type or of a type and a shape."""
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
"""By the names that the structs have in `kernels.cu`."""


_CODES: dict[Any, str] = {np.dtype(_ADDRESS): "Q", np.dtype(_LONG): "q", np.dtype(_INT): "i", np.dtype(_FLOAT): "f"}


@lru_cache(maxsize=64)
def _format(dtype: np.dtype[Any]) -> struct.Struct:
    """The layout of a structured dtype, padding between and behind its fields included."""
    return struct.Struct("<" + _codes(dtype))


def _codes(dtype: np.dtype[Any]) -> str:
    if dtype.subdtype is not None:
        item, shape = dtype.subdtype
        return _codes(item) * int(np.prod(shape))
    if dtype.fields is None:
        return _CODES[dtype]
    codes, at = "", 0
    for kind, offset in (given[:2] for given in dtype.fields.values()):
        codes += "x" * (offset - at) + _codes(kind)
        at = offset + kind.itemsize
    return codes + "x" * (dtype.itemsize - at)


def packed(dtype: np.dtype[Any], *values: float) -> bytes:
    """One struct, of the values of all its fields in order; for a few structs faster than an array. Raises struct.error
    where values are missing or too large."""
    return _format(dtype).pack(*values)


class KernelCall(NamedTuple):
    """One kernel and its arguments."""

    kernel: str
    grid: Shape3
    block: Shape3
    args: tuple[np.generic, ...]


class Launch(NamedTuple):
    """One kernel of a job; its argument is the address of the job's descriptors + `at`."""

    kernel: str
    grid: Shape3
    block: Shape3
    at: int


@dataclass(slots=True)
class LaunchList:
    """Descriptors to be copied to the GPU, and the launches that read them, in order.

    Attributes:
        descriptors: uint8; wants an address that is a multiple of 16.
        launches: nothing where there is nothing to do.
    """

    parts: list[bytes] = field(default_factory=list[bytes])
    launches: list[Launch] = field(default_factory=list[Launch])
    nbytes: int = 0

    @property
    def descriptors(self) -> Bytes:
        return np.frombuffer(b"".join(self.parts), np.uint8)

    def add(self, kernel: str, extent: tuple[int, int], count: int, *arrays: bytes | np.ndarray[Any, Any]) -> None:
        """One launch over `count` entries of `extent` threads in x and y, whose descriptor is these bytes."""
        if not count or not extent[0] or not extent[1]:
            return
        grid = (-(-extent[0] // BLOCK[0]), -(-extent[1] // BLOCK[1]), count)
        self.launches.append(Launch(kernel, grid, BLOCK, self.nbytes))
        data = [array if isinstance(array, bytes) else array.tobytes() for array in arrays]
        nbytes = sum(map(len, data))
        self.parts += [*data, bytes(-nbytes % 16)]
        self.nbytes += nbytes + -nbytes % 16

    def steps(self, base: int) -> list[KernelCall]:
        """The launches, where the descriptors begin at address `base`."""
        return [KernelCall(k.kernel, k.grid, k.block, (np.uint64(base + k.at),)) for k in self.launches]

    def extend(self, other: LaunchList) -> None:
        """What another job does, after this one's launches."""
        self.launches += [launch._replace(at=self.nbytes + launch.at) for launch in other.launches]
        self.parts += other.parts
        self.nbytes += other.nbytes


class Scratch:
    """Places in a block of memory, one after the other."""

    def __init__(self) -> None:
        self.nbytes = 0

    def take(self, nbytes: int) -> int:
        """The first byte of so many."""
        at = self.nbytes
        self.nbytes += -(-nbytes // 256) * 256
        return at


def affine(matrix: Float) -> Float32:
    """2×3 as the structs have it."""
    return np.asarray(matrix, np.float32).reshape(6)


def curve_tables(color: Color) -> Float32:
    """The table that `crop` and then the one that `uncurve` reads, to be copied to the GPU; empty without a curve."""
    curve = curve_of(color)
    return np.zeros(0, np.float32) if curve is None else np.concatenate([curve.table, curve.inverse_slope])


def uncurve_job(color: Color, faces: Sequence[tuple[int, int, int, int]], tables: int) -> LaunchList:
    """Takes corrections (float32 3×S×S, engine units) back to native units; nothing for plain SDR.

    Args:
        color: of the frame.
        faces: addresses of a correction, of its native crop (`CropPlan.job(native=…)`) and of the result (may be the
            first), and S.
        tables: address of `curve_tables(color)`.
    """
    job, curve = LaunchList(), curve_of(color)
    if curve is None or not faces:
        return job
    head, rows = np.zeros(1, UNCURVE_JOB), np.zeros(len(faces), UNCURVE_FACE)
    entries = len(curve.table)
    head["count"], head["entries"], head["table"] = len(faces), entries, tables + 4 * entries
    if curve.gamut is not None:
        head["wide"], head["gamut"] = 1, np.linalg.inv(curve.gamut).reshape(9)
    for row, (correction, native, to, size) in zip(rows, faces, strict=True):
        row["from"], row["native"], row["to"], row["size"] = correction, native, to, size
    side = max(size for *_, size in faces)
    job.add("uncurve", (side, side), len(faces), head, rows)
    return job
