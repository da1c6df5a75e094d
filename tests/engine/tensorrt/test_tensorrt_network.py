"""Networks made ready for TensorRT: what they compute, found out in ONNX Runtime with every result rounded."""

from dataclasses import replace

import numpy as np
import pytest

from rtface.engine.golden import gate
from rtface.engine.recipe import SHIPPED, Recipe, load_recipe
from rtface.errors import EngineError
from tests.engine.conftest import Maker

onnx = pytest.importorskip("onnx", reason="the onnx package is not installed")
pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from rtface.engine.tensorrt.builder import prepare  # noqa: E402
from rtface.engine.tensorrt.network import OPSET, typed  # noqa: E402
from tests.engine.tensorrt.rounding import RoundedPlan  # noqa: E402
from tests.pairs import pairs  # noqa: E402

NAMES = ("rtface-s", "rtface-m", "rtface-m-vivid")
FLOAT, FP16, BF16 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16


def shipped(name: str) -> Recipe:
    return load_recipe(SHIPPED / name / "recipe.toml")


def kinds(model: onnx.ModelProto) -> dict[str, int]:
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    found = {i.name: i.data_type for i in graph.initializer}
    return found | {v.name: v.type.tensor_type.elem_type for v in (*graph.input, *graph.output, *graph.value_info)}


# Measured: fp16 67.4, 67.7, 62.3; bf16 57.8, 58.4, 47.6 dB.
LEAST = {"fp16": 60.0, "bf16": 45.0, "f32": 65.0}


@pytest.mark.parametrize(("precision", "name"), pairs(list(LEAST), NAMES))
def test_the_goldens_come_out(precision: str, name: str) -> None:
    recipe = shipped(name)
    verdict = gate(recipe, RoundedPlan(recipe, precision, prepare(recipe, precision)))
    assert verdict.passed
    assert verdict.psnr > LEAST[precision]


@pytest.mark.parametrize(("name", "low"), pairs(NAMES, [FP16, BF16]))
def test_what_is_computed_in_which_type(name: str, low: int) -> None:
    recipe, precision = shipped(name), "fp16" if low == FP16 else "bf16"
    source = onnx.load(recipe.model_path)
    before = source.SerializeToString()
    model = typed(source, precision)
    assert source.SerializeToString() == before
    assert model.opset_import[0].version == OPSET
    types = kinds(model)
    for side in ("input", "output"):
        ports = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim][1:] for v in getattr(model.graph, side)}
        assert ports.keys() == getattr(recipe, f"{side}s").keys()
        assert {types[name] for name in ports} == {FLOAT}
    nodes = {n.name: n for n in model.graph.node}
    constants = {i.name for i in model.graph.initializer}
    assert not [n.name for n in nodes.values() if n.op_type in ("Cast", "Constant") and n.input[0] in constants]
    for node in nodes.values():
        if node.op_type == "Conv" and "carry" not in node.name:
            assert {types[name] for name in (*node.input, *node.output)} == {low}, node.name
        if node.op_type == "Reshape":
            assert types[node.input[1]] == TensorProto.INT64
    # The positions that the past is fetched from, from the author's cast on.
    for part in ("Pad", "Conv", "DepthToSpace", "Add", "Add_1", "Transpose_1", "GridSample"):
        assert types[nodes[f"/net/core/carry/{part}"].output[0]] == FLOAT, part
    for node in nodes.values():
        if node.op_type in ("ReduceMean", "ReduceSum", "Div") and types[node.output[0]] != TensorProto.INT64:
            assert types[node.output[0]] == FLOAT, node.name


def plain(
    nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray] | None = None, outputs: tuple[str, ...] = ("output",)
) -> onnx.ModelProto:
    """A network input → output, N×3×64×64 each."""
    ports = {name: helper.make_tensor_value_info(name, FLOAT, ["n", 3, 64, 64]) for name in ("input", *outputs)}
    initial = [numpy_helper.from_array(v, k) for k, v in (constants or {}).items()]
    graph = helper.make_graph(nodes, "tests", [ports.pop("input")], list(ports.values()), initial)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(model: onnx.ModelProto, value: np.ndarray) -> np.ndarray:
    out = {"output": np.empty_like(value)}
    recipe = replace(shipped("rtface-s"), name="plain")
    RoundedPlan(recipe, "f32", model).run({"input": value}, out)
    return out["output"]


