"""The plan on the GPU, with the library's objects and the GPU replaced; and the gate around it."""

from __future__ import annotations

import logging
import sys
import types
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rtface.engine import learned, tensorrt
from rtface.engine.golden import gate
from rtface.engine.plan import PlanIdentity
from rtface.engine.recipe import Recipe, load_recipe
from rtface.engine.recipe_tables import Batch
from rtface.engine.tensorrt import store
from rtface.engine.tensorrt.execution import Execution
from rtface.engine.tensorrt.library import Library
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
    np.testing.assert_allclose(
        buffers["output"].bytes().view(np.float32).reshape(crops.shape), 0.5 * crops + 0.25, rtol=1e-6
    )
    assert plan.scratch is not None and plan.scratch.nbytes == 4096  # that of the largest batch
    calls = {context.shapes["input"][0]: [call[0] for call in context.calls] for context in execution.contexts}
    assert sorted(calls) == [1, 2, 3, 4]
    assert calls[2] == calls[4] == ["address", "address", "shape", "memory", "execute", "execute"]
    assert {call for context in execution.contexts for call in context.calls if call[0] == "memory"} == {
        ("memory", plan.scratch.address, 4096)
    }
    for memory in buffers.values():
        memory.close()
    plan.close()
    plan.close()
    assert execution.closed == 1
    assert not gpu.live


def test_a_run_enqueues_without_allocating(recipe: Recipe) -> None:
    plan, _, gpu = make(recipe)
    plan.bind({name: gpu.allocate(plan.nbytes(name, 4)) for name in plan.ports})
    before = gpu.allocations
    gpu.stream().call(lambda handle: plan.enqueue(handle, 3))
    assert gpu.allocations == before


def test_what_cannot_be_is_named(recipe: Recipe) -> None:
    plan, execution, gpu = make(recipe)
    stream = gpu.stream()
    handle = stream.handle
    plan.bind({name: gpu.allocate(plan.nbytes(name, 4)) for name in plan.ports})
    for step, words in (
        ("shape", "no batch of 1: out of luck"),
        ("execute", "TensorRT failed: out of luck"),
        ("address", "cannot be bound: out of luck"),
    ):
        execution.fails = {step}
        with pytest.raises(EngineError, match=words):
            plan.bind({name: gpu.allocate(plan.nbytes(name, 4)) for name in plan.ports})
            plan.enqueue(handle, 1)
    execution.fails = set()
    plan.bind({name: gpu.allocate(plan.nbytes(name, 4)) for name in plan.ports})
    stream.call(lambda handle: plan.enqueue(handle, 1))
    plan.close()


def test_scratch_memory_is_that_of_the_batch_that_fits(recipe: Recipe) -> None:
    room = 4 * 2 * 4 * 3 * 64 * 64  # for the tensors of four crops
    gpu, execution = gpu_here(memory=room + 3000), FakeExecution(recipe, right)
    plan = TensorRtPlan(recipe, PlanIdentity.of(recipe, "", "", "", "fp16"), execution, gpu)
    buffers = {name: gpu.allocate(plan.nbytes(name, 4)) for name in plan.ports}
    with pytest.raises(OutOfDeviceMemory):
        plan.bind(buffers)
    plan.bind(buffers, (1, 2))
    assert plan.scratch is not None and plan.scratch.nbytes == 2048
    for memory in buffers.values():
        memory.close()
    plan.close()
    assert execution.closed == 1
    assert not gpu.live


def test_scratch_memory_that_is_refused(recipe: Recipe) -> None:
    plan, execution, gpu = make(recipe)
    buffers = {name: gpu.allocate(plan.nbytes(name, 4)) for name in plan.ports}
    execution.least_scratch = 9000
    with pytest.raises(EngineError, match="does not take 1024 bytes of scratch memory: out of luck"):
        plan.bind(buffers, (1,))
    for memory in buffers.values():
        memory.close()
    plan.close()
    assert not gpu.live


def test_it_is_a_plan_like_any_other(recipe: Recipe) -> None:
    plan, _, gpu = make(recipe)
    verdict = gate(recipe, plan)
    assert verdict.passed
    assert verdict.psnr > 100
    # Bound to the GPU afterwards, it holds none of the memory that this took.
    plan.bind({name: gpu.allocate(plan.nbytes(name, 4)) for name in plan.ports})
    assert len(gpu.live) == 3
    plan.close()


