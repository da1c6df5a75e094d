"""Floating-point operations of an ONNX network: its convolutions and matrix products, which are nearly all of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtface.engine.tensorrt.weights import SplitModel


@dataclass(frozen=True, slots=True)
class Convolution:
    """One shape: channels in and out, kernel, stride, groups, rows and columns of the input, padding on each side."""

    channels: int
    out: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    groups: int
    height: int
    width: int
    pad: tuple[int, int]
    flops: int


def read(path: Path, inputs: Mapping[str, tuple[int, ...]]) -> tuple[int, Counter[Convolution]]:
    """Operations for one crop (a multiplication and an addition are two), and the convolutions, each shape's number.

    Args:
        path: of the network.
        inputs: shapes for one crop, without the batch.
    """
    import onnx

    # Shapes are all that counts, and the weights of a large network would be copied.
    model: Any = SplitModel.of(onnx.load(str(path))).model
    for port in model.graph.input:
        if port.name in inputs:
            dims = port.type.tensor_type.shape.dim
            for dim, size in zip(dims, (1, *inputs[port.name]), strict=True):
                dim.dim_value = size
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {t.name: tuple(t.dims) for t in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        shapes[value.name] = tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
    made = {name: node for node in graph.node for name in node.output}

    def weights(name: str) -> tuple[int, ...]:
        while not shapes.get(name) or 0 in shapes[name]:  # behind casts and dequantising
            name = made[name].input[0]
        return shapes[name]

    total, convolutions = 0, Counter[Convolution]()
    for node in graph.node:
        if node.op_type in ("Conv", "ConvTranspose"):
            given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            a, b, kernel = shapes[node.input[0]], shapes[node.output[0]], weights(node.input[1])
            groups = given.get("group", 1)
            over = b if node.op_type == "Conv" else a
            count = 2 * math.prod(over[2:]) * math.prod(kernel)
            total += count
            if node.op_type == "Conv":
                pads = given.get("pads", [0, 0, 0, 0])
                convolutions[
                    Convolution(
                        a[1],
                        b[1],
                        tuple(kernel[2:]),
                        tuple(given.get("strides", [1, 1])),
                        groups,
                        a[2],
                        a[3],
                        (pads[0], pads[1]),
                        count,
                    )
                ] += 1
        elif node.op_type in ("Gemm", "MatMul"):
            b = weights(node.input[1])
            total += 2 * math.prod(shapes[node.output[0]]) * b[-2]
    return total, convolutions
