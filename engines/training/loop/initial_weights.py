"""Loads initial weights: averaged ones of a checkpoint, or an exported engine's.

An engine has all that training needs but the optimiser's state, so training can start from a shipped one:
``train --core engines/shipped/rtface-s``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

HALF = "_half"
"""Suffix by ``export_engine.halve`` for names of fp16 initialisers."""


def weights(source: Path) -> dict[str, Tensor]:
    """Loads float32 parameters by name. ``source``: a torch checkpoint, or an engine's folder with ``model.onnx``.

    Raises:
        FileNotFoundError: no such file, or no ``model.onnx`` in the folder.
    """
    if not source.is_dir():
        return torch.load(source, map_location="cpu")["ema"]
    parameters: dict[str, Tensor] = {}
    nameless: list[Tensor] = []
    for stored in onnx.load(source / "model.onnx").graph.initializer:
        value = numpy_helper.to_array(stored)
        if value.dtype not in (np.float16, np.float32):
            continue
        name, tensor = stored.name.removesuffix(HALF), torch.from_numpy(value.astype(np.float32))
        if name.startswith("net."):
            parameters[name.removeprefix("net.")] = tensor
        elif name.startswith("onnx::Mul"):
            nameless.append(tensor)
    # The tracer reshapes this one and loses its name.
    (gate,) = nameless
    parameters["core.gate.weight"] = gate.reshape(1, -1)
    return parameters
