"""Converts the colour of native samples: YCbCr matrices, ranges, and curves from HDR to engine values."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from rtface.frame import Color, Float, Float32

_KR_KB = {
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020": (0.2627, 0.0593),
    "smpte240m": (0.212, 0.087),
    "fcc": (0.30, 0.11),
}
_GAMUT_2020_TO_709: Float = np.array(
    [(1.6605, -0.5876, -0.0728), (-0.1246, 1.1329, -0.0083), (-0.0182, -0.1006, 1.1187)]
)  # ITU-R BT.2087
HDR_WHITE_NITS = 203.0  # ITU-R BT.2408's reference white
_KNEE = 0.75
_MAX_INVERSE_SLOPE = 4.0


@lru_cache(maxsize=32)
def ycbcr_from_rgb(matrix: str) -> Float:
    """Returns the 3×3 matrix from R'G'B' to Y'CbCr of a `Color.matrix`.

    R'G'B' and Y' are 0…1, Cb and Cr −0.5…0.5. "rgb" is for gray without chroma and for RGB; luma then has BT.601's
    weights.
    """
    if matrix == "ycgco":  # H.273 equation set 11: Cb carries Cg, Cr carries Co
        return np.array([(0.25, 0.5, 0.25), (-0.25, 0.5, -0.25), (0.5, 0.0, -0.5)])
    kr, kb = _KR_KB.get(matrix, _KR_KB["bt601"])
    y = np.array([kr, 1.0 - kr - kb, kb])
    cb = (np.array([0.0, 0.0, 1.0]) - y) / (2.0 * (1.0 - kb))
    cr = (np.array([1.0, 0.0, 0.0]) - y) / (2.0 * (1.0 - kr))
    return np.stack([y, cb, cr])


@dataclass(frozen=True, slots=True)
class Range:
    """Describes code values of one component: code = offset + scale · value, legal from low to high."""

    offset: float
    scale: float
    low: int
    high: int


@lru_cache(maxsize=64)
def code_range(bits: int, full: bool, *, chroma: bool) -> Range:
    """Returns the quantisation of chroma, or of luma and RGB. See H.273, equations 4 to 9."""
    top = (1 << bits) - 1
    if full:
        return Range(float(1 << (bits - 1)) if chroma else 0.0, float(top), 0, top)
    unit = 1 << (bits - 8)
    if chroma:
        return Range(128.0 * unit, 224.0 * unit, 16 * unit, 240 * unit)
    return Range(16.0 * unit, 219.0 * unit, 16 * unit, 235 * unit)


FADED_FLOOR = 0.02
"""Added to samples (0…1) before the logarithm, because smaller samples contain only noise."""


def without_fading(values: Float, power: Float | float, gain: Float | float) -> Float:
    """Removes fading from values 0…1. They belong to one channel, or to several, with a power and a gain for each."""
    return np.clip(np.exp(power * np.log(values + FADED_FLOOR) + gain) - FADED_FLOOR, 0, 1)


def pq_to_nits(e: Float) -> Float:
    """Applies the SMPTE ST 2084 EOTF: e 0…1 to cd/m²."""
    m1, m2 = 2610 / 16384, 2523 / 4096 * 128
    c1, c2, c3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
    p = np.power(np.clip(e, 0.0, 1.0), 1.0 / m2)
    return 10000.0 * np.power(np.maximum(p - c1, 0.0) / (c2 - c3 * p), 1.0 / m1)


def _hlg_to_nits(e: Float) -> Float:
    """Converts BT.2100 HLG to cd/m²: inverse OETF, then per channel the OOTF of a 1000 cd/m² display (gamma 1.2)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(e <= 0.5, e * e / 3.0, (np.exp((e - c) / a) + b) / 12.0)
    return 1000.0 * np.power(np.clip(scene, 0.0, None), 1.2)


# Printing density in DPX and Cineon files (Kodak; SMPTE ST 268-1): density of one 10-bit code value, code values of
# black and of diffuse white, gamma of the negative.
_DENSITY, _FILM_BLACK, _FILM_WHITE, _FILM_GAMMA = 0.002, 95, 685, 0.6


def _log_to_nits(e: Float) -> Float:
    """Converts printing density to scene light. Diffuse white is `HDR_WHITE_NITS`, black is 0."""
    light = np.power(10.0, (1023.0 * e - _FILM_WHITE) * _DENSITY / _FILM_GAMMA)
    black = 10.0 ** ((_FILM_BLACK - _FILM_WHITE) * _DENSITY / _FILM_GAMMA)
    return HDR_WHITE_NITS * np.clip((light - black) / (1.0 - black), 0.0, None)


