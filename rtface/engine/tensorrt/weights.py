"""A network's weights apart from its graph.

What works on a graph copies it, most of it by way of protobuf, which holds 2 GiB; the weights of a diffusion network
reach that in fp16, and are twice as many bytes in fp32. So they are set aside while the graph is worked on, and made
in the type that is wanted when all is done.

Needs the ``onnx`` package: imported where a plan is built.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

_LARGE = 1024
"""Values; what shapes are computed from, and what operations want to know beforehand, are fewer."""

_IR = 4
"""The first version of ONNX's file format in which an initialiser need not be an input."""


@dataclass(slots=True)
class SplitModel:
    """A network and its weights.

    Attributes:
        model: onnx.ModelProto. While it is worked on, weights are inputs of its graph, of the type that it reads;
            once `settle` was called they are initialisers whose data lies elsewhere.
        sources: for each of those names the weights as they are stored (onnx.TensorProto), in whatever type.
    """

    model: Any
    sources: dict[str, Any] = field(default_factory=dict[str, Any])

    @staticmethod
    def of(model: Any) -> SplitModel:
        """Leaves `model` (onnx.ModelProto) as it is. An initialiser that an old file (IR version 3) lists among the
        inputs as well is a constant, so its input is left out."""
        light, floats = ModelProto(), (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)
        for kind, value in model.ListFields():
            if kind.name != "graph":
                _set(light, kind, value)
        for kind, value in model.graph.ListFields():
            if kind.name != "initializer":
                _set(light.graph, kind, value)
        light.ir_version = max(light.ir_version, _IR)
        stored = {tensor.name for tensor in model.graph.initializer}
        replace_all(light.graph.input, [port for port in light.graph.input if port.name not in stored])
        sources: dict[str, Any] = {}
        for tensor in model.graph.initializer:
            if int(np.prod(tensor.dims)) < _LARGE or tensor.data_type not in floats:
                light.graph.initializer.add().CopyFrom(tensor)
                continue
            sources[tensor.name] = tensor
            light.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
        return SplitModel(light, sources)

    def add(self, name: str, tensor: Any, kind: int) -> None:
        """More weights, as they are stored, and the type (of onnx.TensorProto's) that they have in the graph."""
        self.sources[name] = tensor
        self.model.graph.input.append(helper.make_tensor_value_info(name, kind, tensor.dims))

    def settle(self) -> None:
        """Makes the weights initialisers again, those that are read. A cast of weights is weights of that type."""
        graph = self.model.graph
        kept: list[Any] = []
        for node in graph.node:
            if node.op_type == "Cast" and node.input[0] in self.sources:
                kind = next(a.i for a in node.attribute if a.name == "to")
                self.add(node.output[0], self.sources[node.input[0]], kind)
            else:
                kept.append(node)
        replace_all(graph.node, kept)
        types = {port.name: port.type.tensor_type.elem_type for port in graph.input}
        replace_all(graph.input, [port for port in graph.input if port.name not in self.sources])
        read = {name for node in graph.node for name in node.input} | {o.name for o in graph.output}
        self.sources = {name: tensor for name, tensor in self.sources.items() if name in read}
        for name, source in self.sources.items():
            place = graph.initializer.add(
                name=name, data_type=types[name], dims=source.dims, data_location=TensorProto.EXTERNAL
            )
            place.external_data.add(key="location", value="weights")

    def values(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """Name and values of the weights of a settled network, one after the other, in its types."""
        for place in self.model.graph.initializer:
            if place.name in self.sources:
                dtype = helper.tensor_dtype_to_np_dtype(place.data_type)
                yield place.name, np.ascontiguousarray(numpy_helper.to_array(self.sources[place.name]).astype(dtype))

    @property
    def nbytes(self) -> int:
        """Bytes of a settled network's weights."""
        return sum(
            int(np.prod(place.dims)) * helper.tensor_dtype_to_np_dtype(place.data_type).itemsize
            for place in self.model.graph.initializer
            if place.name in self.sources
        )

    def whole(self) -> Any:
        """A settled network as one onnx.ModelProto, weights and all; of more than 2 GiB it cannot be serialised."""
        values = dict(self.values())
        model = type(self.model)()
        model.CopyFrom(self.model)
        for place in model.graph.initializer:
            if place.name in values:
                place.CopyFrom(numpy_helper.from_array(values.pop(place.name), place.name))
        return model


def _set(message: Any, kind: Any, value: Any) -> None:
    """Copies one field of a message."""
    if kind.is_repeated:
        getattr(message, kind.name).MergeFrom(value)
    elif kind.message_type is not None:
        getattr(message, kind.name).CopyFrom(value)
    else:
        setattr(message, kind.name, value)


def replace_all(field: Any, values: list[Any]) -> None:
    """Puts `values` in the place of a repeated field's, of which they may be."""
    kept = [type(v)() for v in values]
    for copy, value in zip(kept, values, strict=True):
        copy.CopyFrom(value)
    del field[:]
    field.extend(kept)
