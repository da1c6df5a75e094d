"""Loads initial weights from a checkpoint (averaged weights) or an exported engine.

An engine contains everything that training needs, except for the optimiser's state. So training can start from a
shipped engine: ``train --core engines/shipped/rtface-s``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

HALF = "_half"
"""Suffix that ``export_engine.halve`` adds to the names of fp16 initialisers."""


def weights(source: Path) -> dict[str, Tensor]:
    """Loads float32 parameters by name. ``source``: a torch checkpoint, or an engine's folder with ``model.onnx``.

    Raises:
        FileNotFoundError: the file does not exist, or the folder has no ``model.onnx``.
    """
    if not source.is_dir():
        return torch.load(source, map_location="cpu")["ema"]
    parameters: dict[str, Tensor] = {}
    unnamed: list[Tensor] = []
    for stored in onnx.load(source / "model.onnx").graph.initializer:
        value = numpy_helper.to_array(stored)
        if value.dtype not in (np.float16, np.float32):
            continue
        name, tensor = stored.name.removesuffix(HALF), torch.from_numpy(value.astype(np.float32))
        if name.startswith("net."):
            parameters[name.removeprefix("net.")] = tensor
        elif name.startswith("onnx::Mul"):
            unnamed.append(tensor)
    # When the tracer reshapes the gate's weight, the name is lost. No other tensor is without a name.
    (gate,) = unnamed
    parameters["core.gate.weight"] = gate.reshape(1, -1)
    return parameters
