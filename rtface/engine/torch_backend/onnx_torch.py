"""ONNX networks in PyTorch: a graph becomes a module whose weights are its parameters.

The converters that there are lack operators that restorers use or have had no release for years, and what restorers
need is small: `rtface.engine.torch_backend.onnx_ops` and its neighbours compute it. Shapes are settled before
anything runs: for
every set of input shapes the graph is walked once on tensors without data ("meta"), everything that follows from
weights and shapes alone is computed there and then, and what is left is a list of steps on data. A run only goes
through that list: nothing in it waits for the device, so it can be compiled (`torch.compile`) and captured into a CUDA
graph.
"""
# The dev install has no torch: its types are not known.
# pyright: reportMissingImports=false, reportUnknownParameterType=false, reportUntypedBaseClass=false

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper

from rtface.engine.torch_backend.onnx_ops import MATH, Node, Operator
from rtface.engine.torch_backend.onnx_pictures import PICTURES
from rtface.engine.torch_backend.onnx_shapes import SHAPES
from rtface.errors import EngineError

OPERATORS = {**MATH, **SHAPES, **PICTURES}
LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_TYPES: dict[int, torch.dtype] = {onnx.TensorProto.INT64: torch.int64, onnx.TensorProto.INT32: torch.int32,
                                  onnx.TensorProto.BOOL: torch.bool}
Shapes = tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(frozen=True, slots=True)
class Named:
    """An argument that is computed: a tensor's name."""

    name: str


@dataclass(frozen=True, slots=True)
class Constant:
    """An argument that is a parameter or buffer of the module: its attribute's name."""

    attribute: str


@dataclass(frozen=True, slots=True)
class Step:
    """One operator on data. `arguments`: `Named`, `Constant`, or plain Python; `free`: tensors not needed after it."""

    operator: Operator
    node: Node
    arguments: tuple[Any, ...]
    free: tuple[str, ...] = ()


