"""Writes small ONNX networks with nothing but struct: the runtime and the tests need no ``onnx`` package.

Only what the tests use of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto: a chain of 1×1 convolutions, and a
network that remembers.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np


def _varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def _int(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return _varint(field << 3 | 2) + _varint(len(data)) + data


FLOAT, INT64, DOUBLE = 1, 7, 11  # TensorProto.DataType


def _tensor(name: str, values: np.ndarray) -> bytes:
    dims = b"".join(_int(1, d) for d in values.shape)
    kind, code = (INT64, "q") if values.dtype.kind == "i" else (FLOAT, "f")
    return dims + _int(2, kind) + _bytes(8, name) + _bytes(9, struct.pack(f"<{values.size}{code}", *values.ravel()))


def _value(name: str, shape: Sequence[int | str], kind: int = FLOAT) -> bytes:
    dims = b"".join(_bytes(1, _bytes(2, d) if isinstance(d, str) else _int(1, d)) for d in shape)
    return _bytes(1, name) + _bytes(2, _bytes(1, _int(1, kind) + _bytes(2, dims)))


def _port(name: str, size: int, channels: int = 3, width: int = 0) -> bytes:
    return _value(name, ("n", channels, size, width or size))


def faithful(
    size: int, *, control: Sequence[int | str] = ("n", 1), kind: int = FLOAT, batch: int | str = "n", name: str = "w"
) -> bytes:
    """A network with a control: output = input·w, w of the shape and type given (FLOAT or DOUBLE)."""
    steps = [
        ("Cast", (name,), "f", _bytes(5, _bytes(1, "to") + _int(3, FLOAT) + _int(20, 2))),
        ("Reshape", ("f", "shape"), "s", b""),
        ("Mul", ("input", "s"), "output", b""),
    ]
    graph = b""
    for op, inputs, output, attributes in steps:
        graph += _bytes(1, b"".join(_bytes(1, n) for n in inputs) + _bytes(2, output) + _bytes(4, op) + attributes)
    graph += _bytes(2, "tiny") + _bytes(5, _tensor("shape", np.array([-1, 1, 1, 1])))
    graph += _bytes(11, _value("input", (batch, 3, size, size))) + _bytes(11, _value(name, control, kind))
    graph += _bytes(12, _value("output", (batch, 3, size, size)))
    return _int(1, 8) + _bytes(7, graph) + _bytes(8, _bytes(1, "") + _int(2, 17))


def remembering(size: int) -> bytes:
    """A recurrent network: restored = input + known·¾·(past − input), next = state + 1 (1×2×1×1), log_scale = known − ¾
    and occlusion = ½·known (1×1×1×1)."""
    steps = [
        ("Sub", ("past", "input"), "d"),
        ("Mul", ("d", "three"), "e"),
        ("Mul", ("e", "known"), "f"),
        ("Add", ("input", "f"), "output"),
        ("Add", ("state", "one"), "next"),
        ("Sub", ("known", "three"), "log_scale"),
        ("Mul", ("known", "half"), "occlusion"),
    ]
    graph = b""
    for kind, inputs, output in steps:
        graph += _bytes(1, b"".join(_bytes(1, n) for n in inputs) + _bytes(2, output) + _bytes(4, kind))
    graph += _bytes(2, "tiny")
    for name, value in (("half", 0.5), ("three", 0.75), ("one", 1.0)):
        graph += _bytes(5, _tensor(name, np.full((1, 1, 1, 1), value, np.float32)))
    for name in ("input", "past"):
        graph += _bytes(11, _port(name, size))
    graph += _bytes(11, _port("state", 1, channels=2)) + _bytes(11, _port("known", 1, channels=1))
    graph += _bytes(12, _port("output", size)) + _bytes(12, _port("next", 1, channels=2))
    graph += _bytes(12, _port("log_scale", 1, channels=1)) + _bytes(12, _port("occlusion", 1, channels=1))
    return _int(1, 8) + _bytes(7, graph) + _bytes(8, _bytes(1, "") + _int(2, 17))


def keeping(height: int, width: int) -> bytes:
    """A recurrent network of a region that remembers at half its size: the residual is 0.1, and kept =
    known·¾·(past − shrunk)."""
    steps = [
        ("Mul", ("input", "zero"), "z"),
        ("Add", ("z", "tenth"), "output"),
        ("Sub", ("past", "shrunk"), "d"),
        ("Mul", ("d", "three"), "e"),
        ("Mul", ("e", "known"), "kept"),
    ]
    graph = b""
    for kind, inputs, output in steps:
        graph += _bytes(1, b"".join(_bytes(1, n) for n in inputs) + _bytes(2, output) + _bytes(4, kind))
    graph += _bytes(2, "tiny")
    for name, value in (("zero", 0.0), ("tenth", 0.1), ("three", 0.75)):
        graph += _bytes(5, _tensor(name, np.full((1, 1, 1, 1), value, np.float32)))
    for name in ("past", "shrunk"):
        graph += _bytes(11, _port(name, height // 2, width=width // 2))
    graph += _bytes(11, _port("input", height, width=width)) + _bytes(11, _port("known", 1, channels=1))
    graph += _bytes(12, _port("output", height, width=width)) + _bytes(12, _port("kept", height // 2, width=width // 2))
    return _int(1, 8) + _bytes(7, graph) + _bytes(8, _bytes(1, "") + _int(2, 17))


def convolutions(size: int, layers: list[tuple[float, float]]) -> bytes:
    """A network ``input`` → ``output`` (N×3×size×size) that applies ``x·gain + bias`` for each layer in turn."""
    graph = b""
    names = ["input", *(f"h{i}" for i in range(len(layers) - 1)), "output"]
    for i in range(len(layers)):
        node = b"".join(_bytes(1, n) for n in (names[i], f"w{i}", f"b{i}"))
        graph += _bytes(1, node + _bytes(2, names[i + 1]) + _bytes(3, f"conv{i}") + _bytes(4, "Conv"))
    graph += _bytes(2, "tiny")
    for i, (gain, bias) in enumerate(layers):
        weight = (np.eye(3) * gain).astype(np.float32).reshape(3, 3, 1, 1)
        graph += _bytes(5, _tensor(f"w{i}", weight)) + _bytes(5, _tensor(f"b{i}", np.full(3, bias, np.float32)))
    graph += _bytes(11, _port("input", size)) + _bytes(12, _port("output", size))
    return _int(1, 8) + _bytes(7, graph) + _bytes(8, _bytes(1, "") + _int(2, 17))
