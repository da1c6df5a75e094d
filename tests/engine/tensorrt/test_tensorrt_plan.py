"""The plan on the GPU, with the library's objects and the GPU replaced; and the gate around it."""

import logging
import sys
import types
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest

from rtface.engine import learned, tensorrt
from rtface.engine.golden import gate
from rtface.engine.plan import PlanIdentity
from rtface.engine.recipe import Recipe, load_recipe
from rtface.engine.tensorrt import store
from rtface.engine.tensorrt.execution import Execution
from rtface.engine.tensorrt.library import Library, logger
from rtface.engine.tensorrt.plan import TensorRtPlan
from rtface.errors import DeviceLost, EngineError, MissingComponent, OutOfDeviceMemory
from tests.device.cuda.fake_gpu import FakeGpu
from tests.engine.conftest import Maker
from tests.engine.tensorrt.fake_tensorrt import FakeContext, FakeEngine, FakeExecution
from tests.persons.made import ANNA, learnt

Given = Mapping[str, np.ndarray]
FP16 = "fp16 = 35.0\nbf16 = 35.0"


def right(given: Given) -> Given:
    return {"output": 0.5 * given["input"] + 0.25}


def grey(given: Given) -> Given:
    return {"output": np.full_like(given["input"], 0.5)}


def nothing(given: Given) -> Given:
    return {"output": given["input"]}


def gpu_here(**more: Any) -> FakeGpu:
    """A GeForce, as it calls itself."""
    return FakeGpu(name="NVIDIA GeForce RTX 4090", capability=(8, 9), **{"driver": "580.1", **more})


@pytest.fixture
def recipe(make_engine: Maker) -> Recipe:
    folder = make_engine(edit=lambda text: text.replace("bf16 = 35.0", FP16))
    return load_recipe(folder / "recipe.toml")


def make(recipe: Recipe, answer: Callable[[Given], Given] = right) -> tuple[TensorRtPlan, FakeExecution, FakeGpu]:
    gpu, execution = gpu_here(), FakeExecution(recipe, answer)
    identity = PlanIdentity.of(recipe, "tensorrt-rtx", "1.7", gpu.name, "fp16")
    return TensorRtPlan(recipe, identity, execution, gpu), execution, gpu


def test_each_batch_size_has_a_context_that_never_changes(recipe: Recipe) -> None:
    plan, execution, gpu = make(recipe)
    assert plan.ports == {"input": (np.float32, (3, 64, 64)), "output": (np.float32, (3, 64, 64))}
    assert plan.max_batch == 4
    buffers = {name: gpu.pin(plan.nbytes(name, plan.max_batch)) for name in plan.ports}
    crops = np.random.default_rng(0).random((4, 3, 64, 64), np.float32)
    buffers["input"].bytes().view(np.float32)[:] = crops.ravel()
    plan.bind(buffers)
    stream = gpu.stream()

    def run(batch: int) -> None:
        stream.call(lambda handle: plan.enqueue(handle, batch), reads=[buffers["input"]], writes=[buffers["output"]])

    graphs = []
    for batch in (4, 2):
        run(batch)
        graphs.append(stream.capture(lambda batch=batch: run(batch)))
    for graph in reversed(graphs):  # that of 4 last, after its context could have been set to 2
        stream.replay(graph)
    done = gpu.event()
    stream.record(done)
    done.synchronize()
    answers = buffers["output"].bytes().view(np.float32).reshape(crops.shape)
    np.testing.assert_allclose(answers, 0.5 * crops + 0.25, rtol=1e-6)
    assert plan.scratch is not None and plan.scratch.nbytes == 4096  # that of the largest batch
    assert sorted(context.shapes["input"][0] for context in execution.contexts) == [1, 2, 3, 4]
    for memory in buffers.values():
        memory.close()
    plan.close()
    plan.close()
    assert execution.closed == 1 and not gpu.live


