"""Computes an upper bound of the error of an output face.

A recurrent engine predicts its error for each part of a face (`Restored.log_scale`). This prediction is too low for a
poor input, and concerns the engine's answer, not the output. So `bound` combines the prediction with measurements of
the output. `python -m benchmarks.invented calibrate` fits the bound to tuning clips and films of stills. The command
`measure` counts how often the bound is right on held-out clips and people.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from rtface.errors import UsageError
from rtface.frame import Float32


@dataclass(frozen=True, slots=True)
class ErrorCalibration:
    """Exponents of the bound of one engine; see `bound`.

    Attributes:
        weights: SHA-256 of the network to which the exponents were fitted.
    """

    weights: str
    factor: float
    expected: float
    change: float
    contrast: float
    overall: float
    scale: float


# Fitted by `python -m benchmarks.invented calibrate` (0.4.0; `rtface-m-vivid` 0.3.3; 2026-11).
CALIBRATIONS = {
    "rtface-s": ErrorCalibration(
        "f3bf5e32e4fa8381216d3d75c16b0b81a9475e2b7dd6fb466f5d7b7e3dbfc7d0", 2.04, 0.48, 0.11, 0.47, 0.64, -0.11
    ),
    "rtface-m": ErrorCalibration(
        "ace2c2b8158e480becb46689bc2439b1a2916703d02c47cc53de619cf82efbd0", 2.06, 0.44, 0.10, 0.47, 0.64, -0.11
    ),
    "rtface-m-vivid": ErrorCalibration(
        "e9e42b226fb8f0f2f8865a7ec6feb4d31943dc2c302f878983f3b8318d79fa3a", 1.61, 0.46, 0.22, 0.45, 0.71, 0.13
    ),
}
"""Calibrations of the engines that predict their error."""


def check_calibrated(engine: str, weights: str) -> None:
    """Raises UsageError if an engine predicts no error. Likewise if its network (`weights`: the network's SHA-256) is
    not the calibrated one."""
    if engine not in CALIBRATIONS:
        raise UsageError(
            "the engine {engine} does not estimate its error, so invented samples cannot be marked; with {--invented}, "
            "use {--engine:{engines}}",
            code="error_unknown",
            engine=engine,
            engines=", ".join(CALIBRATIONS),
        )
    if CALIBRATIONS[engine].weights != weights:
        raise UsageError(
            "the errors of this network of the engine {engine} are unknown, so invented samples cannot be marked; "
            "install the engine that rtface ships, or omit {--invented}",
            code="error_weights",
            engine=engine,
        )


def bound(
    engine: str, log_scale: Float32, change: Float32, contrast: Float32, *, overall: float, scale: float
) -> Float32:
    """Returns a bound of the luma error, right for 90 % of samples:

        factor · b^expected · (1 + c)^change · (1 + k)^contrast · (m + 0.2)^overall · s^scale − 0.3

    Args:
        engine: a key of `CALIBRATIONS`.
        log_scale: h×w, log(b/255); b is the absolute error that the engine expects, of 255.
        change: h×w, c: mean absolute change round each sample, of 255. Measured at full strength, because a lower
            strength does not bring the face nearer to the truth.
        contrast: h×w, k: standard deviation of the output around each sample, of 255.
        overall: m: mean absolute change over the face, at full strength, of 255.
        scale: s: crop pixels per frame pixel.

    Returns:
        float32 h×w, of 255.
    """
    fit = CALIBRATIONS[engine]
    log: Any = log_scale * np.float32(fit.expected)
    log += np.log1p(change) * np.float32(fit.change)
    log += np.log1p(contrast) * np.float32(fit.contrast)
    log += np.float32(
        math.log(fit.factor)
        + fit.expected * math.log(255.0)
        + fit.overall * math.log(overall + 0.2)
        + fit.scale * math.log(scale)
    )
    return np.exp(log) - np.float32(0.3)
