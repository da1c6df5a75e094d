"""What an ONNX file takes and gives, and small changes to that, without the ``onnx`` package.

Only the wire format of protocol buffers is needed (https://protobuf.dev/programming-guides/encoding/) and few fields of
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rtface.errors import InputError

FLOAT, INT64, DOUBLE = 1, 7, 11
_TYPES = {1: "float32", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 9: "bool", 10: "float16", 11: "float64",
          16: "bfloat16"}
_GRAPH = 7  # of a model
_NODE, _INITIALIZER, _INPUT, _OUTPUT = 1, 5, 11, 12  # of a graph
# Far more than any network has: a few megabytes of the smallest fields would take gigabytes as objects.
_MOST_FIELDS = 1_000_000
_MOST_DIMENSIONS = 64
Piece = tuple[int, int | memoryview, memoryview]
"""A field's number, its value, and all of it as it stands in the file."""


@dataclass(frozen=True, slots=True)
class Value:
    """An input or output: dimensions are None where they are open; `raw` is how it stands in the graph."""

    name: str
    kind: int
    shape: tuple[int | None, ...]
    raw: memoryview

    @property
    def shown(self) -> str:
        """As "input N×3×512×512 float32"; of a side that the file leaves open, "any"."""
        dims = "×".join(str(d) if d is not None else "N" if k == 0 else "any" for k, d in enumerate(self.shape))
        dims = dims or "a scalar"
        return f"{self.name} {dims} {_TYPES.get(self.kind, 'of another type')}"


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """A network's `inputs` (without its weights), `outputs` and number of `parameters`."""

    path: Path
    inputs: list[Value]
    outputs: list[Value]
    parameters: int
    _model: list[Piece]
    _graph: list[Piece]

    def rewritten(self, control: Value | None, output: Value, name: str) -> bytes:
        """The file with `output` as its only one, and with the input `control` taking one number of N×1 float32 under
        `name`, whatever shape and type it had."""
        kept = [raw for number, value, raw in self._graph
                if not (number == _OUTPUT and value is not output.raw) and not (
                    number == _INPUT and control is not None and value is control.raw)]
        added = b"" if control is None else _adapter(control, name)
        graph = added + b"".join(kept)
        return b"".join(_field(_GRAPH, graph) if number == _GRAPH else bytes(raw) for number, _, raw in self._model)


def read_onnx(path: Path) -> OnnxFile:
    """Raises InputError for what is no ONNX file, is damaged, or has its weights elsewhere; OSError."""
    data = memoryview(path.read_bytes())
    try:
        model = list(_pieces(data))
        (graph,) = ([*_pieces(_bytes(value))] for number, value, _ in model if number == _GRAPH)
        weights = [_Weight.read(_bytes(value)) for number, value, _ in graph if number == _INITIALIZER]
        names = {weight.name for weight in weights}
        inputs = [v for v in _values(graph, _INPUT) if v.name not in names]
        outputs = _values(graph, _OUTPUT)
    except (ValueError, IndexError, struct.error, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no ONNX file, or it is damaged; get it again") from error
    if any(weight.elsewhere for weight in weights):
        raise InputError(f"{path} has its weights in other files; join them first: python -c 'import onnx; "
                         'onnx.save(onnx.load("in.onnx"), "one.onnx")\'')
    return OnnxFile(path, inputs, outputs, sum(w.count for w in weights if w.count > 1), model, graph)


@dataclass(frozen=True, slots=True)
class _Weight:
    name: str
    count: int
    elsewhere: bool

    @staticmethod
    def read(data: memoryview) -> _Weight:
        name, dims, elsewhere = "", list[int](), False
        for number, value, _ in _pieces(data):
            if number == 1:
                dims += [value] if isinstance(value, int) else _packed(value)
                if len(dims) > _MOST_DIMENSIONS:
                    raise ValueError("more dimensions than any tensor has")
            elif number == 8:
                name = _text(value)
            elif number == 14:
                elsewhere = value == 1
        return _Weight(name, math.prod(dims), elsewhere)


def _values(graph: Sequence[Piece], wanted: int) -> list[Value]:
    return [_value(_bytes(value)) for number, value, _ in graph if number == wanted]


def _value(data: memoryview) -> Value:
    name, kind, shape = "", 0, list[int | None]()
    for number, value, _ in _pieces(data):
        if number == 1:
            name = _text(value)
        elif number == 2:
            for part, tensor, _ in _pieces(_bytes(value)):
                for field, found, _ in _pieces(_bytes(tensor)) if part == 1 else ():
                    if field == 1 and isinstance(found, int):
                        kind = found
                    elif field == 2:
                        shape += [_dimension(_bytes(dim)) for k, dim, _ in _pieces(_bytes(found)) if k == 1]
    return Value(name, kind, tuple(shape), data)


def _dimension(data: memoryview) -> int | None:
    sizes = [value for number, value, _ in _pieces(data) if number == 1 and isinstance(value, int)]
    return sizes[0] if sizes and 0 < sizes[0] < 1 << 31 else None


def _pieces(data: memoryview) -> Iterator[Piece]:
    """The fields of one message. Raises ValueError and IndexError where it is none."""
    at = count = 0
    while at < len(data):
        begin, count = at, count + 1
        if count > _MOST_FIELDS:
            raise ValueError("more fields than any network has")
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        value: int | memoryview
        if wire == 0:
            value, at = _varint(data, at)
        elif wire == 2:
            length, at = _varint(data, at)
            value, at = data[at:at + length], at + length
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
            value, at = data[at:at + length], at + length
        else:
            raise ValueError(f"wire type {wire}")
        if at > len(data) or not number:
            raise ValueError("a field beyond the end")
        yield number, value, data[begin:at]


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise ValueError("a number without end")


def _bytes(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number where a message is expected")
    return value


def _text(value: int | memoryview) -> str:
    return bytes(_bytes(value)).decode()


def _packed(data: memoryview) -> list[int]:
    out, at = list[int](), 0
    while at < len(data):
        value, at = _varint(data, at)
        out.append(value)
        if len(out) > _MOST_DIMENSIONS:
            raise ValueError("more dimensions than any tensor has")
    return out


def _number(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def _field(number: int, value: bytes | str | int) -> bytes:
    if isinstance(value, int):
        return _number(number << 3) + _number(value)
    data = value.encode() if isinstance(value, str) else value
    return _number(number << 3 | 2) + _number(len(data)) + data


def _node(kind: str, inputs: Sequence[str], output: str, attributes: bytes = b"") -> bytes:
    return _field(_NODE, b"".join(_field(1, name) for name in inputs) + _field(2, output)
                  + _field(3, f"rtface/{kind}") + _field(4, kind) + attributes)


def _adapter(control: Value, name: str) -> bytes:
    """An input `name`, N×1 float32, and the nodes that make of it what `control` was."""
    between, shape = f"{name}_reshaped", f"{name}_shape"
    dims = [-1 if d is None else d for d in control.shape]
    values = struct.pack(f"<{len(dims)}q", *dims)
    target = _field(1, len(dims)) + _field(2, INT64) + _field(8, shape) + _field(9, values)
    to = _field(5, _field(1, "to") + _field(3, control.kind) + _field(20, 2))
    nodes = _node("Reshape", (name, shape), between) + _node("Cast", (between,), control.name, to)
    open_batch = _field(1, _field(2, "n")) + _field(1, _field(1, 1))
    port = _field(1, name) + _field(2, _field(1, _field(1, FLOAT) + _field(2, open_batch)))
    return nodes + _field(_INITIALIZER, target) + _field(_INPUT, port)