def bound(plan: TensorRtPlan, gpu: FakeGpu, sizes: tuple[int, ...] | None = None) -> dict[str, Any]:
    """What the plan was bound to."""
    buffers = {name: gpu.allocate(plan.nbytes(name, 4)) for name in plan.ports}
    plan.bind(buffers, sizes)
    return buffers


def test_what_cannot_be_is_named(recipe: Recipe) -> None:
    plan, execution, gpu = make(recipe)
    stream = gpu.stream()
    bound(plan, gpu)
    for step, words in (
        ("shape", "batches of 1 are not possible: out of luck"),
        ("execute", "TensorRT failed: out of luck"),
        ("address", "cannot be bound: out of luck"),
    ):
        execution.fails = {step}
        with pytest.raises(EngineError, match=words):
            bound(plan, gpu)
            plan.enqueue(stream.handle, 1)
    execution.fails, execution.least_scratch = set(), 9000
    with pytest.raises(EngineError, match="does not accept 1024 bytes of scratch memory: out of luck"):
        bound(plan, gpu, (1,))
    execution.least_scratch = 0
    bound(plan, gpu)
    before = gpu.allocations
    stream.call(lambda handle: plan.enqueue(handle, 1))
    assert gpu.allocations == before
    plan.close()


def test_scratch_memory_is_that_of_the_batch_that_fits(recipe: Recipe) -> None:
    plan, execution, gpu = make(recipe)
    gpu.memory = 4 * 2 * 4 * 3 * 64 * 64 + 3000  # for the tensors of four crops, and the scratch memory of two
    with pytest.raises(OutOfDeviceMemory):
        bound(plan, gpu)
    for memory in list(gpu.live):
        memory.close()
    buffers = bound(plan, gpu, (1, 2))
    assert plan.scratch is not None and plan.scratch.nbytes == 2048
    for memory in buffers.values():
        memory.close()
    plan.close()
    assert execution.closed == 1 and not gpu.live


