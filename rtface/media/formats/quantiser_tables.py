"""Converts codecs' quantiser numbers to steps, in units of `rtface.frame.Quantisers`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtface.frame import Float32

# Points of the AC quantiser curves of VP9 and AV1 by index (AV1 specification, 7.12.2). Linear interpolation has an
# error below 1 % at 10 bits. The curve for 10 bits also serves for 12 bits: the two differ only close to lossless.
_AC_8 = (
    (0, 4),
    (1, 8),
    (95, 102),
    (120, 152),
    (137, 203),
    (150, 255),
    (160, 305),
    (169, 359),
    (176, 408),
    (182, 456),
    (188, 510),
    (193, 560),
    (198, 615),
    (202, 663),
    (206, 715),
    (210, 771),
    (213, 816),
    (216, 864),
    (219, 915),
    (222, 969),
    (225, 1026),
    (227, 1066),
    (230, 1129),
    (232, 1173),
    (234, 1219),
    (236, 1267),
    (238, 1317),
    (240, 1369),
    (242, 1423),
    (244, 1479),
    (246, 1537),
    (248, 1597),
    (249, 1628),
    (251, 1692),
    (252, 1725),
    (254, 1793),
    (255, 1828),
)
_AC_10 = (
    (0, 4),
    (1, 9),
    (3, 13),
    (4, 16),
    (5, 18),
    (10, 33),
    (16, 55),
    (27, 100),
    (88, 371),
    (96, 409),
    (121, 616),
    (139, 841),
    (153, 1078),
    (165, 1338),
    (179, 1727),
    (193, 2239),
    (207, 2915),
    (221, 3803),
    (235, 4972),
    (249, 6512),
    (255, 7312),
)
# Points of the curve of VP8 (RFC 6386, 14.1).
_AC_VP8 = ((0, 4), (54, 58), (83, 116), (102, 173), (116, 229), (118, 239), (119, 245), (120, 249), (127, 284))
# Positions in zigzag order of the JPEG coefficients whose steps are averaged.
_AVERAGED = slice(1, 21)


def qp_steps(qp: NDArray[np.signedinteger[Any]]) -> Float32:
    """Converts QP of H.264 and HEVC, on the 8-bit scale, to steps."""
    return np.exp2((qp - 4).astype(np.float32) / 6)


def vpx_steps(index: NDArray[np.signedinteger[Any]], bits: int) -> Float32:
    """Converts VP9 or AV1 quantiser indices to steps. `bits`: bits per sample. Indices are clipped to 0…255."""
    table = _interpolate(_AC_10, 32) if bits > 8 else _interpolate(_AC_8, 8)
    return table[np.clip(index, 0, 255)]


def vp8_table() -> Float32:
    """Returns the steps of VP8's 128 quantiser indices."""
    return _interpolate(_AC_VP8, 2)


@cache
def _interpolate(points: tuple[tuple[int, int], ...], unit: int) -> Float32:
    index, steps = np.array(points).T
    return np.asarray(np.interp(np.arange(index[-1] + 1), index, steps) / unit, np.float32)


def jpeg_step(luma: Sequence[int]) -> float:
    """Returns the mean step of a JPEG's quantisation table. The table has 64 steps in zigzag order."""
    return float(np.exp2(np.log2(np.array(luma[_AVERAGED], np.float64)).mean()))
