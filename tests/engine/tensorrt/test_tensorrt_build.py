"""Which TensorRT, and real builds with TensorRT for RTX, which needs no GPU for them.

RTFACE_REQUIRE_TENSORRT=1 makes its absence a failure; RTFACE_TENSORRT_SMS="75,86,120" builds for those too.
"""

import importlib
import logging
import os
import sys
import types
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest

from rtface.engine.recipe import SHIPPED, load_recipe
from rtface.engine.tensorrt.builder import build
from rtface.engine.tensorrt.execution import Execution
from rtface.engine.tensorrt.library import Library, choose, fault, installed, logger, precisions
from rtface.errors import EngineError, MissingComponent
from tests.engine.conftest import Maker

FULL = Library("full", "11.4.0.106", None)
FOR_RTX = Library("rtx", "1.7.1.116", None, frozenset({(7, 5), (8, 0), (8, 6), (8, 9), (12, 0), (12, 1)}))


@pytest.fixture
def rtx() -> Library:
    """TensorRT for RTX, and the onnx package beside it."""
    found = next((library for library in installed() if library.kind == "rtx"), None)
    if found is None or not importlib.util.find_spec("onnx"):
        reason = "TensorRT for RTX (tensorrt_rtx_bindings) or onnx is not installed: they come with the extra rtx"
        if os.environ.get("RTFACE_REQUIRE_TENSORRT") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


ADA = (8, 9)
GEFORCE, H200, L40S = "NVIDIA GeForce RTX 4090", "NVIDIA H200", "NVIDIA L40S"


@pytest.mark.parametrize(
    ("gpu", "capability", "libraries", "kind"),
    [
        (GEFORCE, ADA, (FOR_RTX, FULL), "rtx"),
        (GEFORCE, ADA, (FULL,), "full"),
        (H200, (9, 0), (FOR_RTX, FULL), "full"),
        (L40S, ADA, (FOR_RTX, FULL), "full"),
        (L40S, ADA, (FOR_RTX,), "rtx"),
        (GEFORCE, ADA, (), r"needs TensorRT; get it with: .*pip install .*\[rtx\]'"),
        (H200, (9, 0), (), r"NVIDIA H200 \(sm_90\) needs TensorRT; .*\[tensorrt\]'"),
        (H200, (9, 0), (FOR_RTX,), r"RTX 1.7.1 does not run on .* it supports .* sm_121; get the full .*\[tensorrt\]'"),
    ],
)
def test_the_library_goes_by_gpu_and_by_what_is_there(gpu: str, capability: Any, libraries: Any, kind: str) -> None:
    with nullcontext() if kind in ("rtx", "full") else pytest.raises(MissingComponent, match=kind):
        assert choose(capability, libraries, gpu).kind == kind


def test_precisions_of_a_gpu() -> None:
    assert precisions((8, 9)) == ("fp16", "bf16", "f32")
    assert precisions((7, 5)) == ("fp16", "f32")
    assert precisions((8, 6), "bf16") == ("bf16", "f32")


@pytest.mark.parametrize("error", [ImportError("cannot open shared object file"), RuntimeError("to be fetched")])
def test_a_library_that_cannot_be_used(error: Exception, monkeypatch: Any, caplog: Any) -> None:
    def broken(name: str) -> types.ModuleType:
        raise error if name == "tensorrt" else ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(importlib, "import_module", broken)
    installed.cache_clear()
    try:
        assert installed() == ()
    finally:
        installed.cache_clear()
    assert [r.getMessage() for r in caplog.records] == [f"tensorrt is installed but cannot be used: {error}"]


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        ("rtface-s", "fp16"),
        *(pytest.param(name, "fp16", marks=pytest.mark.slow) for name in ("rtface-m", "rtface-m-vivid")),
        *(pytest.param("rtface-s", kind, marks=pytest.mark.slow) for kind in ("bf16", "f32")),
    ],
)
def test_every_shipped_engine_is_built_for_sm_89(rtx: Library, name: str, precision: Any, capfd: Any) -> None:
    assert rtx.targets is not None and {(8, 6), ADA, (12, 0)} <= rtx.targets and (9, 0) not in rtx.targets
    assert len(build(load_recipe(SHIPPED / name / "recipe.toml"), precision, rtx, ADA)) > 1e6
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda t: t.replace('name = "output"', 'name = "outptu"'), "the network's output outptu is missing"),
        (lambda t: t.replace("size = 64", "size = 80"), r".* input is \(-1, 3, 64, 64\), not \(3, 80, 80\)"),
        (lambda t: t + "[memory]\nheads = true\n", "the network's input past is missing"),
    ],
)
def test_a_recipe_that_says_something_else_than_the_network(rtx, make_engine, edit, words):
    recipe = load_recipe(make_engine(edit=edit) / "recipe.toml")
    with pytest.raises(EngineError, match=f"engine tiny: {words}"):
        build(recipe, "fp16", rtx, ADA)