def test_a_lost_gpu_says_nothing_about_the_plan(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, _, _ = make(recipe)
    monkeypatch.setattr(FakeContext, "execute_async_v3", MagicMock(side_effect=DeviceLost("gone")))
    with pytest.raises(DeviceLost):
        gate(recipe, plan)


# The whole way, with the library's part of it replaced: a plan is the name of its precision.

RTX = Library("rtx", "1.7.1.116", types.SimpleNamespace(), frozenset({(8, 9)}))


class Stage:
    """`answers`: what plans of each precision give; `built` and `loaded`: what was asked for, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **answers: Callable[[Given], Given] | Exception) -> None:
        self.built: list[str] = []
        self.executions: list[FakeExecution] = []
        self.kernels: list[Path | None] = []
        self.recipe: Recipe | None = None

        def build(recipe: Recipe, precision: str, library: Library, capability: Any) -> bytes:
            self.built.append(precision)
            self.recipe = recipe
            if isinstance(answer := answers[precision], Exception):
                raise answer
            return precision.encode()

        def load(library: Library, blob: bytes, kernels: Path | None = None) -> FakeExecution:
            self.kernels.append(kernels)
            assert self.recipe is not None
            answer = answers[blob.decode()]
            assert not isinstance(answer, Exception)
            self.executions.append(FakeExecution(self.recipe, answer))
            return self.executions[-1]

        monkeypatch.setattr(tensorrt, "installed", lambda: (RTX,))
        monkeypatch.setattr(tensorrt, "build", build)
        monkeypatch.setattr(tensorrt, "Execution", load)


def test_an_inexact_plan_is_refused_for_the_next_precision(recipe, monkeypatch, caplog):
    """One grey, finite picture in fp16; its own input in bf16; right in fp32."""
    stage = Stage(monkeypatch, fp16=grey, bf16=nothing, f32=right)
    gpu = gpu_here()
    with caplog.at_level(logging.WARNING, "rtface"):
        plan, verdict = tensorrt.open_tensorrt(recipe, gpu)
    assert stage.built == ["fp16", "bf16", "f32"]
    assert plan.identity.precision == "f32" and verdict.psnr > 100
    refused = [r.getMessage() for r in caplog.records if "rejected" in r.getMessage()]
    assert [line.split(":")[1].split()[0] for line in refused] == ["fp16", "bf16"]
    assert [(e.closed, e.kept) for e in stage.executions] == [(1, 0), (1, 0), (0, 1)]
    plan.close()
    assert not gpu.live

    # What the gate found is remembered, and nothing is built again.
    plan, again = tensorrt.open_tensorrt(recipe, gpu)
    assert stage.built == ["fp16", "bf16", "f32"] and again == verdict
    plan.close()


@pytest.mark.parametrize(
    ("answers", "built", "error", "said"),
    [
        ({"fp16": EngineError("no kernel"), "bf16": right}, 2, None, "no kernel; running without fp16"),
        (dict.fromkeys(("fp16", "bf16", "f32"), EngineError("no kernel")), 3, EngineError, "no kernel"),
        ({"fp16": grey, "bf16": grey, "f32": nothing}, 3, EngineError, "not match .*fp16 .* dB.*bf16 .* dB.*f32 .* dB"),
        ({"fp16": OutOfDeviceMemory("full")}, 1, OutOfDeviceMemory, "full"),
    ],
    ids=["next", "none", "wrong", "full"],
)
def test_what_cannot_be_used_leaves_the_next_precision(recipe, monkeypatch, caplog, answers, built, error, said):
    stage, gpu = Stage(monkeypatch, **answers), gpu_here()
    with pytest.raises(error, match=said) if error else nullcontext():
        tensorrt.open_tensorrt(recipe, gpu)[0].close()
    assert stage.built == ["fp16", "bf16", "f32"][:built]
    assert error or said in caplog.text
    assert not gpu.live


def test_a_kept_plan_is_used_while_nothing_changes(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, fp16=right)
    for driver, batch, builds in (("580.1", 4, 1), ("580.1", 4, 1), ("590.2", 4, 2), ("590.2", 2, 3)):
        other = replace(recipe, batch=replace(recipe.batch, max=batch))
        tensorrt.open_tensorrt(other, gpu_here(driver=driver))[0].close()
        assert len(stage.built) == builds
    monkeypatch.setattr(sys.modules["rtface.engine.tensorrt.builder"], "REVISION", 0)
    tensorrt.open_tensorrt(recipe, gpu_here())[0].close()
    assert stage.built == ["fp16"] * 4


def test_of_a_persons_weights_no_plan_is_kept(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, fp16=right)
    own = replace(recipe, name=f"{recipe.name}@anna", learned=learned.read(learnt(tmp_path / "anna.person", ANNA)))
    choice = tensorrt.choose((8, 9), tensorrt.installed(), gpu_here().name)
    tensorrt.open_as(own, gpu_here(), choice, "fp16").close()
    assert stage.built == ["fp16"] and not list((tmp_path / "cache").rglob("*"))
    tensorrt.open_as(recipe, gpu_here(), choice, "fp16").close()
    assert stage.kernels[0] is None and stage.kernels[1] is not None


def test_a_kept_plan_that_the_library_refuses_is_built_anew(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, fp16=right)
    tensorrt.open_tensorrt(recipe, gpu_here())[0].close()
    load = tensorrt.Execution
    picky = MagicMock(side_effect=[EngineError("made by another"), load(RTX, b"fp16")])
    monkeypatch.setattr(tensorrt, "Execution", picky)
    tensorrt.open_tensorrt(recipe, gpu_here())[0].close()
    assert stage.built == ["fp16", "fp16"] and picky.call_count == 2


def test_a_gpu_that_the_library_refuses_costs_no_build(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, fp16=right)
    monkeypatch.setattr(tensorrt, "installed", lambda: (replace(RTX, targets=frozenset({(8, 0), (12, 0)})),))
    with pytest.raises(MissingComponent, match="does not run on NVIDIA H200"):
        tensorrt.open_tensorrt(recipe, FakeGpu(name="NVIDIA H200", capability=(9, 0)))
    assert not stage.built


def library(kind: Any) -> tuple[Library, Any]:
    """A library of mocks, and its engine."""
    module = MagicMock()
    module.ILogger = type("ILogger", (), {})
    engine = module.Runtime.return_value.deserialize_cuda_engine.return_value
    engine.create_execution_context.side_effect = lambda settings: MagicMock()
    return Library(kind, "1.7.1.116", module), engine


def complain(lib: Library, words: str) -> None:
    logger(lib).log(types.SimpleNamespace(name="ERROR"), words)


def test_contexts_and_the_kernel_cache_of_tensorrt_rtx(tmp_path: Path) -> None:
    (rtx, engine), kernels = library("rtx"), tmp_path / "plans" / "a.kernels"
    settings = engine.create_runtime_config.return_value
    cache = settings.create_runtime_cache.return_value
    cache.serialize.return_value = b"kernels of today"
    execution = Execution(rtx, b"plan", kernels)
    settings.set_runtime_cache.assert_called_once_with(cache)
    engine.create_execution_context.assert_called_once_with(settings)
    first, second = execution.new_context(), execution.new_context()
    assert first is not second
    first.set_device_memory.side_effect = lambda address, nbytes: complain(rtx, "too small")
    assert not execution.give_scratch(first, 256, 7) and execution.fault() == "too small"
    assert execution.give_scratch(second, 256, 9)
    execution.keep_kernels()
    assert store.recall(kernels) == b"kernels of today"
    kernels.unlink()
    execution.keep_kernels()  # nothing new
    assert not kernels.exists()
    execution.close()
    execution.close()
    execution.keep_kernels()
    cache.deserialize.assert_not_called()
    for content in (b"kernels of yesterday", None):
        store.keep(kernels, content) if content else kernels.write_bytes(b"damaged")
        Execution(rtx, b"plan", kernels)
        cache.deserialize.assert_called_once_with(b"kernels of yesterday")
    Execution(library("full")[0], b"plan", tmp_path / "b.kernels").keep_kernels()
    assert not (tmp_path / "b.kernels").exists()


def test_a_plan_that_cannot_be_loaded_says_why() -> None:
    rtx, engine = library("rtx")
    engine.create_execution_context.side_effect = lambda settings: None
    with pytest.raises(EngineError, match="no reason given"):
        Execution(rtx, b"plan")
    rtx.module.Runtime.return_value.deserialize_cuda_engine = lambda blob: complain(rtx, "made by\nanother version")
    with pytest.raises(EngineError, match="made by another version"):
        Execution(rtx, b"plan")


def test_the_real_library_has_what_is_asked_of_the_fakes() -> None:
    trt = pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT for RTX is not installed")
    for real, names in (
        (trt.IExecutionContext, vars(FakeContext)),
        (trt.ICudaEngine, (*vars(FakeEngine), "create_runtime_config", "create_execution_context")),
        (trt.IRuntimeCache, ("serialize", "deserialize")),
        (trt.IRuntimeConfig, ("set_execution_context_allocation_strategy", "create_runtime_cache")),
        (trt.IRuntimeConfig, ("dynamic_shapes_kernel_specialization_strategy", "cuda_graph_strategy")),
        (trt.ExecutionContextAllocationStrategy, ("USER_MANAGED",)),
        (trt.DynamicShapesKernelSpecializationStrategy, ("EAGER",)),
        (trt.CudaGraphStrategy, ("DISABLED",)),
    ):
        assert {name for name in names if not name.startswith("_")} <= set(dir(real)), real
