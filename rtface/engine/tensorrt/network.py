"""The network in the types that it is to be computed in.

TensorRT takes every type from the network it is given: precision is decided here, in the ONNX, and nowhere else. The
shipped networks compute in fp32 from weights that are kept in fp16. What leaves here computes in fp16 or bf16, takes
and gives fp32, and has casts where parts of it stay in fp32.

Measured on the goldens with every result rounded (worst of all crops): rtface-s 67.4 dB in fp16 and 57.8 in bf16,
rtface-m 67.7 and 58.4; without the fp32 between the author's casts, where positions are computed, rtface-s falls to
63.5 and 47.2. The single operations of `_EXACT` change nothing there: what they guard against, sums that overflow
inside a kernel, a CPU does not show.

Needs the ``onnx`` package, which is not there where only the CPU is used: `builder` imports this when it builds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper, shape_inference, version_converter

from rtface.engine.recipe_tables import Precision
from rtface.errors import EngineError

OPSET = 22
"""The first in which a convolution may be bf16."""

_IR = 4
"""The first version of ONNX's file format in which an initialiser need not be an input."""

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
"""Operations that stay in fp32: positions in an image, sums of many values, quotients. They are small beside the
convolutions."""

_OWN_TYPE = {"Resize": (1, 2), "Upsample": (1,), "Shape": (0,), "Size": (0,)}
"""Inputs, by number, whose type does not have to be that of the rest."""