def _to_nits(transfer: str, e: Float) -> Float:
    if transfer == "pq":
        return pq_to_nits(e)
    if transfer == "hlg":
        return _hlg_to_nits(e)
    return _log_to_nits(e) if transfer == "log" else e * HDR_WHITE_NITS


@dataclass(frozen=True, slots=True)
class Curve:
    """Converts native R'G'B' to engine values by a monotone curve, and back.

    Light is in units of 203 cd/m² (reference white). It is unchanged up to 0.75, and rolls off exponentially towards 1
    above; then gamma 1/2.2 follows. Last, BT.2087's matrix converts BT.2020 primaries to BT.709, on
    the gamma-coded values. That is an approximation, chosen because it is linear: the inverse is exact for corrections.
    """

    table: Float32
    inverse_slope: Float32
    gamut: Float | None

    def forward(self, rgb: Float32) -> Float32:
        """Converts 3×H×W native R'G'B' 0…1 to engine values 0…1."""
        if len(self.table):
            rgb = _look_up(self.table, rgb)
        if self.gamut is not None:
            rgb = np.tensordot(self.gamut.astype(np.float32), rgb, 1)
        return np.clip(rgb, 0.0, 1.0, dtype=np.float32)

    def backward(self, correction: Float32, rgb: Float32) -> Float32:
        """Converts a correction 3×H×W from engine to native units. Uses the slope at native `rgb` (3×H×W)."""
        if self.gamut is not None:
            correction = np.tensordot(np.linalg.inv(self.gamut).astype(np.float32), correction, 1)
        if len(self.table):
            correction = correction * _look_up(self.inverse_slope, rgb)
        return correction.astype(np.float32, copy=False)


def _look_up(table: Float32, values: Float32) -> Float32:
    """Interpolates the table linearly at values 0…1, 3×h×w."""
    h, w = values.shape[1:]
    column = np.zeros((h, w), np.float32)
    out = np.empty_like(values)
    for plane, target in zip(values, out, strict=True):
        positions: Any = plane * np.float32(len(table) - 1)
        cv2.remap(table[None], positions, column, cv2.INTER_LINEAR, dst=target, borderMode=cv2.BORDER_REPLICATE)
    return out


@lru_cache(maxsize=16)
def engine_curve(transfer: str, wide_gamut: bool) -> Curve | None:
    """Returns the curve of a transfer family and gamut. None if engines accept native values."""
    gamut = _GAMUT_2020_TO_709 if wide_gamut else None
    if transfer == "sdr":
        return None if gamut is None else Curve(np.zeros(0, np.float32), np.zeros(0, np.float32), gamut)
    e = np.linspace(0.0, 1.0, 4097)
    light = _to_nits(transfer, e) / HDR_WHITE_NITS
    room = 1.0 - _KNEE
    rolled = np.where(light <= _KNEE, light, _KNEE + room * (1.0 - np.exp(-(np.maximum(light, _KNEE) - _KNEE) / room)))
    value = np.power(rolled, 1.0 / 2.2)
    slope = np.gradient(value, e)
    # In the roll-off and at black, the inverse slope has no limit, so it is capped.
    inverse = np.minimum(1.0 / np.maximum(slope, 1e-6), _MAX_INVERSE_SLOPE)
    return Curve(value.astype(np.float32), inverse.astype(np.float32), gamut)


def curve_of(color: Color) -> Curve | None:
    """Returns the curve for a frame's colour; None for plain SDR."""
    return engine_curve(color.transfer, color.primaries == 9)


def graphics(rgb: Float32, color: Color) -> Float32:
    """Converts graphics to the R'G'B' of a frame.

    Args:
        rgb: …×3 R'G'B' 0…1, BT.709 primaries, SDR; its white becomes `HDR_WHITE_NITS` on HDR.
        color: colour of the frame.

    Returns:
        …×3 float32, 0…1; `rgb` itself for plain SDR.
    """
    curve = curve_of(color)
    if curve is None:
        return rgb
    if curve.gamut is not None:  # on coded values, as in `Curve`
        rgb = np.clip(rgb @ np.linalg.inv(curve.gamut).T, 0.0, 1.0).astype(np.float32)
    if color.transfer == "sdr":
        return rgb
    light = np.power(rgb, 2.2)
    if color.transfer == "linear":
        return light.astype(np.float32)
    coded = np.linspace(0.0, 1.0, 4097)
    return np.interp(HDR_WHITE_NITS * light, _to_nits(color.transfer, coded), coded).astype(np.float32)
