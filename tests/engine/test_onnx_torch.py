"""Every operator of the PyTorch interpreter against ONNX Runtime, and what holds for whole networks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rtface.engine.crop_runner import shrunk
from rtface.engine.plan import load_golden
from rtface.engine.recipe import find_recipes, load_recipe
from rtface.errors import EngineError

torch = pytest.importorskip("torch", reason="torch is an extra: pip install -e '.[torch]'")
onnx = pytest.importorskip("onnx", reason="onnx is an extra: pip install -e '.[torch]'")
ort = pytest.importorskip("onnxruntime", reason="onnxruntime is an extra: pip install -e '.[onnx]'")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from rtface.engine.torch_backend.onnx_torch import OPERATORS, Network  # noqa: E402

RNG = np.random.default_rng(7)


def _float(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def _positive(*shape: int) -> np.ndarray:
    return RNG.random(shape).astype(np.float32) + np.float32(0.1)


def _ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def _floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


class Known:
    """An input that is written in the network."""

    def __init__(self, *values: Any) -> None:
        self.array = np.asarray(values[0]) if isinstance(values[0], (np.ndarray, np.generic)) else _ints(*values)


def _model(op: str, given: list[Any], attributes: dict[str, Any], opset: int,
           outputs: int) -> tuple[Any, dict[str, Any]]:
    inputs: dict[str, np.ndarray] = {}
    known, names = [], []
    for i, value in enumerate(given):
        name = f"x{i}"
        if value is None:
            name = ""
        elif isinstance(value, Known):
            known.append(numpy_helper.from_array(value.array, name))
        else:
            inputs[name] = value
        names.append(name)
    results = [f"y{i}" for i in range(outputs)]
    attributes = {k: numpy_helper.from_array(v) if isinstance(v, np.ndarray) else v for k, v in attributes.items()}
    graph = helper.make_graph(
        [helper.make_node(op, names, results, "node", **attributes)], "one",
        [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
         for n, v in inputs.items()],
        [onnx.ValueInfoProto(name=name) for name in results], known)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), inputs


X = _float(2, 4, 7, 6)
MASK = X > 0
FIXED = Known(_float(4, 1, 1))
CASES: list[tuple[str, list[Any], dict[str, Any]] | tuple[str, list[Any], dict[str, Any], int]] = [
    *((op, [X], {}) for op in ("Abs", "Neg", "Exp", "Erf", "Floor", "Ceil", "Sign", "Sin", "Cos", "Tanh", "Sigmoid",
                               "Relu", "Softplus", "Softsign", "HardSwish", "Identity", "GlobalAveragePool",
                               "GlobalMaxPool", "LeakyRelu", "Elu", "HardSigmoid", "Dropout", "Shape", "Size")),
    ("Round", [_floats(-1.5, -0.5, 0.5, 1.5, 2.5, 2.6)], {}),
    *((op, [_positive(2, 5)], {}) for op in ("Sqrt", "Log", "Reciprocal")),
    ("Mish", [X], {}, 18), ("Gelu", [X], {}, 20), ("Gelu", [X], {"approximate": "tanh"}, 20),
    *((op, [X, FIXED], {}) for op in ("Add", "Sub", "Mul", "Div", "Min", "Max", "Sum", "Mean", "PRelu", "Equal", "Less",
                                      "Greater", "LessOrEqual", "GreaterOrEqual")),
    ("Div", [_ints(7, -7, 8), Known(2, 2, -3)], {}), ("Div", [X, _positive(2, 4, 7, 6)], {}),
    ("Pow", [_positive(3, 4), Known(_floats(2.5))], {}), ("Pow", [X, Known(_floats(2))], {}),
    ("Mod", [_ints(7, -7, 8), Known(3, 3, -3)], {}), ("Mod", [X, Known(_floats(0.7))], {"fmod": 1}),
    *((op, [MASK, X[:1] > 0.5], {}) for op in ("And", "Or", "Xor")), ("Not", [MASK], {}),
    ("Where", [MASK, X, Known(_floats(3))], {}),
    ("MatMul", [_float(2, 3, 5), Known(_float(5, 4))], {}), ("MatMul", [_float(2, 3, 5), _float(2, 5, 4)], {}),
    ("Gemm", [_float(3, 5), Known(_float(4, 5)), Known(_float(4))], {"transB": 1}),
    ("Gemm", [_float(5, 3), Known(_float(5, 4)), Known(_float(3, 1))], {"transA": 1, "alpha": 0.5, "beta": 2.0}),
    ("Gemm", [_float(3, 5), Known(_float(5, 4))], {}),
    ("Einsum", [_float(2, 3, 4), _float(2, 4, 5)], {"equation": "bij,bjk->bik"}),
    ("Softmax", [X], {}), ("Softmax", [X], {"axis": 1}), ("Softmax", [X], {"axis": 2}, 11), ("LogSoftmax", [X], {}),
    ("Clip", [X, Known(np.float32(-0.5)), Known(np.float32(0.5))], {}), ("Clip", [X, None, Known(np.float32(0))], {}),
    ("Clip", [X], {"min": -0.5, "max": 0.25}, 6),
    ("CumSum", [X, Known(np.int64(2))], {}), ("ArgMax", [X], {"axis": 1}), ("ArgMin", [X], {"keepdims": 0}),
    *((op, [X], {"axes": [2, 3]}) for op in ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2",
                                             "ReduceSumSquare", "ReduceLogSumExp", "ReduceProd")),
    ("ReduceMean", [X], {"axes": [-1], "keepdims": 0}), ("ReduceMean", [X, Known(1)], {}, 18), ("ReduceMax", [X], {}),
    ("ReduceSum", [X, Known(1, 3)], {}), ("ReduceSum", [X], {"noop_with_empty_axes": 1}), ("ReduceProd", [X], {}),
    ("BatchNormalization", [X, *(Known(_positive(4)) for _ in range(4))], {"epsilon": 1e-3}),
    ("InstanceNormalization", [X, Known(_positive(4)), Known(_float(4))], {}),
    ("LayerNormalization", [X, Known(_positive(6)), Known(_float(6))], {}),
    ("LayerNormalization", [X, Known(_positive(7, 6))], {"axis": 2}),
    ("GroupNormalization", [X, Known(_positive(2)), Known(_float(2))], {"num_groups": 2}, 18),
    ("GroupNormalization", [X, Known(_positive(4)), Known(_float(4))], {"num_groups": 2}, 21),
    ("LpNormalization", [X], {"axis": 1, "p": 2}), ("LpNormalization", [X], {"axis": -1, "p": 1}),
    ("Cast", [X], {"to": TensorProto.INT64}), ("Cast", [MASK], {"to": TensorProto.FLOAT}),
    ("Cast", [X], {"to": TensorProto.BOOL}), ("Constant", [], {"value": _float(2, 3)}),
    ("Constant", [], {"value_float": 1.5}), ("Constant", [], {"value_ints": [1, 2]}),
    ("ConstantOfShape", [Known(2, 3)], {"value": _floats(1.5)}), ("ConstantOfShape", [Known(2, 3)], {}),
    ("Range", [Known(np.int64(1)), Known(np.int64(9)), Known(np.int64(3))], {}),
    ("Shape", [X], {"start": 1, "end": -1}),
    # moving values about
    ("Reshape", [X, Known(0, -1, 3)], {}), ("Flatten", [X], {}), ("Flatten", [X], {"axis": 0}),
    ("Flatten", [X], {"axis": -1}),
    ("Transpose", [X], {}), ("Transpose", [X], {"perm": [0, 2, 3, 1]}), ("Concat", [X, X[:, :1]], {"axis": 1}),
    ("Squeeze", [X[:1, :, :1]], {}), ("Squeeze", [X[:1, :, :1], Known(-2)], {}),
    ("Squeeze", [X[:1]], {"axes": [0]}, 11),
    ("Unsqueeze", [X, Known(0, -1)], {}), ("Unsqueeze", [X], {"axes": [1]}, 11),
    ("Expand", [X[:, :1], Known(4, 1, 6)], {}),
    ("Tile", [X, Known(1, 2, 1, 3)], {}), ("Split", [X, Known(1, 3)], {"axis": 1}), ("Split", [X], {"axis": 3}),
    ("Split", [X], {"axis": 2, "num_outputs": 2}, 18), ("Split", [X], {"axis": 1, "split": [3, 1]}, 11),
    ("Slice", [X, Known(1, -3), Known(100, -1), Known(1, 3)], {}), ("Slice", [X, Known(0), Known(-100), Known(2)], {}),
    ("Slice", [X, Known(-1), Known(-100), Known(2), Known(-2)], {}),
    ("Slice", [X, Known(4), Known(1), Known(2), Known(-1)], {}),
    ("Slice", [X, Known(0, 0), Known(2, 3)], {}), ("Slice", [X], {"starts": [1], "ends": [3], "axes": [1]}, 9),
    ("Gather", [X, Known(np.array([[0, -1], [1, 2]]))], {"axis": 1}), ("Gather", [X, Known(np.int64(-1))], {"axis": 2}),
    ("Gather", [X, _ints(2, 0)], {"axis": 3}),
    ("GatherElements", [X, Known(RNG.integers(-7, 7, (2, 4, 3, 6)))], {"axis": 2}),
    ("Trilu", [X, Known(np.int64(1))], {}), ("Trilu", [X], {"upper": 0}),
    ("DepthToSpace", [X], {"blocksize": 2}), ("DepthToSpace", [X], {"blocksize": 2, "mode": "CRD"}),
    ("SpaceToDepth", [X[:, :, :6]], {"blocksize": 2}),
    ("Pad", [X, Known(0, 1, 2, 0, 0, 0, 1, 3)], {}),
    ("Pad", [X, Known(0, 0, -1, 0, 0, 0, 1, 3), Known(np.float32(2))], {}),
    ("Pad", [X, Known(0, 0, 2, 1, 0, 0, 1, 3)], {"mode": "reflect"}),
    ("Pad", [X, Known(0, 0, 2, 0, 0, 0, 1, 0)], {"mode": "edge"}),
    ("Pad", [X, Known(0, 0, 0, 1, 0, 0, 0, 2)], {"mode": "reflect"}),
    ("Pad", [X, Known(1, 2), None, Known(3)], {}, 18),
    ("Pad", [X, Known(0, 0, 2, 1, 0, 0, 1, 3)], {"mode": "wrap"}, 19),
    ("Pad", [X], {"pads": [0, 0, 1, 1, 0, 0, 1, 1], "value": 0.5}, 9),
    # pictures
    ("Conv", [X, Known(_float(3, 4, 3, 3)), Known(_float(3))], {"pads": [1, 1, 1, 1]}),
    ("Conv", [X, Known(_float(3, 4, 3, 3))], {"pads": [0, 1, 2, 1], "strides": [2, 1]}),
    ("Conv", [X, Known(_float(4, 2, 3, 3))], {"group": 2, "dilations": [2, 2], "pads": [2, 2, 2, 2]}),
    ("Conv", [X, Known(_float(3, 4, 2, 2))], {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ("Conv", [X, Known(_float(3, 4, 2, 2))], {"auto_pad": "SAME_LOWER"}),
    ("Conv", [X, Known(_float(3, 4, 2, 2))], {"auto_pad": "VALID"}), ("Conv", [X[:, :, 0], Known(_float(3, 4, 3))], {}),
    ("Conv", [X, _float(3, 4, 3, 3)], {}),
    ("ConvTranspose", [X, Known(_float(4, 3, 4, 4)), Known(_float(3))], {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ("ConvTranspose", [X, Known(_float(4, 3, 3, 3))], {"strides": [2, 2], "pads": [1, 0, 0, 1],
                                                           "output_padding": [1, 1]}),
    ("ConvTranspose", [X, Known(_float(4, 2, 3, 3))], {"group": 2, "dilations": [2, 2]}),
    ("MaxPool", [X], {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ("MaxPool", [X], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    ("MaxPool", [X], {"kernel_shape": [3, 3], "pads": [2, 0, 1, 0], "strides": [2, 2]}),
    ("MaxPool", [X], {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
    ("MaxPool", [X], {"kernel_shape": [2, 2], "dilations": [2, 2]}),
    ("MaxPool", [X], {"kernel_shape": [2, 2], "auto_pad": "SAME_UPPER"}),
    ("AveragePool", [X], {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ("AveragePool", [X], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    ("AveragePool", [X], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
    ("AveragePool", [X], {"kernel_shape": [3, 2], "pads": [2, 0, 1, 1]}),
    ("AveragePool", [X], {"kernel_shape": [3, 2], "pads": [2, 0, 1, 1], "count_include_pad": 1}),
    ("AveragePool", [X], {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
    ("Upsample", [X, Known(_floats(1, 1, 2, 3))], {"mode": "nearest"}, 9),
    ("Upsample", [X], {"mode": "linear", "scales": [1.0, 1.0, 2.0, 2.0]}, 7),
    ("Resize", [X, Known(_floats(1, 1, 2, 2))], {}, 10),
    *(("GridSample", [X, (_float(2, 5, 3, 2) * np.float32(0.8))],
       {"mode": mode, "padding_mode": padding, "align_corners": corners}, 16)
      for mode, padding, corners in (("bilinear", "zeros", 0), ("bilinear", "border", 1), ("bilinear", "reflection", 0),
                                     ("nearest", "border", 0), ("bicubic", "zeros", 1), ("bicubic", "border", 0))),
    *(("Resize", [X, None, Known(_floats(1, 1, *scales))],
       {"mode": mode, "coordinate_transformation_mode": where} | ({"nearest_mode": near} if near else {}), 18)
      for mode, near in (("nearest", "round_prefer_floor"), ("nearest", "round_prefer_ceil"), ("nearest", "floor"),
                         ("nearest", "ceil"), ("linear", ""), ("cubic", ""))
      for where in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")
      if (mode, where) != ("cubic", "asymmetric")
      for scales in ((2.0, 2.0), (0.5, 0.5), (1.7, 3.0), (0.6, 1.0))),
    *(("Resize", [X, None, None, Known(2, 4, *size)], {"mode": mode, "coordinate_transformation_mode": where}, 18)
      for mode in ("nearest", "linear", "cubic") for where in ("half_pixel", "align_corners")
      for size in ((14, 12), (5, 9), (3, 3))),
    ("Resize", [X, None, None, Known(3, 3)], {"mode": "linear", "axes": [2, 3]}, 18),
    ("Resize", [X[:, :, 0], None, Known(_floats(1, 1, 2))], {"mode": "linear"}, 18),
]
SEVERAL = {"Split": 2, "TopK": 2}


@pytest.mark.parametrize("case", [*CASES, ("TopK", [X, Known(3)], {"axis": 2})],
                         ids=lambda case: f"{case[0]} {case[2]}"[:70])
def test_an_operator_gives_what_onnxruntime_gives(case: Any) -> None:
    op, given, attributes, opset = (*case, 17)[:4]
    model, inputs = _model(op, given, attributes, opset, SEVERAL.get(op, 1))
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    wanted = session.run(None, inputs)
    answers = Network(model)({name: torch.from_numpy(value) for name, value in inputs.items()})
    assert len(wanted) == len(answers)
    for answer, reference in zip(answers.values(), wanted, strict=True):
        assert tuple(answer.shape) == np.shape(reference)
        np.testing.assert_array_equal(answer.numpy().dtype, reference.dtype)
        np.testing.assert_allclose(answer.numpy(), reference, rtol=2e-5, atol=2e-5)


def test_every_operator_has_a_case() -> None:
    assert OPERATORS.keys() - {case[0] for case in CASES} == {"TopK"}


@pytest.mark.parametrize(("op", "given", "attributes"), [
    ("CumSum", [X, Known(np.int64(2))], {"reverse": 1}), ("ArgMax", [X], {"select_last_index": 1}),
    ("Pad", [X, Known(0, 1, 0, 0, 0, 1, 0, 0)], {"mode": "reflect"}),
    ("Resize", [X, None, Known(_floats(1, 2, 1, 1))], {}),
    ("Resize", [X, None, Known(_floats(1, 1, 2, 2))], {"coordinate_transformation_mode": "tf_crop_and_resize"}),
    ("Resize", [X, None, Known(_floats(1, 1, 2, 2))], {"mode": "cubic", "cubic_coeff_a": -0.5}),
    ("Resize", [X, None, Known(_floats(1, 1, 0.5, 0.5))], {"mode": "linear", "antialias": 1}),
    ("AveragePool", [X], {"kernel_shape": [2, 2], "dilations": [2, 2]}),
    ("ConvTranspose", [X, Known(_float(4, 3, 3, 3))], {"output_shape": [9, 8]}),
    ("Cast", [X], {"to": TensorProto.UINT64}), ("Reshape", [X, _ints(2, -1)], {}),
    ("MatMul", [X, Known(_float(5, 4))], {}),
])
def test_what_pytorch_cannot_do_as_defined_is_refused(op: str, given: list[Any], attributes: dict[str, Any]) -> None:
    model, inputs = _model(op, given, attributes, 17, 1)
    with pytest.raises(EngineError, match=f"node.*{op}"):
        Network(model)({name: torch.from_numpy(value) for name, value in inputs.items()})


def test_an_unknown_operator_is_named() -> None:
    with pytest.raises(EngineError, match=r"does not know the network's operator NonZero$"):
        Network(_model("NonZero", [X], {}, 17, 1)[0])
    model, _ = _model("Abs", [X], {}, 17, 1)
    model.graph.node[0].domain = "com.somebody"
    with pytest.raises(EngineError, match=r"operator com\.somebody\.Abs$"):
        Network(model)
    with pytest.raises(EngineError, match="no node other, which is to stay in fp32"):
        Network(_model("Abs", [X], {}, 17, 1)[0], keep=["other"])


def _chain() -> Any:
    """y = relu(conv(x)) + 256 − 256, resized to twice the size that `Shape` says, and a half made of shapes alone."""
    nodes = [("Conv", ["x", "w"], "a"), ("Relu", ["a"], "b"), ("Add", ["b", "much"], "c"), ("Sub", ["c", "much"], "d"),
             ("Shape", ["d"], "s"), ("Mul", ["s", "twice"], "t"), ("Resize", ["d", "", "", "t"], "y"),
             ("ConstantOfShape", ["s"], "half")]
    known = {"w": np.linspace(-1, 1, 9, dtype=np.float32).reshape(3, 3, 1, 1), "much": _floats(256),
             "twice": _ints(1, 1, 2, 2)}
    graph = helper.make_graph(
        [helper.make_node(op, given, [out], f"n{i}", **({"value": numpy_helper.from_array(_floats(0.5))}
                                                        if op == "ConstantOfShape" else {}))
         for i, (op, given, out) in enumerate(nodes)], "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [onnx.ValueInfoProto(name=name) for name in ("y", "half")],
        [numpy_helper.from_array(value, name) for name, value in known.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_shapes_are_settled_before_it_runs_for_every_batch() -> None:
    model = _chain()
    network = Network(model)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for batch in (1, 3, 1):
        x = _positive(batch, 3, 8, 8)
        y, half = network({"x": torch.from_numpy(x)}).values()
        wanted = session.run(None, {"x": x})
        np.testing.assert_allclose(y.numpy(), wanted[0], atol=1e-4)
        np.testing.assert_array_equal(half.numpy(), wanted[1])
    program = network.prepare((("x", (3, 3, 8, 8)),))
    assert [step.node.op for step in program] == ["Conv", "Relu", "Add", "Sub", "Resize", "Identity"]
    assert network.prepare((("x", (3, 3, 8, 8)),)) is program
    assert sum(p.numel() for name, p in network.named_parameters() if p.shape == (3, 3, 1, 1)) == 9


def test_named_nodes_stay_in_fp32() -> None:
    x = torch.from_numpy(_positive(1, 3, 8, 8))
    exact = Network(_chain())({"x": x})["y"]
    rough = Network(_chain(), torch.bfloat16)({"x": x})["y"]
    kept = Network(_chain(), torch.bfloat16, ["n2", "n3"])({"x": x})["y"]
    assert rough.dtype == kept.dtype == torch.bfloat16
    assert (rough - exact).abs().max() > 0.2  # 256 leaves bf16 no digit behind the point
    assert 1e-5 < (kept - exact).abs().max() < 0.05


def test_coordinates_stay_in_fp32() -> None:
    """A picture shifted by what a convolution says: in bf16 the grid would be wrong by up to half a pixel of 128."""
    nodes = [("Conv", ["flow", "w"], "a"), ("Transpose", ["a"], "b"), ("Add", ["b", "base"], "grid"),
             ("Mul", ["x", "gain"], "bright"), ("GridSample", ["bright", "grid"], "y")]
    steps = np.linspace(-1, 1, 128, dtype=np.float32)
    base = np.stack(np.meshgrid(steps, steps), -1)[None]
    known = {"w": np.full((2, 1, 1, 1), 1 / 256, np.float32), "base": base, "gain": _floats(1)}
    graph = helper.make_graph(
        [helper.make_node(op, given, [out], f"n{i}", **{"Transpose": {"perm": [0, 2, 3, 1]},
                                                        "GridSample": {"align_corners": 1}}.get(op, {}))
         for i, (op, given, out) in enumerate(nodes)], "shift",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, 128, 128]) for name in ("x", "flow")],
        [onnx.ValueInfoProto(name="y")], [numpy_helper.from_array(value, name) for name, value in known.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    given = {"x": torch.from_numpy(RNG.random((1, 1, 128, 128), np.float32)), "flow": torch.ones(1, 1, 128, 128)}
    exact, rough = (Network(model, dtype)(given)["y"] for dtype in (torch.float32, torch.bfloat16))
    assert rough.dtype == torch.float32  # of the sampling; the pictures that go in are rounded
    assert (rough - exact).abs().max() < 0.01


def test_it_compiles_whole_and_in_another_memory_format() -> None:
    x = torch.from_numpy(_positive(2, 3, 8, 8))
    network = Network(_chain())
    wanted = network({"x": x})["y"]
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled({"x": x})["y"], wanted)
    torch.testing.assert_close(network.to(memory_format=torch.channels_last)({"x": x})["y"], wanted)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", ["rtface-s", "rtface-m", "rtface-s-vivid"])
def test_ours_give_what_onnxruntime_gives(name: str, batch: int) -> None:
    recipe = load_recipe(find_recipes()[name])
    x, y, w, h = recipe.region
    firsts, seconds = load_golden(recipe)[0][:batch], load_golden(recipe, "next_")[0][:batch]
    parts, before = ([crop[:, y:y + h, x:x + w] for crop in crops] for crops in (seconds, firsts))
    inputs = {port: np.ones((batch, *shape), np.float32) for port, shape in recipe.inputs.items()}
    memory = recipe.memory
    assert memory is not None
    inputs[recipe.input.name] = np.stack(parts)
    if recipe.shrink > 1:
        inputs[memory.shrunk] = np.stack([shrunk(c, recipe.region, recipe.shrink) for c in seconds])
        before = [shrunk(c, recipe.region, recipe.shrink) for c in firsts]
    inputs[memory.past] = np.stack(before)
    inputs[memory.state] = _float(batch, *recipe.inputs[memory.state]) * np.float32(0.1)
    session = ort.InferenceSession(str(recipe.model_path), providers=["CPUExecutionProvider"])
    outputs = list(recipe.outputs)
    with torch.inference_mode():
        answers = Network(onnx.load(recipe.model_path))({k: torch.from_numpy(v) for k, v in inputs.items()})
    for output, reference in zip(outputs, session.run(outputs, inputs), strict=True):
        np.testing.assert_allclose(answers[output].numpy(), reference, atol=1e-4, err_msg=output)
