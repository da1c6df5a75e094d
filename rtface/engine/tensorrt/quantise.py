"""Convolutions in 8-bit integers, as TensorRT wants them told: QuantizeLinear and DequantizeLinear in the network."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from rtface.engine.backends.int8 import Calibration
from rtface.engine.tensorrt.network import keep_used
from rtface.engine.tensorrt.weights import replace_all
from rtface.errors import EngineError

_LEAST = np.float16(2.0**-24)
"""The smallest scale that fp16 holds: TensorRT refuses a scale of 0."""


def quantise(model: Any, calibration: Calibration) -> None:
    """Makes convolutions of `model` (onnx.ModelProto, typed "fp16") run in int8, in place: their inputs are rounded to
    one symmetric range each, their weights to one for each output channel.

    TensorRT computes a convolution between such pairs in integers and has no zero points, so the larger side of a
    calibrated range counts for both. Raises EngineError when the model lacks a convolution that the calibration names,
    or one of them has weights that are not constant or is kept in fp32.
    """
    graph = model.graph
    constants = {i.name: i for i in graph.initializer}
    convolutions = {n.name: n for n in graph.node if n.op_type == "Conv"}
    made: dict[tuple[str, float], str] = {}  # several convolutions may read one tensor in one range
    after: dict[str, list[Any]] = defaultdict(list)  # a tensor
    before: dict[str, Any] = {}  # a convolution

    def constant(name: str, value: np.ndarray) -> str:
        constants[name] = numpy_helper.from_array(value, name)
        return name

    for wanted in calibration.convolutions:
        node = convolutions.get(wanted.name)
        if node is None:
            raise EngineError(
                "the network has no convolution {name}, which its int8 ranges name",
                code="int8_convolution",
                name=wanted.name,
            )
        weights = constants.get(node.input[1])
        if weights is None or weights.data_type != TensorProto.FLOAT16:
            raise EngineError(
                "the weights of {name} are no fp16 constant, so it cannot run in int8",
                code="int8_fp16",
                name=wanted.name,
            )
        name, source = node.name, node.input[0]
        # The rounding uses the scale as it is stored, so nothing is lost by storing it in fp16.
        scale = max(np.float16(max(-wanted.low, wanted.high) / 127), _LEAST)
        if (key := (source, float(scale))) not in made:
            made[key] = f"{source}.int8.{len(made)}"
            steps = constant(f"{made[key]}.scale", np.array(scale))
            zero = constant("int8.zero", np.array(0, np.int8))
            after[source] += [
                helper.make_node("QuantizeLinear", [source, steps, zero], [f"{made[key]}.q"], f"{made[key]}/quantise"),
                helper.make_node(
                    "DequantizeLinear", [f"{made[key]}.q", steps, zero], [made[key]], f"{made[key]}/dequantise"
                ),
            ]
        node.input[0] = made[key]
        values = numpy_helper.to_array(weights).astype(np.float32)
        tops = np.abs(values).reshape(len(values), -1).max(1)
        steps = np.maximum((tops / 127).astype(np.float16), _LEAST)
        whole = np.rint(values / steps.astype(np.float32).reshape(-1, *[1] * (values.ndim - 1)))
        ints = constant(f"{name}.int8.weights", np.clip(whole, -127, 127).astype(np.int8))
        per_channel = constant(f"{name}.int8.scale", steps)
        node.input[1] = f"{name}.int8.kernel"
        before[name] = helper.make_node(
            "DequantizeLinear", [ints, per_channel], [node.input[1]], f"{name}/kernel", axis=0
        )
    nodes: list[Any] = []
    for node in graph.node:
        nodes += [before[node.name], node] if node.name in before else [node]
        nodes += [pair for output in node.output for pair in after[output]]
    replace_all(graph.node, nodes)
    keep_used(graph, constants.values())