def typed(model: Any, precision: Precision, fp32_nodes: Sequence[str] = ()) -> Any:
    """`model` (onnx.ModelProto that computes in fp32, left as it is) for TensorRT: computes in `precision`, takes and
    gives what it did.

    In fp32 stay the nodes named in `fp32_nodes`, operations that need it (`_EXACT`), and what the network's author put
    between two casts to fp32. Casts of constants are folded; integers stay as they are. Raises EngineError for a
    network that holds branches or loops, or that lacks a node of `fp32_nodes`.
    """
    given, model = model, ModelProto()
    model.CopyFrom(given)
    # An initialiser that an old file (IR version 3) lists among the inputs as well is a constant.
    model.ir_version = max(model.ir_version, _IR)
    stored = {tensor.name for tensor in model.graph.initializer}
    replace_all(model.graph.input, [port for port in model.graph.input if port.name not in stored])
    if next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1) < OPSET:
        model = version_converter.convert_version(model, OPSET)
    nodes = model.graph.node
    if nested := next((n for n in nodes if any(a.HasField("g") or a.graphs for a in n.attribute)), None):
        raise EngineError(
            "the network's {kind} {name} is a branch or a loop, which cannot be typed",
            code="network_branch",
            kind=nested.op_type,
            name=nested.name,
        )
    if missing := set(fp32_nodes) - {n.name for n in nodes}:
        raise EngineError(
            "the network has no node {node}, which the recipe's precision.fp32_nodes names",
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
    """Constant nodes, and casts of constants, become initialisers."""
    constants = {i.name: i for i in graph.initializer}
    kept: list[Any] = []
    for node in graph.node:
        attributes = {a.name: a for a in node.attribute}
        if node.op_type == "Constant" and "value" in attributes:
            tensor = TensorProto()
            tensor.CopyFrom(attributes["value"].t)
        elif node.op_type == "Cast" and node.input[0] in constants:
            dtype = helper.tensor_dtype_to_np_dtype(attributes["to"].i)
            tensor = numpy_helper.from_array(numpy_helper.to_array(constants[node.input[0]]).astype(dtype))
        else:
            kept.append(node)
            continue
        tensor.name = node.output[0]
        constants[tensor.name] = tensor
    replace_all(graph.node, kept)
    keep_used(graph, constants.values())


def keep_used(graph: Any, constants: Iterable[Any]) -> None:
    """Makes those of `constants` the graph's initialisers that it reads or gives."""
    used = {name for node in graph.node for name in node.input} | {o.name for o in graph.output}
    replace_all(graph.initializer, [c for c in constants if c.name in used])


def _is_float_cast(node: Any) -> bool:
    return node.op_type == "Cast" and any(a.name == "to" and a.i == _FLOAT for a in node.attribute)


def _between_casts(nodes: Sequence[Any]) -> set[str]:
    """First outputs of the nodes on the way from one cast to fp32 to another: what an exporter leaves of ``.float()``
    and of the way back."""
    inside: set[str] = set()  # tensors after an odd number of casts
    for node in nodes:  # in the order of computation, as ONNX demands
        if _is_float_cast(node) != any(name in inside for name in node.input):
            inside.update(node.output)
    leads: set[str] = set()  # tensors of those that end at a cast
    found: set[str] = set()
    for node in reversed(nodes):
        if _is_float_cast(node):
            leads.update(node.input)
        elif inside.intersection(node.output) and leads.intersection(node.output):
            leads.update(node.input)
            found.add(node.output[0])
    return found


def _drop_casts(model: Any) -> None:
    """Casts from fp32 to fp32 go, except those that name an output."""
    types = _types(model)
    outputs = {o.name for o in model.graph.output}
    source: dict[str, str] = {}
    kept: list[Any] = []
    for node in model.graph.node:
        _rename(node.input, source)
        if _is_float_cast(node) and types.get(node.input[0]) == _FLOAT and node.output[0] not in outputs:
            source[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    replace_all(model.graph.node, kept)


def _rename(names: Any, new: dict[str, str]) -> None:
    for i, name in enumerate(names):
        names[i] = new.get(name, name)


def _types(model: Any) -> dict[str, int]:
    """ONNX's number of each tensor's type."""
    graph = shape_inference.infer_shapes(model, strict_mode=True).graph
    found: dict[str, int] = {i.name: i.data_type for i in graph.initializer}
    for value in (*graph.input, *graph.output, *graph.value_info):
        found[value.name] = value.type.tensor_type.elem_type
    return found


def _retype(model: Any, low: int, exact: set[str]) -> None:
    """Lets the graph's nodes compute in type `low`, except those whose first output is in `exact`."""
    graph, types = model.graph, _types(model)

    def lowered(name: str) -> str:
        return f"{name}.low"

    # A tensor has its own name in fp32 and another one in `low`; whichever of both is read and not computed is cast.
    floats = {name for name, kind in types.items() if kind == _FLOAT}
    for node in graph.node:
        own = _OWN_TYPE.get(node.op_type, ())
        given = {i for i, name in enumerate(node.input) if name in floats and i not in own}
        if not given or node.op_type in _EXACT or node.op_type == "Cast" or node.output[0] in exact:
            continue
        for i in given:
            node.input[i] = lowered(node.input[i])
        _rename(node.output, {name: lowered(name) for name in node.output if name in floats})
    constants = {i.name: i for i in graph.initializer}
    computed = {name for node in graph.node for name in node.output}
    for node in graph.node:
        if node.op_type in ("Shape", "Size") and lowered(node.input[0]) in computed:
            node.input[0] = lowered(node.input[0])
    read = {name for node in graph.node for name in node.input} | {o.name for o in graph.output}
    casts: dict[str, Any] = {}  # by the tensor that is cast
    for name in floats:
        if lowered(name) in computed and name in read:
            casts[lowered(name)] = helper.make_node("Cast", [lowered(name)], [name], f"{name}/exact", to=_FLOAT)
        elif lowered(name) in read and lowered(name) not in computed and name in constants:
            value = numpy_helper.to_array(constants[name]).astype(helper.tensor_dtype_to_np_dtype(low))
            constants[lowered(name)] = numpy_helper.from_array(value, lowered(name))
        elif lowered(name) in read and lowered(name) not in computed:
            casts[name] = helper.make_node("Cast", [name], [lowered(name)], f"{name}/low", to=low)
    nodes = [casts[i.name] for i in graph.input if i.name in casts]
    for node in graph.node:
        nodes += [node, *(casts[name] for name in node.output if name in casts)]
    replace_all(graph.node, nodes)
    keep_used(graph, constants.values())


def replace_all(field: Any, values: Sequence[Any]) -> None:
    """Puts `values` in the place of a repeated field's, of which they may be."""
    kept = [type(v)() for v in values]
    for copy, value in zip(kept, values, strict=True):
        copy.CopyFrom(value)
    del field[:]
    field.extend(kept)
