"""Makes a stateless engine out of a recurrent one, to measure keyframes and temporal averaging.

``python -m training.evaluation.single_frame_engine --engine rtface-m --out DIR/rtface-m-alone --times 12``

The network's memory is nailed down to "nothing known", as on a face's first frame. ``--times`` runs it so many times
over, one after the other, for an engine that is as slow as those of the field: every run's answer goes into the next
one's input, multiplied by next to nothing, so no compiler can leave it out. ``RTFACE_CONFIG_DIR=ABOVE``, where DIR is
``ABOVE/engines``, makes it an engine of that name everywhere.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import GraphProto, NodeProto, helper, numpy_helper

from rtface.engine.recipe import Recipe, load_recipe

NOTHING = 1e-9


def alone(recipe: Recipe, times: int = 1) -> onnx.ModelProto:
    """The network of a recurrent engine, from its crop to its answer, without its memory."""
    ports = recipe.memory
    if ports is None:
        raise ValueError(f"{recipe.name} has no memory")
    model = onnx.load(str(recipe.model_path))
    graph: GraphProto = model.graph
    kept = {recipe.input.name, recipe.output.name}
    fixed = {v.name: v for v in graph.input if v.name not in kept and v.name != ports.shrunk}
    weights = list(graph.initializer)
    for name, value in fixed.items():
        shape = [max(1, d.dim_value) for d in value.type.tensor_type.shape.dim]
        weights.append(numpy_helper.from_array(np.zeros(shape, np.float32), name))
    weights.append(numpy_helper.from_array(np.array(NOTHING, np.float32), "next_to_nothing"))
    nodes: list[NodeProto] = []
    crop = recipe.input.name
    shared = {w.name for w in weights}
    for turn in range(times):
        last = turn == times - 1
        if recipe.shrink > 1:
            side = [recipe.shrink] * 2
            nodes.append(helper.make_node("AveragePool", [crop], [f"{ports.shrunk}/{turn}"], f"shrink/{turn}",
                                          kernel_shape=side, strides=side))  # fmt: skip
        for node in graph.node:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.name = f"{node.name}/{turn}"
            for names in (copy.input, copy.output):
                names[:] = [_name(n, turn, crop, shared, recipe, last) for n in names]
            nodes.append(copy)
        if not last:
            answer = f"{recipe.output.name}/{turn}"
            nodes.append(helper.make_node("Mul", [answer, "next_to_nothing"], [f"little/{turn}"]))
            nodes.append(helper.make_node("Add", [crop, f"little/{turn}"], [f"crop/{turn}"]))
            crop = f"crop/{turn}"
    ends = ([v for v in graph.input if v.name == recipe.input.name], [v for v in graph.output if v.name in kept])
    whole = helper.make_graph(nodes, graph.name, *ends, initializer=weights)
    return helper.make_model(whole, opset_imports=model.opset_import, ir_version=model.ir_version)


def _name(name: str, turn: int, crop: str, shared: set[str], recipe: Recipe, last: bool) -> str:
    if name == recipe.input.name:
        return crop
    if not name or name in shared or (last and name == recipe.output.name):
        return name
    return f"{name}/{turn}"


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--engine", default="rtface-m")
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--times", type=int, default=1)
    a = p.parse_args()
    folder = Path(__file__).parents[2] / "rtface" / "models" / a.engine
    recipe = load_recipe(folder / "recipe.toml")
    a.out.mkdir(parents=True, exist_ok=True)
    data = alone(recipe, a.times).SerializeToString()
    (a.out / recipe.weights.file).write_bytes(data)
    shutil.copy(recipe.golden_path, a.out / recipe.golden.file)
    text = (folder / "recipe.toml").read_text().partition("[memory]")[0]
    for old, new in ((f'name = "{a.engine}"', f'name = "{a.out.name}"'),
                     (f"bytes = {recipe.weights.bytes}", f"bytes = {len(data)}"),
                     (recipe.weights.sha256, hashlib.sha256(data).hexdigest())):  # fmt: skip
        text = text.replace(old, new, 1)
    (a.out / "recipe.toml").write_text(text)
    print(f"{a.out}: {len(data)} bytes")


if __name__ == "__main__":
    main()