def test_a_lost_gpu_says_nothing_about_the_plan(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, _, _ = make(recipe)

    def lost(*_: object) -> None:
        raise DeviceLost("gone")

    monkeypatch.setattr(FakeContext, "execute_async_v3", lost)
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


def test_an_inexact_plan_is_refused_for_the_next_precision(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One grey, finite picture in fp16; its own input in bf16; right in fp32."""
    stage = Stage(monkeypatch, fp16=grey, bf16=nothing, f32=right)
    gpu = gpu_here()
    with caplog.at_level(logging.WARNING, "rtface"):
        plan, verdict = tensorrt.open_tensorrt(recipe, gpu)
    assert stage.built == ["fp16", "bf16", "f32"]
    assert plan.identity.precision == "f32"
    assert verdict.psnr > 100
    refused = [r.getMessage() for r in caplog.records if "refused" in r.getMessage()]
    assert [line.split(":")[1].split()[0] for line in refused] == ["fp16", "bf16"]
    assert all("dB, 35.0 needed against its golden crops" in line for line in refused)
    assert all("refused on NVIDIA GeForce RTX 4090 sm_89" in line for line in refused)
    assert [e.closed for e in stage.executions] == [1, 1, 0]
    plan.close()
    assert not gpu.live

    # What the gate found is remembered, and nothing is built again.
    plan, again = tensorrt.open_tensorrt(recipe, gpu)
    assert stage.built == ["fp16", "bf16", "f32"]
    assert again == verdict
    plan.close()


@pytest.mark.parametrize(
    ("answers", "built", "error", "said"),
    [
        ({"fp16": EngineError("no kernel"), "bf16": right}, 2, None, "no kernel; running without fp16"),
        (
            {"fp16": EngineError("first"), "bf16": EngineError("two"), "f32": EngineError("three")},
            3,
            EngineError,
            "first",
        ),
        (
            {"fp16": grey, "bf16": grey, "f32": nothing},
            3,
            EngineError,
            r"does not match its reference's answers.*fp16 .* dB.*bf16 .* dB.*f32 .* dB",
        ),
        ({"fp16": OutOfDeviceMemory("full")}, 1, OutOfDeviceMemory, "full"),
    ],
    ids=["next", "none", "wrong", "full"],
)
def test_what_cannot_be_used_leaves_the_next_precision(
    recipe: Recipe,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    answers: Any,
    built: int,
    error: type[Exception] | None,
    said: str,
) -> None:
    stage, gpu = Stage(monkeypatch, **answers), gpu_here()
    with pytest.raises(error, match=said) if error else nullcontext():
        tensorrt.open_tensorrt(recipe, gpu)[0].close()
    assert stage.built == ["fp16", "bf16", "f32"][:built]
    assert error or said in caplog.text
    assert not gpu.live


def test_what_the_preparation_changes_is_built_again(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, fp16=right)
    tensorrt.open_tensorrt(recipe, gpu_here())[0].close()
    tensorrt.open_tensorrt(replace(recipe, batch=Batch(1, 1, 2)), gpu_here())[0].close()
    monkeypatch.setattr(sys.modules["rtface.engine.tensorrt.builder"], "REVISION", 0)
    tensorrt.open_tensorrt(recipe, gpu_here())[0].close()
    assert stage.built == ["fp16"] * 3


def test_a_kept_plan_is_used_with_the_same_driver(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, fp16=right)
    for driver in ("580.1", "580.1", "590.2"):
        tensorrt.open_tensorrt(recipe, gpu_here(driver=driver))[0].close()
    assert stage.built == ["fp16", "fp16"]


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
    load, tried = tensorrt.Execution, list[bytes]()

    def picky(library: Library, blob: bytes, kernels: Path) -> Any:
        tried.append(blob)
        if len(tried) == 1:
            raise EngineError("made by another")
        return load(library, blob, kernels)

    monkeypatch.setattr(tensorrt, "Execution", picky)
    tensorrt.open_tensorrt(recipe, gpu_here())[0].close()
    assert stage.built == ["fp16", "fp16"]
    assert len(tried) == 2


def test_a_gpu_that_the_library_refuses_costs_no_build(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, fp16=right)
    monkeypatch.setattr(tensorrt, "installed", lambda: (replace(RTX, targets=frozenset({(8, 0), (12, 0)})),))
    with pytest.raises(MissingComponent, match="does not run on NVIDIA H200"):
        tensorrt.open_tensorrt(recipe, FakeGpu(name="NVIDIA H200", capability=(9, 0)))
    assert not stage.built


def test_the_kernels_are_kept_once_the_plan_has_run(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, fp16=right)
    plan, _ = tensorrt.open_tensorrt(recipe, gpu_here())
    assert stage.executions[0].kept == 1
    assert store.kernels_path(plan.identity).parent == store.plan_path(plan.identity).parent


class FakeCache:
    def __init__(self) -> None:
        self.known, self.takes = b"", True

    def deserialize(self, blob: bytes) -> bool:
        self.known = blob
        return self.takes

    def serialize(self) -> bytes:
        return b"kernels of today"


class FakeSettings(types.SimpleNamespace):
    def __init__(self) -> None:
        super().__init__(cache=FakeCache())

    def set_execution_context_allocation_strategy(self, strategy: str) -> None:
        self.strategy = strategy

    def create_runtime_cache(self) -> FakeCache:
        return self.cache

    def set_runtime_cache(self, cache: FakeCache) -> bool:
        self.given = cache
        return True


class FakeRuntime:
    """IRuntime and, of the same making, ICudaEngine."""

    loads = context = True

    def __init__(self, logger: Any) -> None:
        self.logger, self.settings = logger, FakeSettings()

    def deserialize_cuda_engine(self, blob: bytes) -> FakeRuntime | None:
        if not self.loads:
            self.logger.log(_severity("ERROR"), "made by\nanother version")
        return self if self.loads else None

    def create_runtime_config(self) -> FakeSettings:
        return self.settings

    def create_execution_context(self, settings: Any) -> Any:
        self.asked = settings
        return (
            types.SimpleNamespace(
                is_stream_capturable=lambda handle: handle == 3,
                set_device_memory=self._refuse_less_than_9,
                update_device_memory_size_for_shapes=lambda: 7,
            )
            if self.context
            else None
        )

    def _refuse_less_than_9(self, address: int, nbytes: int) -> None:
        if nbytes < 9:
            self.logger.log(_severity("ERROR"), "too small")


def _severity(name: str) -> Any:
    return types.SimpleNamespace(name=name)


def library(kind: Any, runtime: type[FakeRuntime] = FakeRuntime) -> Library:
    class Logger:
        pass

    def enum(*names: str) -> Any:
        return types.SimpleNamespace(**{name: name for name in names})

    module: Any = types.ModuleType("fake")
    module.ILogger, module.Runtime = Logger, runtime
    module.ExecutionContextAllocationStrategy = enum("USER_MANAGED")
    module.DynamicShapesKernelSpecializationStrategy = enum("EAGER")
    module.CudaGraphStrategy = enum("DISABLED")
    return Library(kind, "1.7.1.116", module)


def test_tensorrt_rtx_settings_and_its_kernel_cache(tmp_path: Path) -> None:
    rtx, kernels = library("rtx"), tmp_path / "plans" / "a.kernels"
    execution = Execution(rtx, b"plan", kernels)
    settings = execution.engine.settings
    assert (settings.strategy, settings.cuda_graph_strategy) == ("USER_MANAGED", "DISABLED")
    assert settings.dynamic_shapes_kernel_specialization_strategy == "EAGER"
    assert settings.given is settings.cache
    assert execution.engine.asked is settings
    first, second = execution.new_context(), execution.new_context()
    assert first is not second
    assert execution.capturable(first, 3) and not execution.capturable(first, 4)
    assert not execution.give_scratch(first, 256, 7) and execution.fault() == "too small"
    assert execution.give_scratch(first, 256, 9)
    assert settings.cache.known == b""
    execution.keep_kernels()
    assert store.recall(kernels) == b"kernels of today"
    kernels.unlink()
    execution.keep_kernels()  # nothing new
    assert not kernels.exists()
    execution.close()
    execution.close()
    execution.keep_kernels()
    store.keep(kernels, b"kernels of yesterday")
    assert Execution(rtx, b"plan", kernels).engine.settings.cache.known == b"kernels of yesterday"
    kernels.write_bytes(b"damaged")
    assert Execution(rtx, b"plan", kernels).engine.settings.cache.known == b""


def test_how_the_full_one_is_set(tmp_path: Path) -> None:
    execution = Execution(library("full"), b"plan", tmp_path / "a.kernels")
    assert execution.engine.asked == "USER_MANAGED"
    execution.keep_kernels()
    assert list(tmp_path.glob("*.kernels")) == []


@pytest.mark.parametrize("what", ["loads", "context"])
def test_a_plan_that_cannot_be_loaded_says_why(what: str) -> None:
    runtime = type("Refusing", (FakeRuntime,), {what: False})
    with pytest.raises(EngineError, match="made by another version" if what == "loads" else "it gives no reason"):
        Execution(library("rtx", runtime), b"plan")


def test_the_real_library_has_what_is_asked_of_the_fakes() -> None:
    trt = pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT for RTX is not installed")
    for fake, real in (
        (FakeContext, trt.IExecutionContext),
        (FakeEngine, trt.ICudaEngine),
        (FakeCache, trt.IRuntimeCache),
        (FakeSettings, trt.IRuntimeConfig),
    ):
        missing = {name for name in vars(fake) if not name.startswith("_")} - set(dir(real))
        assert not missing, real
    assert {"create_runtime_config", "create_execution_context"} <= set(dir(trt.ICudaEngine))
    assert {"dynamic_shapes_kernel_specialization_strategy", "cuda_graph_strategy"} <= set(dir(trt.IRuntimeConfig))
    assert hasattr(trt.ExecutionContextAllocationStrategy, "USER_MANAGED")
    assert hasattr(trt.DynamicShapesKernelSpecializationStrategy, "EAGER")
    assert hasattr(trt.CudaGraphStrategy, "DISABLED")
