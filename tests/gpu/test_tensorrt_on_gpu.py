"""What only a GPU shows: plans that run, one crop or many, put on a stream or recorded."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rtface.device.cuda.gpu import Gpu
from rtface.engine import learned
from rtface.engine.crop_runner import CropRunner, shrunk
from rtface.engine.golden import load_golden, psnr
from rtface.engine.host_engine import HostEngine
from rtface.engine.recipe import SHIPPED, Recipe, load_recipe, of_person
from rtface.engine.tensorrt import open_tensorrt, store
from rtface.engine.tensorrt.library import choose, installed
from rtface.engine.tensorrt.plan import TensorRtPlan
from rtface.errors import MissingComponent
from tests.gpu.real_gpu import REHEARSAL, CountedGpu
from tests.gpu.required import lacking
from tests.persons.made import ANNA, learnt

pytestmark = pytest.mark.skipif(REHEARSAL, reason="TensorRT does not run on a driver that is not there")

NAMES = ("rtface-s", "rtface-m", "rtface-m-vivid")


@pytest.fixture
def gpu(cuda_python: None) -> Generator[Gpu]:
    gpu: Any = CountedGpu(Gpu(0))
    try:
        choice = choose(gpu.capability, installed(), gpu.name)
    except MissingComponent as error:
        lacking(str(error))
    print(choice.name)
    yield gpu
    for piece in gpu.pieces:
        piece.close()
    gpu.close()


def shipped(name: str) -> Recipe:
    return load_recipe(SHIPPED / name / "recipe.toml")


def crops(recipe: Recipe, n: int) -> dict[str, np.ndarray]:
    """Inputs for `n` different crops, each known already."""
    x, y, w, h = recipe.region
    goldens = np.resize(load_golden(recipe)[0], (n, 3, recipe.input.size, recipe.input.size))
    small = np.stack([shrunk(crop, recipe.region, recipe.shrink) for crop in goldens])
    values = {name: np.zeros((n, *shape), np.float32) for name, shape in recipe.inputs.items()}
    assert recipe.memory is not None
    values |= {recipe.memory.past: small, recipe.memory.known: np.ones((n, 1, 1, 1), np.float32)}
    values |= {recipe.memory.shrunk: small} if recipe.shrink > 1 else {}
    return values | {recipe.input.name: goldens[:, :, y : y + h, x : x + w]}


class Bound:
    """A plan bound to memory for its largest batch."""

    def __init__(self, plan: TensorRtPlan, gpu: Any) -> None:
        self.plan, self.stream, self.done = plan, gpu.stream(), gpu.event()
        self.memory = {name: gpu.allocate(plan.nbytes(name, plan.max_batch)) for name in plan.ports}
        self.pinned = {name: gpu.pin(plan.nbytes(name, plan.max_batch)) for name in plan.ports}
        plan.bind(self.memory)

    def put(self, values: dict[str, np.ndarray]) -> None:
        for name, value in values.items():
            self.pinned[name].bytes()[: value.nbytes] = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
            self.stream.copy(self.memory[name], self.pinned[name], value.nbytes)

    def enqueue(self, batch: int) -> None:
        memory = list(self.memory.values())
        self.stream.call(lambda handle: self.plan.enqueue(handle, batch), reads=memory, writes=memory)

    def answers(self, name: str, batch: int) -> np.ndarray:
        nbytes = self.plan.nbytes(name, batch)
        self.stream.copy(self.pinned[name], self.memory[name], nbytes)
        self.stream.record(self.done)
        self.done.synchronize()
        return self.pinned[name].bytes()[:nbytes].view(np.float32).reshape(batch, *self.plan.ports[name][1]).copy()


@pytest.mark.parametrize("precision", [None, "bf16", "f32"])
@pytest.mark.parametrize("name", NAMES)
def test_an_engine_gives_its_references_answers(gpu: Any, name: str, precision: Any) -> None:
    plan, verdict = open_tensorrt(shipped(name), gpu, precision=precision)
    print(f"{name}: {plan.identity.library} on {plan.identity.device} in {plan.identity.precision}, {verdict}")
    assert verdict.passed
    assert plan.identity.precision == (precision or "fp16")
    plan.close()


@pytest.mark.parametrize("name", ["rtface-s", "rtface-m"])
def test_the_weights_of_a_person_arrive(gpu: Any, name: str, tmp_path: Path) -> None:
    recipe = shipped(name)
    own = of_person(recipe, learned.read(learnt(tmp_path / "anna.person", ANNA, amount=0.01)))
    crop = load_golden(recipe)[0][:1]
    wanted = [HostEngine(each, device="onnx").submit(crop).result().pixels for each in (own, recipe)]
    plan, _ = open_tensorrt(own, gpu)
    answer = CropRunner(own, plan).restore(crop).pixels
    print(f"{own.name}: {[round(psnr(answer, w), 1) for w in wanted]} dB")
    assert psnr(answer, wanted[0]) > psnr(answer, wanted[1]) + 6
    plan.close()


@pytest.mark.parametrize("name", NAMES)
def test_many_crops_are_as_one_and_a_recorded_run_as_the_first(gpu: Any, name: str) -> None:
    recipe = shipped(name)
    plan, _ = open_tensorrt(recipe, gpu)
    values = crops(recipe, plan.max_batch)
    port, single = recipe.output.name, []
    for i in range(plan.max_batch):
        single.append(np.empty((1, *recipe.outputs[port]), np.float32))
        given = {key: np.ascontiguousarray(value[i : i + 1]) for key, value in values.items()}
        plan.run(given, {port: single[-1]})
    bound = Bound(plan, gpu)
    for batch in (1, 3, plan.max_batch, 2):
        bound.put({key: value[:batch] for key, value in values.items()})
        bound.enqueue(batch)
        np.testing.assert_allclose(bound.answers(port, batch), np.concatenate(single[:batch]), atol=5e-3)
        assert plan.capturable(bound.stream.handle, batch)
        graph = bound.stream.capture(lambda batch=batch: bound.enqueue(batch))
        bound.put({key: value[-batch:] for key, value in values.items()})
        bound.stream.replay(graph)
        np.testing.assert_allclose(bound.answers(port, batch), np.concatenate(single[-batch:]), atol=5e-3)
        graph.close()
    identity = plan.identity
    plan.keep_kernels()
    plan.close()
    if identity.backend == "tensorrt-rtx":
        assert store.recall(store.kernels_path(identity))
