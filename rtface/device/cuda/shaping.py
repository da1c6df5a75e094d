"""Descriptors, launches and results of the kernels in `shape.cu`: the full-resolution steps of `correct.shape`.

A batch of faces, each with its own side S, is processed in these steps:

    faces = b"".join([face_of(area, options, addresses), …])        # upload it before the engine answers
    measure_launches(…)                                               # fills each face's `measures`; download them
    controls = b"".join([control_of(decide(unpack(…), …), …), …])   # upload it
    apply_launches(…)                                                 # computes corrections and final masks

Answers of engines without memory are averaged over time before the measuring:

    small_job(…)                    # reduces each crop; download the copy for `TemporalAverage.follow`
    average_launches(…)             # replaces answers by averages; upload the results of `follow` before

All sizes are fixed in advance: `FACE.itemsize` and `CONTROL.itemsize` per face, `measure_floats(S)` and
`scratch_floats(S)`. Kernels skip entries with `size` 0, so the same launches also work for fewer faces.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path

import cv2
import numpy as np

from rtface.correct import Controls, FaceRegion, Measures, ShapingOptions
from rtface.correct.colour import CELLS
from rtface.correct.detail import cell_box, step_of
from rtface.correct.face_region import middle_rows
from rtface.correct.grain import OwnTexture, Texture, cell_rows, gaussian
from rtface.correct.motion import ROWS, SHRINK
from rtface.device.cuda.gpu import Shape3
from rtface.device.cuda.kernels import KernelCall, LaunchList
from rtface.device.cuda.shape_structs import FACE, LINES, MIDDLE, SMALL, TAPS
from rtface.device.cuda.structs import Struct, packed
from rtface.frame import Float32

CODE = Path(__file__).with_name("shape.cu")
_MEASURE = ("shape_cells", "shape_samples", "shape_irises")
_GRAIN = ("shape_rows", "shape_columns", "shape_power", "shape_soften", "shape_pick")
_DETAIL = ("shape_fine", "shape_detail")
KERNELS: dict[str, tuple[type[np.generic], ...]] = {
    **dict.fromkeys((*_MEASURE, *_GRAIN, *_DETAIL, "shape_small", "shape_average"), (np.uint64,)),
    "shape_apply": (np.uint64, np.uint64),
}
"""Argument types of every kernel: the address of the faces; for `shape_apply`, also that of the controls."""
BLOCK: Shape3 = (32, 8, 1)
MIN_CROP_SIDE_PX = 64


@dataclass(frozen=True, slots=True)
class FaceAddresses:
    """Addresses of a face's images on the GPU.

    Attributes:
        r, c: the engine's answer and the crop, float32 3×S×S.
        correction, final: the resulting correction (3×S×S) and mask (S×S), float32; `correction` may be `r`.
        mask: the face region's mask, float32 n×n, n ≤ S; `mask_side` is n.
        measures: the measured figures, `measure_floats(S)` floats.
        scratch: intermediate values between measuring and applying, `scratch_floats(S)` floats.
        occlusion: occlusion map (1 = occluded), float32 rows×columns (`maps`), over `region` (x, y, w, h); 0: no map.
    """

    r: int
    c: int
    correction: int
    final: int
    mask: int
    mask_side: int
    measures: int
    scratch: int
    occlusion: int = 0
    maps: tuple[int, int] = (1, 1)
    region: tuple[int, int, int, int] = (0, 0, 1, 1)


@lru_cache(maxsize=16)
def _measure_layout(size: int) -> dict[str, tuple[int, int, tuple[int, ...]]]:
    """Returns the layout of a crop's measures: by name, in order, start and end (in floats) and shape."""
    side = samples_of(size)
    shapes: dict[str, tuple[int, ...]] = {
        "cells": (3, CELLS, CELLS),
        "crop_cells": (3, CELLS, CELLS),
        "samples": (3, side, side),
        "texture": (side, side),
        "change": (side, side),
        "irises": (2, LINES, 7),
        "grain": (side, side),
        "middle": (MIDDLE, size),
        "above": (MIDDLE, size // 4),
        "below": (MIDDLE, size // 4),
        "detail": (2, CELLS, CELLS),
    }
    ends = list(accumulate(math.prod(shape) for shape in shapes.values()))
    return {name: (end - math.prod(shape), end, shape) for (name, shape), end in zip(shapes.items(), ends, strict=True)}


def samples_of(size: int) -> int:
    """Returns the number of samples measured along a side."""
    return -(-size // max(2, size // CELLS))


def measure_floats(size: int) -> int:
    """Returns the number of floats measured for a crop of side S."""
    return max(end for _, end, _ in _measure_layout(size).values())


def scratch_floats(size: int) -> int:
    """Returns the number of scratch floats for a crop of side S."""
    return 2 * size * size + 2 * (size // 4) ** 2


def face_of(area: FaceRegion, options: ShapingOptions, addresses: FaceAddresses) -> bytes:
    """Packs one face as a `FACE`.

    S is `MIN_CROP_SIDE_PX` or more and a multiple of 4.
    """
    size, part = area.size, area.part
    texture, power = addresses.scratch + 4 * size * size, addresses.scratch + 8 * size * size
    windows, eyes = list[int](), list[float]()
    for iris, (x, y, radius) in zip(area.irises, area.eyes.tolist(), strict=True):
        windows += iris.window if iris is not None else (0, 0, 0, 0)
        eyes += (x, y, 1.0 / radius) if iris is not None else (0.0, 0.0, 0.0)
    wide, taps = _taps(area.scale)
    texture_wide, texture_taps = _taps(2.0 * max(area.scale, 1.0))
    return packed(
        FACE,
        addresses.r,
        addresses.c,
        addresses.correction,
        addresses.final,
        addresses.mask,
        addresses.occlusion,
        addresses.scratch,
        texture,
        power,
        power + 4 * (size // 4) ** 2,
        addresses.scratch,
        *(addresses.measures + 4 * start for start, _, _ in _measure_layout(size).values()),
        size,
        area.step,
        samples_of(size),
        addresses.mask_side,
        *addresses.maps,
        *addresses.region,
        *area.box,
        *part,
        *(cell_box(area.box, size) if options.detail else (0, 0, 0, 0)),
        *windows,
        *eyes,
        wide,
        texture_wide,
        *_lines_of(part[3] - part[1]),
        *taps,
        *texture_taps,
        options.grain != "none",
        step_of(size),
    )


def _taps(scale: float) -> tuple[int, list[float]]:
    """Returns the radius and half the taps (centre first) of `highpass`'s Gaussian."""
    side, sigma = gaussian(scale)
    half = np.asarray(cv2.getGaussianKernel(side, sigma, cv2.CV_32F)).ravel()[side // 2 :].tolist()
    return side // 2, [*half, *[0.0] * (TAPS - len(half))]


@lru_cache(maxsize=256)
def _lines_of(height: int) -> tuple[int, ...]:
    """Returns `first`, `lines`, `above_rows` and `below_rows` for a part's height."""
    above, below, middle = cell_rows(height)
    padding = (0,) * (MIDDLE - len(middle))
    return middle_rows(height).start, len(middle), *above.tolist(), *padding, *below.tolist(), *padding


def unpack(data: Float32, area: FaceRegion, options: ShapingOptions) -> Measures:
    """Returns a face's measures as views of `data`, `measure_floats(S)` floats or more."""
    arrays: dict[str, Float32] = {
        name: data[start:end].reshape(shape) for name, (start, end, shape) in _measure_layout(area.size).items()
    }
    sums = arrays["irises"].sum(axis=1)
    means = sums[:, :6] / np.maximum(sums[:, 6:], np.float32(1e-9))
    part = area.rows, area.columns

    def texture() -> OwnTexture:
        width, height = area.part[2] - area.part[0], area.part[3] - area.part[1]
        lines, cells = len(area.middle), max(1, width // 4)
        assert lines == len(cell_rows(height)[2])
        return OwnTexture(
            arrays["grain"][part],
            np.ascontiguousarray(arrays["middle"][:lines, :width]),
            arrays["above"][:lines, :cells],
            arrays["below"][:lines, :cells],
        )

    return Measures(
        arrays["cells"],
        arrays["crop_cells"],
        arrays["samples"],
        means[:, :3],
        means[:, 3:],
        Texture(arrays["texture"], arrays["change"][part], texture) if options.grain != "none" else None,
        arrays["detail"] if options.detail else None,
    )


def control_of(controls: Controls, sheet: int) -> bytes:
    """Packs the decisions for one face as a `CONTROL`.

    Args:
        controls: the result of `decide`.
        sheet: address of the tile `grain.sheet(coarseness)[:512, :512]`, float32; 0 without synthetic grain.
    """
    grain = controls.grain
    strengths = (grain.crop_share, grain.deviation, grain.synthetic) if grain else (0.0, 0.0, 0.0)
    gate, detail = (
        bytes(4 * CELLS * CELLS) if cells is None else np.asarray(cells, np.float32).tobytes()
        for cells in (controls.gate, controls.detail)
    )
    return b"".join(
        (
            struct.pack("<Q", sheet),
            np.asarray(controls.excess, np.float32).tobytes(),
            gate,
            detail,
            struct.pack(
                "<10f3i4x",
                *controls.colours.ravel().tolist(),
                *strengths,
                controls.strength,
                *(grain.at if grain else (0, 0)),
                controls.gate is not None,
            ),
        )
    )


def measure_launches(size: int, count: int, faces: int, *, match: bool = True, detail: bool = True) -> list[KernelCall]:
    """Returns launches that measure at most `count` faces of side ≤ `size`.

    `faces` is the address of their descriptors. `match` and `detail` are whether any face needs grain or scaled detail.
    """
    side, cells = max(samples_of(size), 2 * CELLS), size // 4
    extents = {
        "shape_cells": (CELLS, 3 * CELLS),
        "shape_samples": (side, side),
        "shape_irises": (LINES, 2),
        "shape_rows": (size, size),
        "shape_columns": (size, size),
        "shape_power": (cells, cells),
        "shape_soften": (cells, cells),
        "shape_pick": (max(size, side), side + 3 * MIDDLE),
        "shape_fine": (size, size),
        "shape_detail": (CELLS, 2 * CELLS),
    }
    names = (*_MEASURE, *(_GRAIN if match else ()), *(_DETAIL if detail else ()))
    return [_launch(name, extents[name], count, (np.uint64(faces),)) for name in names]


def apply_launches(size: int, count: int, faces: int, controls: int) -> list[KernelCall]:
    """Returns launches that correct `count` faces. `controls` is the address of their `CONTROL`s."""
    return [_launch("shape_apply", (size, size), count, (np.uint64(faces), np.uint64(controls)))]


def small_floats(size: int) -> int:
    """Returns the number of floats of a reduced copy: 3×n×n with n = S/4, and every 16th row of green."""
    return 3 * (size // SHRINK) ** 2 + -(-size // ROWS) * size


def small_job(crops: Sequence[tuple[int, int]], to: int) -> LaunchList:
    """Reduces crops (address and side) to consecutive copies from address `to`."""
    job, rows = LaunchList(), np.zeros(len(crops), SMALL)
    for row, (crop, size) in zip(rows, crops, strict=True):
        row["c"], row["to"], row["size"] = crop, to, size
        to += 4 * small_floats(size)
    largest = max(size for _, size in crops)
    cells = largest // SHRINK
    job.add("shape_small", (cells, 3 * cells + -(-largest // ROWS)), len(crops), rows)
    return job


def average_launches(averages: Struct, at: int) -> list[KernelCall]:
    """Returns launches that average answers over time. `at` is the address of `averages` (`AVERAGE`)."""
    extent = tuple(SHRINK * int(averages[name].max()) for name in ("columns", "rows"))
    return [_launch("shape_average", (extent[0], extent[1]), len(averages), (np.uint64(at),))]


def _launch(kernel: str, extent: tuple[int, int], count: int, args: tuple[np.generic, ...]) -> KernelCall:
    return KernelCall(kernel, (-(-extent[0] // BLOCK[0]), -(-extent[1] // BLOCK[1]), count), BLOCK, args)
