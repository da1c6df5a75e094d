"""ONNX graphs out of torch modules: static, weights stored once, everything that is constant computed before."""

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
    """``module`` as it runs on ``inputs`` (examples by port name, in its order).

    ``free``: names of the free axes of every port; without, the first axis of each is free.
    ``folds``: the exporter computes what is constant, also where that takes more room, as fp32 out of fp16; else it is
    left to ``fold``.
    """
    names, file = list(inputs), io.BytesIO()
    free = free or {n: {0: "n"} for n in (*names, *outputs)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracing exporter's age, and of every constant that it meets
        torch.onnx.export(
            module, tuple(inputs.values()), file, dynamo=False, opset_version=OPSET, do_constant_folding=folds,
            input_names=names, output_names=list(outputs), dynamic_axes=free,
        )  # fmt: skip
    model = onnx.load_from_string(file.getvalue())
    constants_to_initialisers(model)
    return model


def constants_to_initialisers(model: onnx.ModelProto) -> None:
    """``Constant`` nodes become initialisers and ``Identity`` nodes of initialisers vanish (weights stored once)."""
    graph = model.graph
    names: dict[str, str] = {}
    nodes: list[onnx.NodeProto] = []
    stored = {i.name for i in graph.initializer}
    for node in graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = names.get(name, name)
        if node.op_type == "Constant":
            graph.initializer.append(
                numpy_helper.from_array(numpy_helper.to_array(node.attribute[0].t), node.output[0])
            )
            stored.add(node.output[0])
        elif node.op_type == "Identity" and node.input[0] in stored:
            names[node.output[0]] = node.input[0]
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def fold(model: onnx.ModelProto) -> None:
    """Computes what depends on initialisers only, where that does not take more room than it is computed from."""
    graph = model.graph
    known = {i.name: i for i in graph.initializer}
    answers = {o.name for o in graph.output}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if not all(name in known for name in node.input if name) or answers & set(node.output):
            nodes.append(node)
            continue
        given = {name: numpy_helper.to_array(known[name]) for name in node.input if name}
        alone = helper.make_graph([node], "", [helper.make_empty_tensor_value_info(n) for n in given],
                                  [helper.make_empty_tensor_value_info(n) for n in node.output if n])  # fmt: skip
        evaluator = ReferenceEvaluator(helper.make_model(alone, opset_imports=model.opset_import))
        found = [np.asarray(value) for value in evaluator.run(None, given)]
        if sum(v.nbytes for v in found) > max(4096, *(v.nbytes for v in given.values())):
            nodes.append(node)
            continue
        known |= {name: numpy_helper.from_array(value, name)
                  for name, value in zip([n for n in node.output if n], found, strict=True)}  # fmt: skip
    del graph.node[:]
    graph.node.extend(nodes)
    read = {name for node in nodes for name in node.input}
    del graph.initializer[:]
    graph.initializer.extend(init for name, init in known.items() if name in read)


def named(model: onnx.ModelProto, patterns: Iterable[str]) -> list[str]:
    """Names of the nodes that match a pattern (as of file names; ``*`` crosses ``/`` too), in the graph's order.

    Raises ValueError for a pattern that matches none: it was written for another graph.
    """
    names = [node.name for node in model.graph.node]
    found: set[str] = set()
    for pattern in patterns:
        here = fnmatch.filter(names, pattern)
        if not here:
            raise ValueError(f"no node of the network has a name like {pattern}")
        found.update(here)
    return [name for name in names if name in found]
