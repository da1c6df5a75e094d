"""Runs the converter (``engines/convert``), which needs torch, as a child process."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from rtface.engine.engine_set import DEFAULT
from rtface.engine.recipe import SHIPPED
from rtface.errors import EngineError, OutputError
from rtface.frame import Bytes
from rtface.util.toml_dataclass import from_table, parse_json
from rtface_engines import child
from rtface_engines.catalogue import Offer, converter_root

ConvertProgress = Callable[[str, float], None]
"""Function that is called with the current step and its completed share (0…1)."""

_STAGES = {
    "load": "reading the weights",
    "export": "writing the network",
    "golden": "computing golden crops",
    "check": "checking the network against torch",
    "int8": "measuring ranges for int8",
}


@dataclass(frozen=True, slots=True)
class ConversionResult:
    """The converter's report. `onnx_error` is the largest difference from torch, relative to the output's range.
    `left_out` counts crops that were not used as golden crops because their output depends on rounding."""

    parameters: int
    fp32_nodes: tuple[str, ...]
    onnx_error: float
    bytes: int
    sha256: str
    left_out: int = 0


def golden_crops(size: int) -> Bytes:
    """Returns the shipped golden crops, uint8 N×size×size×3 RGB."""
    with np.load(SHIPPED / DEFAULT / "golden.npz", allow_pickle=False) as file:
        crops: Bytes = file["crops"]
    if crops.shape[1] == size:
        return crops
    interpolation = cv2.INTER_AREA if size < crops.shape[1] else cv2.INTER_CUBIC
    return np.stack([cv2.resize(crop, (size, size), interpolation=interpolation) for crop in crops]).astype(np.uint8)


def convert(offer: Offer, weights: Path, out: Path, python: Path, progress: ConvertProgress) -> ConversionResult:
    """Converts weights into ``model.onnx`` and ``golden.npz`` in `out`.

    Also writes ``int8.json`` if the offer sets a PSNR for int8. Raises EngineError with the converter's message if it
    fails.
    """
    result: dict[str, Any] = {}

    def receive(line: str) -> None:
        try:
            message = parse_json(line, dict[str, Any])
        except ValueError:
            return
        result.update({key: message[key] for key in ("result", "error") if key in message})
        if "stage" in message:
            progress(_STAGES.get(message["stage"], str(message["stage"])), float(message.get("done", 0.0)))

    with tempfile.TemporaryDirectory(prefix="rtface-") as scratch:
        crops = Path(scratch) / "crops.npz"
        try:
            np.savez(crops, crops=golden_crops(offer.table.input.size))
        except OSError as error:
            raise OutputError(
                "{path} cannot be written to ({why}); free some space, or set TMPDIR to another folder",
                code="convert_folder",
                path=scratch,
                why=error.strerror,
            ) from error
        arguments = [
            "--folder",
            offer.folder,
            "--offer",
            offer.name,
            "--weights",
            weights.resolve(),
            "--crops",
            crops,
            "--out",
            out,
        ]
        environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONHOME", "PYTHONSTARTUP")}
        # The child runs in an empty folder, so that it cannot import files from the user's working directory.
        (empty_folder := Path(scratch) / "stand").mkdir()
        status = child.run(
            [python, "-m", "engines.convert", *arguments],
            receive,
            environment | {"PYTHONPATH": str(converter_root())},
            empty_folder,
        )
    if "error" in result or status.code or "result" not in result:
        why = result.get("error") or f"the converter failed: {status.why}"
        raise EngineError("{name} cannot be converted: {why}", code="convert_failed", name=offer.name, why=why)
    return from_table(ConversionResult, result["result"], "result.")