def test_a_network_with_a_control_or_more_outputs_is_built(rtx, make_engine, make_faithful):
    onnx = pytest.importorskip("onnx")
    assert len(build(load_recipe(make_faithful() / "recipe.toml"), "fp16", rtx, ADA)) > 1000
    folder = make_engine()
    model = onnx.load(folder / "model.onnx")
    model.graph.node.append(onnx.helper.make_node("Relu", ["output"], ["more"]))
    model.graph.output.append(onnx.helper.make_tensor_value_info("more", 1, ["n", 3, 64, 64]))
    onnx.save(model, folder / "model.onnx")
    assert build(load_recipe(folder / "recipe.toml"), "fp16", rtx, ADA)


def test_a_batch_that_the_network_fixes(rtx: Library, make_engine: Maker) -> None:
    onnx = pytest.importorskip("onnx")
    folder = make_engine()
    model = onnx.load(folder / "model.onnx")
    for port in (*model.graph.input, *model.graph.output):
        port.type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, folder / "model.onnx")
    recipe = load_recipe(folder / "recipe.toml")
    with pytest.raises(EngineError, match=r"input input is \(1, 3, 64, 64\), not \(3, 64, 64\) for 1 to 4 crops"):
        build(recipe, "fp16", rtx, ADA)
    assert build(replace(recipe, batch=replace(recipe.batch, max=1)), "fp16", rtx, ADA)


def test_an_operation_that_the_library_does_not_have(rtx: Library, make_engine: Maker, capfd: Any) -> None:
    onnx = pytest.importorskip("onnx")
    folder = make_engine()
    model = onnx.load(folder / "model.onnx")
    model.graph.node[0].output[0] = "before"
    model.graph.node.append(onnx.helper.make_node("MelWeightMatrix", ["a", "b", "c", "d", "e"], ["mel"], "odd"))
    model.graph.node.append(onnx.helper.make_node("ReduceSum", ["mel"], ["sum"], keepdims=0))
    model.graph.node.append(onnx.helper.make_node("Add", ["before", "sum"], ["output"]))
    for name, value in {"a": 8, "b": 8, "c": 8192, "d": 0.0, "e": 4000.0}.items():
        kind = onnx.TensorProto.INT64 if isinstance(value, int) else onnx.TensorProto.FLOAT
        model.graph.initializer.append(onnx.helper.make_tensor(name, kind, [], [value]))
    onnx.save(model, folder / "model.onnx")
    with pytest.raises(EngineError, match="build the network in fp16 for sm_89: MelWeightMatrix odd: ") as caught:
        build(load_recipe(folder / "recipe.toml"), "fp16", rtx, ADA)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_plan_that_no_gpu_can_load_is_an_error_of_one_line(rtx: Library, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(EngineError, match=r"TensorRT for RTX .* cannot load its plan on this GPU: .*") as caught:
        Execution(rtx, b"no plan")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_the_librarys_log_is_ours(rtx, caplog, capfd):
    bridge, severity = logger(rtx), rtx.module.ILogger.Severity
    fault(rtx)
    with caplog.at_level(logging.DEBUG, "rtface.tensorrt"):
        for kind in ("VERBOSE", "INFO", "WARNING", "ERROR", "INTERNAL_ERROR"):
            bridge.log(getattr(severity, kind), f"said as {kind}\n")
    levels = [(r.levelname, r.getMessage().split()[-1]) for r in caplog.records]
    assert levels == [("DEBUG", "INFO"), ("DEBUG", "WARNING"), ("INFO", "ERROR"), ("INFO", "INTERNAL_ERROR")]
    assert fault(rtx) == "said as ERROR"  # the first is the cause
    assert fault(rtx) == "no reason given"
    caplog.clear()
    with caplog.at_level(logging.DEBUG, "rtface.tensorrt"):
        rtx.module.Builder(bridge).create_network(0)
        rtx.module.Runtime(bridge).deserialize_cuda_engine(b"no plan")
    assert any(r.levelname == "INFO" for r in caplog.records)
    assert capfd.readouterr() == ("", "")


def test_without_the_onnx_package_the_line_that_repairs_it(rtx: Library, make_engine: Maker, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingComponent, match=r"pip install .*\[rtx\]'"):
        build(load_recipe(make_engine() / "recipe.toml"), "fp16", rtx, ADA)