class Network(torch.nn.Module):
    """A graph with its weights. Called with tensors by name it gives all outputs by name, in `dtype`.

    Attributes:
        inputs, outputs: names of the graph's tensors.
    """

    def __init__(self, model: onnx.ModelProto, dtype: torch.dtype = torch.float32, keep: Iterable[str] = ()) -> None:
        """
        Args:
            model: the network.
            dtype: that floating-point arithmetic is done in, whatever the graph says; but coordinates are computed in
                float32, see `_coordinates`.
            keep: names of more nodes that compute in float32.

        Raises:
            EngineError: an operator is not known (named), or a node of `keep` is not there.
        """
        super().__init__()
        self._dtype, self._keep = dtype, frozenset(keep)
        graph, opset = model.graph, next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1)
        unknown = sorted({f"{n.domain}.{n.op_type}".removeprefix("ai.onnx").removeprefix(".") for n in graph.node
                          if n.domain not in ("", "ai.onnx") or n.op_type not in OPERATORS})
        if unknown:
            raise EngineError(f"the PyTorch backend does not know the network's operator {', '.join(unknown)}")
        if absent := self._keep - {node.name for node in graph.node}:
            raise EngineError(f"the network has no node {', '.join(sorted(absent))}, which is to stay in fp32")
        self._known: dict[str, torch.Tensor] = {t.name: _tensor(t) for t in graph.initializer}
        self.inputs = tuple(port.name for port in graph.input if port.name not in self._known)
        self.outputs = tuple(port.name for port in graph.output)
        self._types = {port.name: _TYPES.get(port.type.tensor_type.elem_type, torch.float32) for port in graph.input}
        self._constants: dict[tuple[Any, ...], str] = {}
        self._programs: dict[Shapes, tuple[Step, ...]] = {}
        self.register_buffer("_place", torch.empty(0), persistent=False)  # says where the module is
        self._nodes: list[Node] = []
        for proto in graph.node:
            node = Node(proto.op_type, proto.name or proto.output[0], tuple(proto.input), tuple(proto.output),
                        {a.name: _attribute(a) for a in proto.attribute}, opset)
            if all(name in self._known or not name for name in node.inputs):
                _compute(node, self._known)
            else:
                self._nodes.append(node)
        self._keep |= _coordinates(self._nodes)

    def prepare(self, shapes: Shapes) -> tuple[Step, ...]:
        """The steps for inputs of these shapes, made on the first call. Raises EngineError where the graph cannot be
        followed."""
        if (done := self._programs.get(shapes)) is not None:
            return done
        if absent := set(self.inputs) - {name for name, _ in shapes}:
            raise EngineError(f"the network's input {', '.join(sorted(absent))} was not given")
        values = dict(self._known)
        values |= {name: torch.empty(shape, dtype=self._types[name], device="meta") for name, shape in shapes
                   if name in self._types}
        steps: list[Step] = []
        casts: dict[tuple[str, torch.dtype], Named] = {}
        for node in self._nodes:
            if absent := {name for name in node.inputs if name} - values.keys():
                raise EngineError(f"node {node.name} ({node.op}) needs {', '.join(absent)}, which no node gives")
            given = [values[name] if name else None for name in node.inputs]
            if OPERATORS[node.op].of_shape or not any(t is not None and t.is_meta for t in given):
                _compute(node, values)
                continue
            node = node.computing_in(torch.float32 if node.name in self._keep else self._dtype)
            steps.append(self._step(node, values, steps, casts, shapes))
        for name in self.outputs:
            if name not in values:
                raise EngineError(f"the network's output {name} is computed by no node")
            if not values[name].is_meta:  # follows from shapes and weights alone
                steps.append(Step(OPERATORS["Identity"], Node("Identity", name, (name,), (name,)),
                                  (self._constant(name, values[name], shapes),)))
        self._programs[shapes] = _freed(steps, self.outputs)
        return self._programs[shapes]

    def _step(self, node: Node, values: dict[str, torch.Tensor], steps: list[Step],
              casts: dict[tuple[str, torch.dtype], Named], shapes: Shapes) -> Step:
        """The step of a node, and in `values` what it gives as tensors without data."""
        operator = OPERATORS[node.op]
        arguments: list[Any] = []
        blank: list[Any] = []
        for i, name in enumerate(node.inputs):
            value = values[name] if name else None
            if value is None:
                arguments.append(None)
                blank.append(None)
            elif i in operator.host:
                if value.is_meta:
                    raise EngineError(f"node {node.name} ({node.op}) needs {name} before the network runs")
                arguments.append(value.tolist())
                blank.append(arguments[-1])
            else:
                floating = value.is_floating_point() and not (node.op == "Cast" and value.is_meta)
                wanted = node.dtype if floating else value.dtype
                if not value.is_meta:
                    arguments.append(self._constant(name, value.to(wanted), shapes))
                elif value.dtype == wanted:
                    arguments.append(Named(name))
                else:
                    arguments.append(_cast(name, wanted, steps, casts))
                blank.append(torch.empty_like(value, dtype=wanted, device="meta"))
        results = _outputs(node, _apply(operator, node, blank))
        values.update(zip(node.outputs, results, strict=False))
        return Step(operator, node, tuple(arguments))

    def _constant(self, name: str, value: torch.Tensor, shapes: Shapes) -> Constant:
        """A parameter (floating point) or buffer that holds `value`; the same one again for the same value."""
        key = (name, value.dtype, None if name in self._known else shapes)
        if key not in self._constants:
            attribute = self._constants[key] = f"constant{len(self._constants)}"
            value = value.to(self._place.device)
            if value.is_floating_point():
                self.register_parameter(attribute, torch.nn.Parameter(value, requires_grad=False))
            else:
                self.register_buffer(attribute, value)
        return Constant(self._constants[key])

    def forward(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Outputs by name. The inputs' shapes decide the steps; see `prepare`."""
        values = dict(inputs)
        for step in self.prepare(tuple((name, tuple(value.shape)) for name, value in inputs.items())):
            arguments = [values[a.name] if isinstance(a, Named) else getattr(self, a.attribute)
                         if isinstance(a, Constant) else a for a in step.arguments]
            results = _outputs(step.node, step.operator.compute(step.node, *arguments))
            values.update(zip(step.node.outputs, results, strict=False))
            for name in step.free:
                values.pop(name, None)
        return {name: values[name] for name in self.outputs}


def _coordinates(nodes: Sequence[Node]) -> set[str]:
    """Names of nodes that sample pictures and of those that compute where, back to the layers whose answer that comes
    from. 16 bits leave a coordinate no digit behind the point from 256 (bf16) or 2048 pixels on, and few before."""
    maker = {output: node for node in nodes for output in node.outputs}
    found: set[str] = set()
    waiting = [node for node in nodes if node.op == "GridSample"]
    while waiting:
        node = waiting.pop()
        found.add(node.name)
        sources = [maker[name] for name in node.inputs[1 if node.op == "GridSample" else 0:] if name in maker]
        waiting += [m for m in sources if m.op not in LAYERS and m.name not in found]
    return found


def _cast(name: str, dtype: torch.dtype, steps: list[Step], casts: dict[tuple[str, torch.dtype], Named]) -> Named:
    """`name` in another precision: a step of its own, once."""
    if (name, dtype) not in casts:
        cast = f"{name} as {dtype}"
        node = Node("Cast", cast, (name,), (cast,), {"to": onnx.TensorProto.FLOAT}).computing_in(dtype)
        steps.append(Step(OPERATORS["Cast"], node, (Named(name),)))
        casts[name, dtype] = Named(cast)
    return casts[name, dtype]


def _compute(node: Node, values: dict[str, torch.Tensor]) -> None:
    """Computes a node whose inputs are known, in their own precision."""
    operator = OPERATORS[node.op]
    given = [values[name] if name else None for name in node.inputs]
    arguments = [value.tolist() if value is not None and i in operator.host else value
                 for i, value in enumerate(given)]
    values.update(zip(node.outputs, _outputs(node, _apply(operator, node, arguments)), strict=False))


def _apply(operator: Operator, node: Node, arguments: Sequence[Any]) -> Any:
    try:
        return operator.compute(node, *arguments)
    except (RuntimeError, IndexError, ValueError, TypeError, NotImplementedError) as error:
        if isinstance(error, EngineError):
            raise
        raise EngineError(f"node {node.name} ({node.op}) cannot be computed in PyTorch: "
                          f"{str(error).strip().splitlines()[0]}") from error


def _outputs(node: Node, result: Any) -> Sequence[torch.Tensor]:
    return result if isinstance(result, (tuple, list)) else (result,)


def _freed(steps: list[Step], outputs: Sequence[str]) -> tuple[Step, ...]:
    """The steps, each with what no later one needs."""
    needed, done = set(outputs), list[Step]()
    for step in reversed(steps):
        names = {a.name for a in step.arguments if isinstance(a, Named)} | {name for name in step.node.outputs if name}
        done.append(Step(step.operator, step.node, step.arguments, tuple(sorted(names - needed))))
        needed |= names
    return tuple(reversed(done))


def _tensor(proto: onnx.TensorProto) -> torch.Tensor:
    array = numpy_helper.to_array(proto)
    if array.dtype.name == "bfloat16":  # numpy has it from elsewhere, and torch does not know that one
        array = array.astype(np.float32)
    return torch.tensor(array)


def _attribute(proto: onnx.AttributeProto) -> Any:
    value: Any = helper.get_attribute_value(proto)
    if isinstance(value, onnx.TensorProto):
        return _tensor(value)
    return value.decode() if isinstance(value, bytes) else list(value) if hasattr(value, "__iter__") else value
