"""Measures int8 ranges of convolution inputs on crops, for ``rtface/engine/backends/int8.py``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import helper

F32 = npt.NDArray[np.float32]

QUANTILE = 0.9999
"""Quantile that bounds the range of a crop's values on either side. Wider ranges for outliers would be coarser."""

MIN_CHANNELS = 16
"""Convolutions with fewer input or output channels process pixels. They stay in fp32, which costs almost nothing."""

SAMPLES = 1 << 20
"""Number of values at which larger tensors are sampled."""


def ranges(model: onnx.ModelProto, inputs: Iterable[Mapping[str, F32]]) -> list[dict[str, Any]]:
    """Measures the input range of each convolution to run in int8: ``name``, ``low``, ``high``. Each item of ``inputs``
    contains the tensors of one crop, by port name."""
    shapes = {init.name: init.dims for init in model.graph.initializer}
    convolutions = [node for node in model.graph.node
             if node.op_type == "Conv" and min(shapes.get(node.input[1], (0, 0))[:2]) >= MIN_CHANNELS]  # fmt: skip
    sources = list(dict.fromkeys(node.input[0] for node in convolutions))
    measured_model = onnx.ModelProto()
    measured_model.CopyFrom(model)
    measured_model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in sources)
    session = onnxruntime.InferenceSession(measured_model.SerializeToString(), providers=["CPUExecutionProvider"])
    del measured_model
    limits = dict.fromkeys(sources, (0.0, 0.0))  # ranges contain 0, because convolutions pad with zeros
    for tensors in inputs:
        for name, values in zip(sources, session.run(sources, dict(tensors)), strict=True):
            limits[name] = _union(limits[name], _bounds(values))
    return [{"name": node.name, "low": limits[node.input[0]][0], "high": limits[node.input[0]][1]}
            for node in convolutions if limits[node.input[0]] != (0.0, 0.0)]  # fmt: skip


def _bounds(values: F32) -> tuple[float, float]:
    # Because the step is odd, the samples lie in different columns of each row.
    flat = values.ravel()[:: values.size // SAMPLES | 1]
    low, high = int((1 - QUANTILE) * (flat.size - 1)), int(np.ceil(QUANTILE * (flat.size - 1)))
    partitioned: F32 = np.partition(flat, (low, high))
    return float(partitioned[low]), float(partitioned[high])


def _union(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    return min(a[0], b[0]), max(a[1], b[1])
