"""Converts a network to the types that TensorRT computes it in.

TensorRT derives all types from the ONNX network, so the precision is decided only here. The shipped networks compute
in fp32 from weights stored in fp16. The converted network computes in fp16 or bf16, has fp32 inputs and outputs, and
casts around the parts that stay in fp32.

Measured on the worst golden crop, with every result rounded: rtface-s has 67.4 dB in fp16 and 57.8 dB in bf16, rtface-m
67.7 and 58.4 dB. If the nodes between the author's casts, which compute positions, do not stay in fp32, rtface-s has
only 63.5 and 47.2 dB. Keeping `_EXACT` in fp32 does not change these figures, because they were measured on a CPU: it
prevents sums from overflowing inside a GPU kernel.

CPU-only installations lack the ``onnx`` package, so `builder` imports this module only to build.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper, shape_inference, version_converter

from rtface.engine.recipe_tables import Precision
from rtface.errors import EngineError

OPSET = 22
"""The first opset with bf16 convolutions."""

_IR = 4
"""The first version of ONNX's file format whose initialisers need not be inputs."""

_FLOAT = 1  # TensorProto.FLOAT

_EXACT = frozenset(
    {
        "GridSample",
        "Div",
        "Pow",
        "Exp",
        "Log",
        "Sqrt",
        "Reciprocal",
        "Softmax",
        "LogSoftmax",
        "ReduceMean",
        "ReduceSum",
        "ReduceL1",
        "ReduceL2",
        "ReduceSumSquare",
        "ReduceLogSumExp",
        "ReduceProd",
        "GlobalAveragePool",
        "InstanceNormalization",
        "LayerNormalization",
        "GroupNormalization",
        "LpNormalization",
    }
)
"""Operations that stay in fp32, because they compute positions, sums of many values or quotients. They cost little
compared to convolutions."""

_INDEPENDENT_INPUTS = {"Resize": (1, 2), "Upsample": (1,), "Shape": (0,), "Size": (0,)}
"""Indices of inputs whose type is independent of the other inputs."""


def typed(model: Any, precision: Precision, fp32_nodes: Sequence[str] = ()) -> Any:
    """Converts an onnx.ModelProto from fp32 to `precision` for TensorRT. Returns a copy with the same inputs and
    outputs.

    The following stay in fp32: the nodes of `fp32_nodes`, the operations of `_EXACT`, and nodes between two casts to
    fp32 by the network's author. Casts of constants are folded; integers do not change. Raises EngineError for a
    network that contains branches or loops, or lacks a node of `fp32_nodes`.
    """
    source, model = model, ModelProto()
    model.CopyFrom(source)
    # Old files (IR version 3) also list initialisers, which are constants, among the inputs.
    model.ir_version = max(model.ir_version, _IR)
    initialisers = {tensor.name for tensor in model.graph.initializer}
    replace_all(model.graph.input, [port for port in model.graph.input if port.name not in initialisers])
    if next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1) < OPSET:
        model = version_converter.convert_version(model, OPSET)
    nodes = model.graph.node
    if nested := next((n for n in nodes if any(a.HasField("g") or a.graphs for a in n.attribute)), None):
        raise EngineError(
            "the network's {kind} {name} is a branch or a loop, which cannot be converted",
            code="network_branch",
            kind=nested.op_type,
            name=nested.name,
        )
    if missing := set(fp32_nodes) - {n.name for n in nodes}:
        raise EngineError(
            "the network has no node {node}, which the recipe's precision.fp32_nodes lists",
            code="fp32_node",
            node=min(missing),
        )
    _fold_constants(model.graph)
    exact = {n.output[0] for n in nodes if n.name in fp32_nodes} | _between_casts(nodes)
    _drop_casts(model)
    if precision != "f32":
        _retype(model, TensorProto.FLOAT16 if precision == "fp16" else TensorProto.BFLOAT16, exact)
    del model.graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    return model


def _fold_constants(graph: Any) -> None:
    """Replaces constant nodes, and casts of constants, by initialisers."""
    constants = {i.name: i for i in graph.initializer}
    remaining: list[Any] = []
    for node in graph.node:
        attributes = {a.name: a for a in node.attribute}
        if node.op_type == "Constant" and "value" in attributes:
            tensor = TensorProto()
            tensor.CopyFrom(attributes["value"].t)
        elif node.op_type == "Cast" and node.input[0] in constants:
            dtype = helper.tensor_dtype_to_np_dtype(attributes["to"].i)
            tensor = numpy_helper.from_array(numpy_helper.to_array(constants[node.input[0]]).astype(dtype))
        else:
            remaining.append(node)
            continue
        tensor.name = node.output[0]
        constants[tensor.name] = tensor
    replace_all(graph.node, remaining)
    keep_used(graph, constants.values())


