"""What a typed network computes, found out on the CPU: fp32 arithmetic, each result rounded as the network's types say.

ONNX Runtime's own fp16 drops the roundings between its fp32 kernels, and it has no convolution in bf16.
"""

from collections.abc import Mapping

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

from rtface.engine.plan import PlanIdentity
from rtface.engine.recipe import Recipe
from rtface.engine.recipe_tables import Precision

LOW = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
FREE = ("Cast", "QuantizeLinear", "DequantizeLinear")


def rounded(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` with every operation of a lower type in fp32, between casts that round what it takes and gives."""
    kinds = {i.name: i.data_type for i in model.graph.initializer}
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    for value in (*inferred.input, *inferred.output, *inferred.value_info):
        kinds[value.name] = value.type.tensor_type.elem_type
    out = onnx.ModelProto()
    out.CopyFrom(model)
    del out.graph.node[:]
    for i, node in enumerate(model.graph.node):
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        before, after = [], []
        if node.op_type not in FREE:
            for k, name in enumerate(node.input):
                if kinds.get(name) in LOW:
                    copy.input[k] = f"{name}.{i}.up"
                    before.append(helper.make_node("Cast", [name], [copy.input[k]], to=TensorProto.FLOAT))
            for k, name in enumerate(node.output):
                if kinds.get(name) in LOW:
                    copy.output[k] = f"{name}.{i}.full"
                    after.append(helper.make_node("Cast", [copy.output[k]], [name], to=kinds[name]))
        out.graph.node.extend([*before, copy, *after])
    return out


class RoundedPlan:
    """A typed network as a plan; see `rtface.engine.plan.Plan`."""

    def __init__(self, recipe: Recipe, precision: Precision, model: onnx.ModelProto) -> None:
        self.identity = PlanIdentity.of(recipe, "rounding", ort.__version__, "cpu", precision)
        options = ort.SessionOptions()
        options.log_severity_level = 3
        # Nothing may take a rounding away.
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        self.session = ort.InferenceSession(rounded(model).SerializeToString(), options, ["CPUExecutionProvider"])

    def run(self, inputs: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray]) -> None:
        for out, answer in zip(outputs.values(), self.session.run(list(outputs), dict(inputs)), strict=True):
            np.copyto(out, answer)

    def close(self) -> None: ...
