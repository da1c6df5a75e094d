"""Calibrations: the ranges that let convolutions run in 8-bit integers, measured before and kept as data.

The package holds one set of weights. Beside it lies ``int8.json``: the convolutions to run in int8 and the range that
the input of each takes on faces (`engines/training/export/calibrate_int8.py` writes it). Each backend
uses them in its own way.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from rtface.engine.recipe import Recipe
from rtface.errors import UsageError, log
from rtface.util.toml_dataclass import from_table, parse_json

FILE = "int8.json"


@dataclass(frozen=True, slots=True)
class Convolution:
    """The range of one convolution's input, in that input's own unit; values outside are clipped. `name` is ONNX's."""

    name: str
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """What ``int8.json`` holds.

    Attributes:
        weights: SHA-256 (hex) of the network that was measured.
        convolutions: those to run in int8; all others stay in the precision of the rest.
        crops: numbers of an engine's golden crops that the ranges hold. An image that is no face drives a network far
            beyond them; wide enough for it, they would be too coarse for faces.
        digest: SHA-256 (hex) of the file.
    """

    weights: str
    convolutions: tuple[Convolution, ...]
    crops: tuple[int, ...] = ()
    digest: str = ""


def load_calibration(recipe: Recipe) -> Calibration | None:
    """The engine's calibration; None where there is none, and, with a line in the log, where it cannot be used."""
    found = read_calibration(recipe.folder, recipe.weights.sha256, f"engine {recipe.name}")
    if found is not None and not found.crops:
        log.warning("engine %s runs without int8: %s names no golden crops", recipe.name, recipe.folder / FILE)
        return None
    return found


def read_calibration(folder: Path, weights: str, name: str) -> Calibration | None:
    """The calibration in a network's folder; None where there is none, and, with a line in the log, where it
    cannot be used.

    Args:
        folder: of the network.
        weights: SHA-256 (hex) of the network.
        name: of the network in the log.
    """
    path = folder / FILE
    try:
        found = _parse(path.read_bytes())
        if found.weights != weights:
            raise ValueError("it was measured on other weights")
        return found
    except FileNotFoundError:
        return None
    except (OSError, ValueError, UsageError) as error:
        log.warning("%s runs without int8: %s cannot be used: %s", name, path, error)
        return None


@lru_cache(maxsize=4)  # it is asked for several times while an engine is opened
def _parse(text: bytes) -> Calibration:
    table = parse_json(text)
    if not isinstance(table, dict) or "digest" in table:
        raise ValueError("not a calibration")
    found = from_table(Calibration, table | {"digest": hashlib.sha256(text).hexdigest()}, "")
    if not found.convolutions:
        raise ValueError("it names no convolutions")
    for c in found.convolutions:
        # Zero has to be inside: convolutions pad with it.
        if not (math.isfinite(c.low) and math.isfinite(c.high) and c.low <= 0 <= c.high and c.low < c.high):
            raise ValueError(f"the range of {c.name} must hold 0, got [{c.low}, {c.high}]")
    return found
