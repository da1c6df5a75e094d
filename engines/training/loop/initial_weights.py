"""Initial weights: a checkpoint's averaged ones, or those of an exported engine.

An engine holds all that training needs but the optimiser's memory, so a better one can start from what ships:
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
"""What ``export_engine.halve`` appends to the name of an initialiser that it stores as fp16."""


def weights(source: Path) -> dict[str, Tensor]:
    """Parameters by their names in ``Small`` or ``Medium``, float32, of a checkpoint (a file of torch) or of an
    engine's folder (its ``model.onnx``).

    Raises:
        FileNotFoundError: there is no such file, or no ``model.onnx`` in the folder.
    """
    if not source.is_dir():
        return torch.load(source, map_location="cpu")["ema"]
    found: dict[str, Tensor] = {}
    nameless: list[Tensor] = []
    for stored in onnx.load(source / "model.onnx").graph.initializer:
        value = numpy_helper.to_array(stored)
        if value.dtype not in (np.float16, np.float32):
            continue
        name, tensor = stored.name.removesuffix(HALF), torch.from_numpy(value.astype(np.float32))
        if name.startswith("net."):
            found[name.removeprefix("net.")] = tensor
        elif name.startswith("onnx::Mul"):
            nameless.append(tensor)
    # The tracer has reshaped this one on its way into the graph, and forgotten its name.
    (gate,) = nameless
    found["core.gate.weight"] = gate.reshape(1, -1)
    return found
