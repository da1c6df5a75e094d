"""Products of matrices in fp32 for GPUs that TensorRT for RTX has none for: Turing (sm_75).

There fp32 has convolutions, but "FP32 GEMM is not supported", and a network with a single one cannot be built, though
all else of it is fp16. A product with constant weights is a 1×1 convolution; one of two computed matrices is products
of values, summed. Slower, but they are few: those of attention and of dictionaries that a recipe keeps in fp32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import helper, numpy_helper, shape_inference

from rtface.engine.tensorrt.weights import SplitModel, replace_all

_FLOAT = 1  # TensorProto.FLOAT


def without_products(apart: SplitModel) -> None:
    """Puts other operations in the place of MatMul and Gemm of fp32, in place; those whose shapes are not known, or
    whose weights are larger than a matrix, stay."""
    graph = apart.model.graph
    inferred = shape_inference.infer_shapes(apart.model, strict_mode=True, data_prop=True).graph
    shapes: dict[str, tuple[int, ...]] = {i.name: tuple(i.dims) for i in graph.initializer}
    types: dict[str, int] = {i.name: i.data_type for i in graph.initializer}
    for value in (*inferred.input, *inferred.output, *inferred.value_info):
        kind = value.type.tensor_type
        types[value.name] = kind.elem_type
        if kind.HasField("shape"):
            shapes[value.name] = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in kind.shape.dim)
    nodes: list[Any] = []
    for node in graph.node:
        made: list[Any] | None = None
        if node.op_type in ("MatMul", "Gemm") and types.get(node.input[0]) == _FLOAT:
            made = _convolution(apart, node, shapes) or _sum(apart, node, shapes)
        nodes += made or [node]
    replace_all(graph.node, nodes)


def _convolution(apart: SplitModel, node: Any, shapes: dict[str, tuple[int, ...]]) -> list[Any] | None:
    """A product with a constant matrix, as a 1×1 convolution; None for any other."""
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    stored = apart.sources.get(node.input[1]) or next(
        (i for i in apart.model.graph.initializer if i.name == node.input[1]), None
    )
    out = shapes.get(node.output[0], (-1, -1))
    plain = given.get("alpha", 1.0) == given.get("beta", 1.0) == 1.0 and not given.get("transA")
    bias = node.input[2:]
    if (
        stored is None
        or len(stored.dims) != 2
        or not plain
        or out.count(-1) > 1
        or any(shapes.get(name) != out[-1:] for name in bias)
    ):
        return None
    matrix = numpy_helper.to_array(stored)
    kernel = matrix if given.get("transB") else matrix.T
    name = node.output[0]
    apart.add(f"{name}.kernel", numpy_helper.from_array(np.ascontiguousarray(kernel)[:, :, None, None]), _FLOAT)
    flat, back = (_constant(apart, f"{name}.{k}", v) for k, v in (("flat", (-1, kernel.shape[1], 1, 1)), ("back", out)))
    return [
        helper.make_node("Reshape", [node.input[0], flat], [f"{name}.columns"], f"{node.name}/columns"),
        helper.make_node("Conv", [f"{name}.columns", f"{name}.kernel", *bias], [f"{name}.product"], node.name),
        helper.make_node("Reshape", [f"{name}.product", back], [name], f"{node.name}/rows"),
    ]


def _sum(apart: SplitModel, node: Any, shapes: dict[str, tuple[int, ...]]) -> list[Any] | None:
    """A product of two computed matrices, as a sum of products; None for a Gemm."""
    a, b = node.input[:2]
    rank = len(shapes.get(b, ()))
    if node.op_type == "Gemm" or rank < 2 or len(shapes.get(a, ())) < 2:
        return None
    name = node.output[0]
    axes = [_constant(apart, f"{name}.axis{k}", (k,)) for k in (-2, -3, -1)]
    turned = [*range(rank - 2), rank - 1, rank - 2]
    return [
        helper.make_node("Unsqueeze", [a, axes[0]], [f"{name}.a"], f"{node.name}/a"),
        helper.make_node("Transpose", [b], [f"{name}.turned"], f"{node.name}/turned", perm=turned),
        helper.make_node("Unsqueeze", [f"{name}.turned", axes[1]], [f"{name}.b"], f"{node.name}/b"),
        helper.make_node("Mul", [f"{name}.a", f"{name}.b"], [f"{name}.products"], f"{node.name}/products"),
        helper.make_node("ReduceSum", [f"{name}.products", axes[2]], [name], node.name, keepdims=0),
    ]


def _constant(apart: SplitModel, name: str, values: tuple[int, ...]) -> str:
    apart.model.graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), name))
    return name
