"""Ranges for int8: what the input of each convolution takes on crops (``rtface/engine/backends/int8.py`` reads
them)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import helper

F32 = npt.NDArray[np.float32]

INSIDE = 0.9999
"""Share of a crop's values that its range holds on either side; the few beyond would make it coarser for all others."""

FEWEST = 16
"""Convolutions of fewer channels, in or out, see or give pixels: they stay exact, and cost next to nothing."""

SAMPLES = 1 << 20
"""Of a larger tensor as many values are looked at."""


def ranges(model: onnx.ModelProto, inputs: Iterable[Mapping[str, F32]]) -> list[dict[str, Any]]:
    """``name``, ``low`` and ``high`` for each convolution to run in int8, from what ``model`` makes of ``inputs`` (by
    port name, one crop each)."""
    stored = {init.name: init.dims for init in model.graph.initializer}
    found = [node for node in model.graph.node
             if node.op_type == "Conv" and min(stored.get(node.input[1], (0, 0))[:2]) >= FEWEST]  # fmt: skip
    sources = list(dict.fromkeys(node.input[0] for node in found))
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    probe.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in sources)
    session = onnxruntime.InferenceSession(probe.SerializeToString(), providers=["CPUExecutionProvider"])
    del probe
    held = dict.fromkeys(sources, (0.0, 0.0))  # zero is inside: convolutions pad with it
    for given in inputs:
        for name, values in zip(sources, session.run(sources, dict(given)), strict=True):
            held[name] = _wider(held[name], _bounds(values))
    return [{"name": node.name, "low": held[node.input[0]][0], "high": held[node.input[0]][1]}
            for node in found if held[node.input[0]] != (0.0, 0.0)]  # fmt: skip


def _bounds(values: F32) -> tuple[float, float]:
    # An odd step, so that not the same columns are seen in every row.
    flat = values.ravel()[:: values.size // SAMPLES | 1]
    low, high = int((1 - INSIDE) * (flat.size - 1)), int(np.ceil(INSIDE * (flat.size - 1)))
    ordered: F32 = np.partition(flat, (low, high))
    return float(ordered[low]), float(ordered[high])


def _wider(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    return min(a[0], b[0]), max(a[1], b[1])
