"""Detects faded prints or films, and estimates a curve that restores them.

Dyes that lose density turn dark tones into coloured, lighter ones. A power and a gain for each of R, G and B undo that.
A small network predicts them from nine levels of each channel, the skin, and the darkest and the lightest samples of a
picture. It was fitted on portraits: faded by a model, unfaded, and unfaded in coloured light. A curve is used only
if it is strong and leaves a plausible skin colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import cv2
import numpy as np

from rtface.analysis.hidden import load_network
from rtface.frame import Bytes, FadingCurve, Float, Float32
from rtface.geometry.color_curves import FADED_FLOOR, without_fading

LEVELS = (0.002, 0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98, 0.998)
_POWERS, _GAINS = (0.6, 1.9), (-0.3, 0.6)
# A picture counts as faded if its largest power exceeds 1 by more than this, as do 0.4 % of unfaded portraits.
_MIN_FADING = 0.7
# Below this spread of chroma round one curve over lightness (ΔE) a picture is monochrome, toned or not.
_MIN_CHROMA_SPREAD = 4.0
# Logarithms of red and blue against green of skin under white light: their mean, scale, and largest distance.
_SKIN = ((0.34, -0.14), (0.13, 0.12), 1.8)


def line_of(picture: Bytes, skin: Float) -> Float | None:
    """Returns a picture's estimate of the curve, 3×2: powers minus 1, and gains. None if it is monochrome.

    Args:
        picture: uint8 RGB h×w×3, about 128 px a side.
        skin: RGB 0…1 of the skin on it.
    """
    rgb = picture.astype(np.float32) / np.float32(255)
    if _spread(rgb) < _MIN_CHROMA_SPREAD:
        return None
    measures, network = measures_of(rgb, skin), load_network("fading")
    hidden = measures @ network["into"] + network["hidden"]
    return cast("Float", (hidden / (1 + np.exp(-hidden)) @ network["out"] + network["bias"]).reshape(3, 2))


def measures_of(rgb: Float32, skin: Float) -> Float:
    """Returns the network's input for a picture h×w×3 (0…1). It contains logarithms of each channel's levels, of
    the skin's colour, and of the extremes."""
    samples = rgb.reshape(-1, 3)
    luma, count = samples @ np.array([0.299, 0.587, 0.114], np.float32), len(samples) // 400 + 1
    order = np.argsort(luma)
    extremes = [samples[part].mean(0) for part in (order[:count], order[-count:])]
    return np.log(np.array([*np.quantile(samples, LEVELS, axis=0), skin, *extremes], np.float64) + FADED_FLOOR).ravel()


def curve_of(lines: Sequence[Float], skins: Sequence[Float]) -> FadingCurve | None:
    """Returns the curve of a film or still, or None without fading. `lines` and `skins` are those of its pictures."""
    if not lines:
        return None
    mean_line = np.mean(lines, axis=0)
    line = mean_line * min(1.0, (_POWERS[1] - 1) / max(1e-6, float(mean_line[:, 0].max()))) + [1, 0]
    curve = tuple(
        (round(float(np.clip(power, *_POWERS)), 3), round(float(np.clip(gain, *_GAINS)), 3)) for power, gain in line
    )
    restored_skins = np.array([values_through(skin, curve) for skin in skins])
    mean, scale, limit = (np.array(value) for value in _SKIN)
    ratios = np.median(
        np.log((restored_skins[:, [0, 2]] + FADED_FLOOR) / (restored_skins[:, 1:2] + FADED_FLOOR)), axis=0
    )
    return curve if mean_line[:, 0].max() > _MIN_FADING and np.linalg.norm((ratios - mean) / scale) < limit else None


def values_through(values: Float, curve: FadingCurve) -> Float:
    """Applies a curve to RGB values 0…1."""
    power, gain = np.array(curve).T
    return without_fading(values, power, gain)


def _spread(rgb: Any) -> float:
    lab = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)).reshape(-1, 3)
    tone = np.clip(lab[:, 0] // 8, 0, 12).astype(np.intp)
    count = np.maximum(np.bincount(tone), 1)
    deviations = [lab[:, k] - (np.bincount(tone, lab[:, k]) / count)[tone] for k in (1, 2)]
    return float(np.sqrt(np.mean(deviations[0] ** 2 + deviations[1] ** 2)))
