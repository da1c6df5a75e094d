"""Removes coding artefacts and noise from pictures at their encoded resolution.

The networks run on the CPU through OpenVINO.
``engines/training/loop/train_coded.py`` trains ``engines/shipped/coded``, and ``coded-light`` at 0.6 of its cost;
``engines/training/MODEL_CARD.md`` describes them.
"""

from __future__ import annotations

from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from openvino import CompiledModel

from rtface.engine.backends.int8 import read_calibration
from rtface.engine.backends.openvino import quantise, spare_bits
from rtface.engine.recipe import SHIPPED
from rtface.frame import Bytes, Float32
from rtface.util.openvino_core import CompileOptions, halves, open_shipped

PATH = SHIPPED / "coded" / "model.onnx"
SHA256 = "5be4290d8614ee85861a7a38960123deec4bd38a2977df72a1486716968b30ee"
LIGHT = SHIPPED / "coded-light" / "model.onnx", "2c1a529147581e55a12bbb3c87ff491c3a8dfaa9e951f1eedb47858bb3d10ee6"
"""Path and SHA-256 of the light network."""
_CELL = 8  # pixels per value of the quantiser steps


class CodedNetwork:
    """A `rtface.protocols.CodedNetwork` on the CPU.

    Args:
        threads: number of OpenVINO's threads; None leaves the choice to OpenVINO.
        path, sha256: path and SHA-256 of the network's ONNX file.

    Raises:
        MissingComponent: the file is absent or damaged, or OpenVINO cannot use it.
    """

    def __init__(self, threads: int | None = None, path: Path = PATH, sha256: str = SHA256) -> None:
        self._request = _compile(threads, path, sha256).create_infer_request()

    def __call__(self, picture: Bytes, steps: Float32 | None) -> tuple[Float32, Float32]:
        h, w = picture.shape[:2]
        coding = np.zeros((1, 2, h // _CELL, w // _CELL), np.float32)
        if steps is not None:
            coding[0, 0], coding[0, 1] = (steps - np.float32(2.0)) / np.float32(4.0), 1.0
        image = np.ascontiguousarray(picture.transpose(2, 0, 1)[None], np.float32) / np.float32(255)
        out = self._request.infer({"image": image, "steps": coding})
        return out["correction"][0], np.exp(out["errors"][0]) * np.float32(255.0 * 255.0)


@lru_cache(maxsize=4)
def _compile(threads: int | None, path: Path, sha256: str) -> CompiledModel:
    """Compiles the network once per process. Threads that process different segments of a film share it.

    The network computes in bf16 if the CPU supports it, else in fp32. Calibrated convolutions use int8 if that is
    faster: on all CPUs but those with bf16 matrix multiplication (AMX).
    """
    half_precision = halves("CPU")
    options: CompileOptions = {"INFERENCE_PRECISION_HINT": half_precision or "f32"}
    if threads is not None:
        options["INFERENCE_NUM_THREADS"] = str(threads)
    spare = None if half_precision and _has_amx() else spare_bits()
    calibration = None if spare is None else read_calibration(path.parent, sha256, "the coded network")
    quantisation = None
    if calibration is not None:
        quantisation = f"{calibration.digest} {spare}", partial(quantise, calibration=calibration, spare=spare or 0)
    return open_shipped("coded", path, sha256, options, quantisation).get_compiled_model()


def _has_amx() -> bool:
    """Returns whether the CPU has AMX (on Linux; False elsewhere)."""
    try:
        return "amx_bf16" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
