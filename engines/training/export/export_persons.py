"""Exports dlib's face recognition network to ``engines/shipped/persons/model.onnx``.

Run with: ``RTFACE_METRIC_WEIGHTS=DIR python -m training.export.export_persons``. `training.losses.identity` describes
the network; its weights are CC0-1.0. Filters are stored as int8 with a scale per output channel, so that the file is a
quarter as large. Arithmetic is in float32. Copy the printed SHA-256 to `rtface.persons.network`.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from training.crop_space import F32
from training.losses.identity import BLOCKS, CHIP, FILE, MEAN, read_dlib
from training.losses.weight_files import weights

OUT = Path("engines/shipped/persons/model.onnx")


class _Graph:
    """A graph under construction: its nodes and constants, in order."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, value: np.ndarray) -> str:
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def add(self, kind: str, inputs: list[str], **attributes: object) -> str:
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def filters(self, name: str, value: F32, *, axis: int) -> str:
        """Stores a tensor as int8 with a scale per index of ``axis``."""
        others = tuple(k for k in range(value.ndim) if k != axis)
        scale = np.maximum(np.abs(value).max(axis=others), 1e-12) / 127
        shape = [-1 if k == axis else 1 for k in range(value.ndim)]
        rounded = np.round(value / scale.reshape(shape)).astype(np.int8)
        return self.add(
            "DequantizeLinear",
            [self.constant(name, rounded), self.constant(f"{name}_scale", scale.astype(np.float32))],
            axis=axis,
        )

    def convolve(self, number: int, x: str, weights: tuple[F32, F32], stride: int = 1) -> str:
        """Adds a convolution. As in dlib, it pads by half the kernel if the stride is 1; otherwise, it does not pad."""
        kernel = weights[0].shape[2]
        pad = 0 if stride > 1 else kernel // 2
        w = self.filters(f"filters_{number}", weights[0], axis=0)
        b = self.constant(f"biases_{number}", weights[1].astype(np.float32))
        return self.add("Conv", [x, w, b], kernel_shape=[kernel, kernel], strides=[stride] * 2, pads=[pad] * 4)


def build(data: bytes) -> onnx.ModelProto:
    """Builds dlib's network: ``chip`` 1×3×150×150 RGB 0…1 → ``embedding`` 1×128.

    Raises:
        ValueError: the data is not dlib's weight file.
    """
    convolutions, last = read_dlib(data)
    g = _Graph()
    g.constant("mean", np.asarray(MEAN, np.float32).reshape(1, 3, 1, 1) / 255)
    g.constant("gain", np.float32(255 / 256).reshape(1))
    x = g.add("Mul", [g.add("Sub", ["chip", "mean"]), "gain"])
    x = g.add("Relu", [g.convolve(0, x, convolutions[0], 2)])
    x = g.add("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2])
    side, channels = ((CHIP - 7) // 2 + 1 - 3) // 2 + 1, convolutions[0][0].shape[0]
    for number, halves in enumerate(BLOCKS):
        first, second = convolutions[2 * number + 1], convolutions[2 * number + 2]
        y = g.add("Relu", [g.convolve(2 * number + 1, x, first, 2 if halves else 1)])
        y = g.convolve(2 * number + 2, y, second)
        skip, skip_side = x, side
        if halves:
            skip = g.add("AveragePool", [x], kernel_shape=[2, 2], strides=[2, 2])
            side, skip_side = (side - 3) // 2 + 1, side // 2
        # If sizes or numbers of channels differ, dlib pads the smaller input with zeros.
        out = second[0].shape[0]
        largest, width = max(side, skip_side), max(out, channels)
        y = _pad(g, f"y{number}", y, (out, side), (width, largest))
        skip = _pad(g, f"skip{number}", skip, (channels, skip_side), (width, largest))
        x, side, channels = g.add("Relu", [g.add("Add", [y, skip])]), largest, width
    x = g.add("Flatten", [g.add("GlobalAveragePool", [x])])
    embedding = g.add("MatMul", [x, g.filters("last", last, axis=1)])
    g.nodes.append(helper.make_node("Identity", [embedding], ["embedding"]))
    graph = helper.make_graph(
        g.nodes,
        "persons",
        [helper.make_tensor_value_info("chip", TensorProto.FLOAT, [1, 3, CHIP, CHIP])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1, 128])],
        g.constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="rtface")
    model.ir_version = 9
    model.doc_string = (
        "dlib_face_recognition_resnet_model_v1 by Davis E. King, CC0-1.0 "
        "(github.com/davisking/dlib-models); filters rounded to int8"
    )
    onnx.checker.check_model(model)
    return model


def _pad(g: _Graph, name: str, x: str, shape: tuple[int, int], target: tuple[int, int]) -> str:
    (channels, side), (more_channels, larger) = shape, target
    if shape == target:
        return x
    pads = np.array([0, 0, 0, 0, 0, more_channels - channels, larger - side, larger - side], np.int64)
    return g.add("Pad", [x, g.constant(f"pads_{name}", pads)])


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--weights", type=Path, help="folder with dlib's weights (default: $RTFACE_METRIC_WEIGHTS)")
    p.add_argument("--out", type=Path, default=OUT)
    a = p.parse_args()
    data = build(weights(FILE, a.weights)).SerializeToString()
    onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    a.out.parent.mkdir(parents=True, exist_ok=True)
    temporary = a.out.with_suffix(".tmp")
    temporary.write_bytes(data)
    temporary.replace(a.out)
    print(f"{a.out}: {len(data)} bytes, SHA-256 {hashlib.sha256(data).hexdigest()}")


if __name__ == "__main__":
    main()
