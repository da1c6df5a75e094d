"""Exports torch modules to static ONNX graphs: weights stored once, constants folded."""

from __future__ import annotations

import fnmatch
import io
import warnings
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

OPSET = 17


def to_onnx(module: torch.nn.Module, inputs: Mapping[str, torch.Tensor], outputs: Sequence[str], *,
            folds: bool = False, free: Mapping[str, Mapping[int, str]] | None = None) -> onnx.ModelProto:  # fmt: skip
    """Exports ``module``, traced with example ``inputs``. These are in the order of its parameters, by port name.

    ``free``: for each port, names of the axes without fixed size; by default, the first axis of each port.
    ``folds``: True if the exporter folds constants, even if they grow (fp16 to fp32). Otherwise, call ``fold``.
    """
    names, file = list(inputs), io.BytesIO()
    free = free or {n: {0: "n"} for n in (*names, *outputs)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns that the tracing exporter is old, and about each constant
        torch.onnx.export(
            module, tuple(inputs.values()), file, dynamo=False, opset_version=OPSET, do_constant_folding=folds,
            input_names=names, output_names=list(outputs), dynamic_axes=free,
        )  # fmt: skip
    model = onnx.load_from_string(file.getvalue())
    constants_to_initialisers(model)
    return model


def constants_to_initialisers(model: onnx.ModelProto) -> None:
    """Replaces ``Constant`` nodes by initialisers. Removes ``Identity`` nodes that only copy initialisers."""
    graph = model.graph
    sources: dict[str, str] = {}
    nodes: list[onnx.NodeProto] = []
    initialisers = {i.name for i in graph.initializer}
    for node in graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = sources.get(name, name)
        if node.op_type == "Constant":
            graph.initializer.append(
                numpy_helper.from_array(numpy_helper.to_array(node.attribute[0].t), node.output[0])
            )
            initialisers.add(node.output[0])
        elif node.op_type == "Identity" and node.input[0] in initialisers:
            sources[node.output[0]] = node.input[0]
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def fold(model: onnx.ModelProto) -> None:
    """Replaces nodes that depend only on initialisers by their results. Keeps nodes whose results are larger."""
    graph = model.graph
    constants = {i.name: i for i in graph.initializer}
    outputs = {o.name for o in graph.output}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if not all(name in constants for name in node.input if name) or outputs & set(node.output):
            nodes.append(node)
            continue
        inputs = {name: numpy_helper.to_array(constants[name]) for name in node.input if name}
        node_graph = helper.make_graph([node], "", [helper.make_empty_tensor_value_info(n) for n in inputs],
                                  [helper.make_empty_tensor_value_info(n) for n in node.output if n])  # fmt: skip
        evaluator = ReferenceEvaluator(helper.make_model(node_graph, opset_imports=model.opset_import))
        results = [np.asarray(value) for value in evaluator.run(None, inputs)]
        if sum(v.nbytes for v in results) > max(4096, *(v.nbytes for v in inputs.values())):
            nodes.append(node)
            continue
        constants |= {name: numpy_helper.from_array(value, name)
                  for name, value in zip([n for n in node.output if n], results, strict=True)}  # fmt: skip
    del graph.node[:]
    graph.node.extend(nodes)
    used_names = {name for node in nodes for name in node.input}
    del graph.initializer[:]
    graph.initializer.extend(init for name, init in constants.items() if name in used_names)


def match_nodes(model: onnx.ModelProto, patterns: Iterable[str]) -> list[str]:
    """Lists nodes whose names match a pattern, in the graph's order.

    In patterns, ``*`` also matches ``/``. Raises ValueError if a pattern matches no node.
    """
    names = [node.name for node in model.graph.node]
    matches: set[str] = set()
    for pattern in patterns:
        matching = fnmatch.filter(names, pattern)
        if not matching:
            raise ValueError(f"no node of the network has a name like {pattern}")
        matches.update(matching)
    return [name for name in names if name in matches]
