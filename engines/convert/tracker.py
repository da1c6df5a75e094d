"""Converts the tracker's networks to ONNX that takes batches, for GPUs.

The files are TFLite, or ONNX for one frame. OpenVINO reads them and folds the preparation of frames into the weights.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino as ov
from onnx import TensorProto, helper, numpy_helper
from openvino._offline_transformations import apply_moc_transformations
from openvino.preprocess import PrePostProcessor

from .errors import ConvertError

OPSET, IR = 17, 8
INPUT = "crop"

Converted = tuple[str, list[Any], dict[str, Any]]
"""ONNX's operation, its inputs after the first (None: OpenVINO's input, else the value of a constant), attributes."""


def to_onnx(file: Path, size: int, layout: str, *, bgr: bool = False, divisor: float = 1.0) -> onnx.ModelProto:
    """Converts a network. Arguments are those of `rtface.tracking.network.TrackerNetwork`.

    The ONNX takes ``crop``, N×3×S×S RGB in 0…1 like an engine's crops, for any N. Its outputs have the names, order and
    shapes of the file. Raises ConvertError if the file contains an operation without a rule.
    """
    source = _read(file, size, layout, bgr, divisor)
    ports = [(port.get_any_name(), ["n", *port.get_shape()[1:]]) for port in source.outputs]
    answers = [result.input_value(0).get_node().get_friendly_name() for result in source.get_results()]
    names = {answer: name for answer, (name, _) in zip(answers, ports, strict=True)}
    names[source.input().get_node().get_friendly_name()] = INPUT
    constants: dict[str, Any] = {}
    nodes: list[onnx.NodeProto] = []
    for op in source.get_ordered_ops():
        kind, shape = op.get_type_name(), list(op.output(0).get_shape())
        name, *inputs = (
            names.get(one.get_friendly_name(), one.get_friendly_name())
            for one in (op, *(value.get_node() for value in op.input_values()))
        )
        operands = [constants.get(one) for one in inputs]
        if kind == "Constant":
            constants[name] = op.data.astype(np.float32) if op.data.dtype == np.float16 else op.data.copy()
        elif kind in _FOLDED and operands[0] is not None:
            constants[name] = _FOLDED[kind](operands, shape)
        elif kind in _RULES:
            target, values, attributes = _RULES[kind](op.get_attributes(), operands, shape)
            for place, value in enumerate(values, 1):
                if value is not None:
                    inputs[place : place + 1] = [f"{name}/{place}"]
                    constants[inputs[place]] = value
            nodes.append(helper.make_node(target, inputs[: len(values) + 1], [name], name, **attributes))
        elif kind not in ("Parameter", "Result"):
            raise ConvertError(f"{file}: there is no rule for the operation {kind} ({name}); add one to {__file__}")
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        file.stem,
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["n", 3, size, size])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in ports],
        [numpy_helper.from_array(value, name) for name, value in constants.items() if name in used],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    onnx.checker.check_model(model, full_check=True)
    return model


def _read(file: Path, size: int, layout: str, bgr: bool, divisor: float) -> ov.Model:
    model = ov.Core().read_model(str(file))
    # With fixed shapes, OpenVINO folds all computations of shapes, and only the batch is left to vary.
    model.reshape([1, size, size, 3] if layout == "NHWC" else [1, 3, size, size])
    steps = PrePostProcessor(model)
    entry = steps.input()
    entry.tensor().set_element_type(ov.Type.f32).set_layout(ov.Layout("NCHW"))
    entry.model().set_layout(ov.Layout(layout))
    if divisor != 255:
        entry.preprocess().scale(divisor / 255)
    if bgr:
        entry.preprocess().reverse_channels()
    model = steps.build()
    # These are the transformations that OpenVINO applies when it compiles. They cancel the transpositions of TFLite.
    apply_moc_transformations(model, cf=True)
    return model


def _convolution(attributes: dict[str, Any], operands: list[Any], _: list[int]) -> Converted:
    weights = operands[1]
    more = {"dilations": attributes["dilations"], "group": weights.shape[0] if weights.ndim == 5 else 1}
    return "Conv", [weights.reshape(-1, *weights.shape[-3:])], _window(attributes) | more


def _window(attributes: dict[str, Any]) -> dict[str, Any]:
    return {"strides": attributes["strides"], "pads": [*attributes["pads_begin"], *attributes["pads_end"]]}


def _resize(attributes: dict[str, Any], operands: list[Any], _: list[int]) -> Converted:
    names = ("mode", "coordinate_transformation_mode", "nearest_mode")
    scales = np.asarray(operands[1], np.float32)
    return "Resize", [np.zeros(0, np.float32), scales], {name: attributes[name] for name in names}


_FOLDED: dict[str, Callable[[list[Any], list[int]], Any]] = {
    "Convert": lambda operands, shape: operands[0],  # from fp16, which `to_onnx` has already converted
    "Reshape": lambda operands, shape: operands[0].reshape(shape),
    "Transpose": lambda operands, shape: operands[0].transpose(operands[1]),
}
"""The value of an operation on constants, for its operands and the shape of its output."""
_RULES: dict[str, Callable[[dict[str, Any], list[Any], list[int]], Converted]] = {
    "Add": lambda a, operands, shape: ("Add", [None], {}),
    "Convolution": _convolution,
    "GroupConvolution": _convolution,
    "Interpolate": _resize,
    "MaxPool": lambda a, operands, shape: ("MaxPool", [], _window(a) | {"kernel_shape": a["kernel"]}),
    "Pad": lambda a, operands, shape: ("Pad", [np.concatenate(operands[1:3])], {"mode": "constant"}),
    "PRelu": lambda a, operands, shape: ("PRelu", [operands[1].reshape(-1, 1, 1)], {}),
    "Relu": lambda a, operands, shape: ("Relu", [], {}),
    "Reshape": lambda a, operands, shape: ("Reshape", [np.array([-1, *shape[1:]], np.int64)], {}),
    "Sigmoid": lambda a, operands, shape: ("Sigmoid", [], {}),
    "Transpose": lambda a, operands, shape: ("Transpose", [], {"perm": operands[1].tolist()}),
}
"""The ONNX of an operation, for its attributes, operands (None: not constant) and the shape of its output."""
