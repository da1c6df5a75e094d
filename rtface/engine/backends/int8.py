"""Reads calibrations: measured input ranges of convolutions, required to run these in int8.

The package contains one set of weights for all precisions. Next to the weights, ``int8.json`` (written by
`engines/training/export/calibrate_int8.py`) lists the convolutions to run in int8, and the range of each one's input on
faces. Each backend applies the ranges in its own way.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from rtface.engine.recipe import Recipe
from rtface.errors import UsageError, log
from rtface.util.toml_dataclass import from_table, parse_json

FILE = "int8.json"


@dataclass(frozen=True, slots=True)
class Convolution:
    """The range of a convolution's input. It contains 0, because convolutions pad with zeros. Values outside are
    clipped. `name` is its ONNX name."""

    name: str
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """The contents of ``int8.json``.

    Attributes:
        weights: SHA-256 (hex) of the measured network.
        convolutions: the convolutions to run in int8; all other operations have the network's normal precision.
        crops: indices of the golden crops whose values stay within the ranges. Crops without a face exceed the ranges
            by far and are not listed, because ranges for them would be too coarse for faces.
        digest: SHA-256 (hex) of the file.
    """

    weights: str
    convolutions: tuple[Convolution, ...]
    crops: tuple[int, ...] = ()
    digest: str = ""


def load_calibration(recipe: Recipe) -> Calibration | None:
    """Loads an engine's calibration. Returns None if there is none or, with a warning, if it is unusable."""
    return read_calibration(recipe.folder, recipe.weights.sha256, f"engine {recipe.name}")


def read_calibration(folder: Path, weights_sha256: str, name: str) -> Calibration | None:
    """Reads the calibration in a network's folder. Returns None if there is none or, with a warning, if it is unusable.

    Args:
        folder: folder of the network.
        weights_sha256: SHA-256 (hex) of the network.
        name: name of the network in the log.
    """
    path = folder / FILE
    try:
        calibration = _parse(path.read_bytes())
        if calibration.weights != weights_sha256:
            raise ValueError("it was measured on other weights")
        return calibration
    except FileNotFoundError:
        return None
    except (OSError, ValueError, UsageError) as error:
        log.warning("%s runs without int8: %s cannot be used: %s", name, path, error)
        return None


@lru_cache(maxsize=4)  # opening an engine reads the same calibration several times
def _parse(text: bytes) -> Calibration:
    table = parse_json(text, dict[str, Any])
    return from_table(Calibration, table | {"digest": hashlib.sha256(text).hexdigest()}, "")