@pytest.mark.parametrize(("version", "side"), [(3, 1), (8, 31)])  # weights that lie within and apart
def test_weights_that_are_inputs_too_become_constants(version: int, side: int) -> None:
    weights = np.full((3, 3, side, side), 0.5 / side**2, np.float32)
    model = plain([helper.make_node("Conv", ["input", "w"], ["output"], "conv", pads=[side // 2] * 4)], {"w": weights})
    value = np.random.default_rng(0).random((1, 3, 64, 64), np.float32)
    expected = run(model, value)
    model.graph.input.append(helper.make_tensor_value_info("w", FLOAT, weights.shape))
    model.ir_version = version
    made = typed(model, "fp16")
    assert [port.name for port in made.graph.input] == ["input"]
    np.testing.assert_allclose(run(made, value), expected, atol=2e-3)


def test_nodes_that_the_recipe_names_stay_in_fp32(make_engine: Maker) -> None:
    """x + 256 − 256 keeps no digit of x after the point in bf16."""
    folder = make_engine(
        layers=((1.0, 256.0), (1.0, -256.0)),
        answer=lambda x: x,
        edit=lambda text: text.replace("fp32_nodes = []", 'fp32_nodes = ["conv0", "conv1"]'),
    )
    recipe = load_recipe(folder / "recipe.toml")
    free = replace(recipe, precision=replace(recipe.precision, fp32_nodes=()))
    value = np.random.default_rng(0).random((1, 3, 64, 64), np.float32)
    exact, rounded = (run(prepare(r, "bf16"), value) for r in (recipe, free))
    np.testing.assert_allclose(exact, value, atol=4e-3)
    assert len(np.unique(rounded)) == 1  # finite, and wrong
    with pytest.raises(EngineError, match=r"engine tiny: .*: the network has no node conv9"):
        prepare(replace(recipe, precision=replace(recipe.precision, fp32_nodes=("conv0", "conv9"))), "fp16")


def test_only_what_lies_between_two_casts_is_kept() -> None:
    """Two regions of one network, and constants in between that are cast too."""
    nodes = [
        helper.make_node("Relu", ["input"], ["a"]),
        helper.make_node("Cast", ["a"], ["b"], to=FLOAT),
        helper.make_node("Add", ["b", "one"], ["c"]),
        helper.make_node("Cast", ["c"], ["d"], to=FLOAT),
        helper.make_node("Relu", ["d"], ["e"]),
        helper.make_node("Cast", ["e"], ["f"], to=FLOAT),
        helper.make_node("Cast", ["half"], ["h"], to=FLOAT),
        helper.make_node("Mul", ["f", "h"], ["g"]),
        helper.make_node("Cast", ["g"], ["output"], to=FLOAT),
    ]
    model = typed(plain(nodes, {"one": np.float32([1]), "half": np.float16([0.5])}), "fp16")
    types = kinds(model)
    found = {n.op_type + n.output[0]: types[n.output[0]] for n in model.graph.node if n.op_type != "Cast"}
    assert found == {"Relua.low": FP16, "Addc": FLOAT, "Relue.low": FP16, "Mulg": FLOAT}


def test_an_output_read_inside_and_an_output_that_is_an_input() -> None:
    ways = [("Relu", "input", "output"), ("Relu", "output", "second"), ("Identity", "input", "third")]
    nodes = [helper.make_node(kind, [source], [result]) for kind, source, result in ways]
    model = typed(plain(nodes, outputs=("output", "second", "third")), "fp16")
    value = np.random.default_rng(0).standard_normal((1, 3, 64, 64)).astype(np.float32)
    np.testing.assert_allclose(run(model, value), np.maximum(value, 0), atol=2e-3)


def test_branches_are_refused() -> None:
    branch = helper.make_graph(
        [helper.make_node("Identity", ["input"], ["x"])], "b", [], [helper.make_tensor_value_info("x", FLOAT, None)]
    )
    node = helper.make_node("If", ["yes"], ["output"], "choice", then_branch=branch, else_branch=branch)
    with pytest.raises(EngineError, match="If choice is a branch or a loop"):
        typed(plain([node], {"yes": np.array(True)}), "fp16")


def test_a_file_that_is_no_network(make_engine: Maker) -> None:
    folder = make_engine()
    recipe = load_recipe(folder / "recipe.toml")
    (folder / "model.onnx").write_bytes(b"\x08no network at all")
    with pytest.raises(EngineError, match=r"engine tiny: TensorRT cannot use model.onnx") as caught:
        prepare(recipe, "fp16")
    assert "\n" not in str(caught.value)
