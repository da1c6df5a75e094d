"""The interface of the kernels in `kernels.cu`: names, argument types, launches.

Each kernel's only argument is the address of a descriptor: a header followed by entries (`structs`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rtface.device.cuda.gpu import Shape3
from rtface.device.cuda.structs import UNCURVE_FACE, UNCURVE_JOB
from rtface.frame import Bytes, Color, Float32
from rtface.geometry.color_curves import curve_of

CODE = Path(__file__).with_name("kernels.cu")
KERNELS: dict[str, tuple[type[np.generic], ...]] = dict.fromkeys(
    ("crop", "seen", "area", "blur", "uncurve", "tint", "paste"), (np.uint64,)
)
"""Argument types of every kernel: the descriptor's address."""
BLOCK: Shape3 = (32, 8, 1)
CROP_COLUMNS, CROP_ROWS = 2, 4  # columns and rows of crop pixels per thread; the first thread starts at row -1
TINT_ROWS = 8  # rows of samples that one thread checks


class KernelCall(NamedTuple):
    """One kernel and its arguments."""

    kernel: str
    grid: Shape3
    block: Shape3
    args: tuple[np.generic, ...]


@dataclass(slots=True)
class LaunchList:
    """Descriptors for the GPU, and the launches that read them, in order.

    Attributes:
        descriptors: bytes (uint8) for the GPU; their address there must be a multiple of 16.
        launches: per launch the kernel, its grid, and the offset of its descriptor.
    """

    parts: list[bytes] = field(default_factory=list[bytes])
    launches: list[tuple[str, Shape3, int]] = field(default_factory=list[tuple[str, Shape3, int]])
    nbytes: int = 0

    @property
    def descriptors(self) -> Bytes:
        return np.frombuffer(b"".join(self.parts), np.uint8)

    def add(self, kernel: str, extent: tuple[int, int], count: int, *arrays: bytes | np.ndarray[Any, Any]) -> None:
        """Adds a launch over `count` entries of `extent` (x, y) threads. `arrays` are its descriptor."""
        if not count or not extent[0] or not extent[1]:
            return
        grid = (-(-extent[0] // BLOCK[0]), -(-extent[1] // BLOCK[1]), count)
        self.launches.append((kernel, grid, self.nbytes))
        data = [array if isinstance(array, bytes) else array.tobytes() for array in arrays]
        nbytes = sum(map(len, data))
        self.parts += [*data, bytes(-nbytes % 16)]
        self.nbytes += nbytes + -nbytes % 16

    def steps(self, base: int) -> list[KernelCall]:
        """Returns the launches for descriptors at address `base`."""
        return [KernelCall(kernel, grid, BLOCK, (np.uint64(base + at),)) for kernel, grid, at in self.launches]

    def extend(self, other: LaunchList) -> None:
        """Appends the launches of another job."""
        self.launches += [(kernel, grid, self.nbytes + at) for kernel, grid, at in other.launches]
        self.parts += other.parts
        self.nbytes += other.nbytes


class Scratch:
    """Assigns consecutive offsets in a block of memory."""

    def __init__(self) -> None:
        self.nbytes = 0

    def take(self, nbytes: int) -> int:
        """Returns the offset of the next `nbytes` bytes."""
        at = self.nbytes
        self.nbytes += -(-nbytes // 256) * 256
        return at


def curve_tables(color: Color) -> Float32:
    """Returns the tables for `crop` and `uncurve`, in this order. The array is empty if `color` has no curve."""
    curve = curve_of(color)
    return np.zeros(0, np.float32) if curve is None else np.concatenate([curve.table, curve.inverse_slope])


def uncurve_job(color: Color, faces: Sequence[tuple[int, int, int, int]], tables: int) -> LaunchList:
    """Converts corrections (float32 3×S×S) from engine to native units. Does nothing for SDR.

    Args:
        color: colour tags of the frame.
        faces: per face the addresses of the correction, the native crop (`CropPlan.job(native=…)`) and the result
            (it may be the correction's address), and S.
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