def keep_used(graph: Any, constants: Iterable[Any]) -> None:
    """Sets the graph's initialisers to the `constants` that it reads or outputs."""
    used = {name for node in graph.node for name in node.input} | {o.name for o in graph.output}
    replace_all(graph.initializer, [c for c in constants if c.name in used])


def _is_float_cast(node: Any) -> bool:
    return node.op_type == "Cast" and any(a.name == "to" and a.i == _FLOAT for a in node.attribute)


def _between_casts(nodes: Sequence[Any]) -> set[str]:
    """Returns the first outputs of nodes between two casts to fp32. An exporter writes such casts for ``.float()`` and
    for the conversion back."""
    inside: set[str] = set()  # tensors after an odd number of casts
    for node in nodes:  # ONNX requires nodes in the order of computation
        if _is_float_cast(node) != any(name in inside for name in node.input):
            inside.update(node.output)
    leads: set[str] = set()  # tensors that lead to a cast
    outputs: set[str] = set()
    for node in reversed(nodes):
        if _is_float_cast(node):
            leads.update(node.input)
        elif inside.intersection(node.output) and leads.intersection(node.output):
            leads.update(node.input)
            outputs.add(node.output[0])
    return outputs


def _drop_casts(model: Any) -> None:
    """Removes casts from fp32 to fp32, except at outputs of the network."""
    types = _types(model)
    outputs = {o.name for o in model.graph.output}
    sources: dict[str, str] = {}
    remaining: list[Any] = []
    for node in model.graph.node:
        _rename(node.input, sources)
        if _is_float_cast(node) and types.get(node.input[0]) == _FLOAT and node.output[0] not in outputs:
            sources[node.output[0]] = node.input[0]
        else:
            remaining.append(node)
    replace_all(model.graph.node, remaining)


def _rename(names: Any, new_names: dict[str, str]) -> None:
    for i, name in enumerate(names):
        names[i] = new_names.get(name, name)


def _types(model: Any) -> dict[str, int]:
    """Returns the ONNX type number of each tensor."""
    graph = shape_inference.infer_shapes(model, strict_mode=True).graph
    types: dict[str, int] = {i.name: i.data_type for i in graph.initializer}
    for value in (*graph.input, *graph.output, *graph.value_info):
        types[value.name] = value.type.tensor_type.elem_type
    return types


def _retype(model: Any, low_type: int, exact: set[str]) -> None:
    """Makes nodes compute in `low_type`, except those with outputs in `exact`."""
    graph, types = model.graph, _types(model)

    def lowered(name: str) -> str:
        return f"{name}.low"

    # In fp32, a tensor keeps its name; in `low_type`, it has another name. If no node computes a tensor in a type that
    # is read, a cast does.
    floats = {name for name, kind in types.items() if kind == _FLOAT}
    for node in graph.node:
        independent = _INDEPENDENT_INPUTS.get(node.op_type, ())
        lowerable = {i for i, name in enumerate(node.input) if name in floats and i not in independent}
        if not lowerable or node.op_type in _EXACT or node.op_type == "Cast" or node.output[0] in exact:
            continue
        for i in lowerable:
            node.input[i] = lowered(node.input[i])
        _rename(node.output, {name: lowered(name) for name in node.output if name in floats})
    constants = {i.name: i for i in graph.initializer}
    computed = {name for node in graph.node for name in node.output}
    for node in graph.node:
        if node.op_type in ("Shape", "Size") and lowered(node.input[0]) in computed:
            node.input[0] = lowered(node.input[0])
    read_names = {name for node in graph.node for name in node.input} | {o.name for o in graph.output}
    casts: dict[str, Any] = {}  # added casts by source tensor
    for name in floats:
        if lowered(name) in computed and name in read_names:
            casts[lowered(name)] = helper.make_node("Cast", [lowered(name)], [name], f"{name}/exact", to=_FLOAT)
        elif lowered(name) in read_names and lowered(name) not in computed and name in constants:
            value = numpy_helper.to_array(constants[name]).astype(helper.tensor_dtype_to_np_dtype(low_type))
            constants[lowered(name)] = numpy_helper.from_array(value, lowered(name))
        elif lowered(name) in read_names and lowered(name) not in computed:
            casts[name] = helper.make_node("Cast", [name], [lowered(name)], f"{name}/low", to=low_type)
    nodes = [casts[i.name] for i in graph.input if i.name in casts]
    for node in graph.node:
        nodes += [node, *(casts[name] for name in node.output if name in casts)]
    replace_all(graph.node, nodes)
    keep_used(graph, constants.values())


def replace_all(field: Any, values: Sequence[Any]) -> None:
    """Replaces the values of a repeated field. `values` may belong to the same field."""
    copies = [type(v)() for v in values]
    for copy, value in zip(copies, values, strict=True):
        copy.CopyFrom(value)
    del field[:]
    field.extend(copies)
