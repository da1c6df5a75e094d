"""Weights of persons with the full TensorRT, whose module is a fake: put into a plan that is kept for that."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rtface.engine import learned, tensorrt
from rtface.engine.plan import load_golden
from rtface.engine.recipe import SHIPPED, Recipe, load_recipe, of_person
from rtface.engine.tensorrt import store
from rtface.engine.tensorrt.builder import build, prepare
from rtface.engine.tensorrt.execution import Execution
from rtface.engine.tensorrt.library import Library, choose
from rtface.engine.tensorrt.plan import TensorRtPlan
from rtface.errors import DeviceLost, EngineError, OutOfDeviceMemory
from tests.device.cuda.fake_gpu import FakeGpu
from tests.engine.tensorrt.fake_tensorrt import FakeTensorRt
from tests.persons.made import ANNA, BEN, learnt

pytest.importorskip("onnx")

GPU = "NVIDIA H200"
EVERYBODY = load_recipe(SHIPPED / "rtface-s" / "recipe.toml")


@pytest.fixture
def trt(monkeypatch: pytest.MonkeyPatch) -> FakeTensorRt:
    module = FakeTensorRt()
    library = Library("full", "11.4.0.106", module)
    monkeypatch.setattr(tensorrt, "installed", lambda: (library,))
    return module


@pytest.fixture
def person(tmp_path: Path) -> Callable[..., Recipe]:
    """The engine with the weights of a person, by default of Anna."""

    def made(name: str = "anna", embedding: Any = ANNA, **how: Any) -> Recipe:
        return of_person(EVERYBODY, learned.read(learnt(tmp_path / f"{name}.person", embedding, **how)))

    return made


def start(recipe: Recipe) -> tuple[np.ndarray, TensorRtPlan]:
    """Opens it as a run does, in fp32, and restores a crop."""
    gpu = FakeGpu(name=GPU, capability=(9, 0), driver="580.1")
    plan = tensorrt.open_as(recipe, gpu, choose((9, 0), tensorrt.installed(), gpu=GPU), "f32")
    x, y, w, h = recipe.region
    values = {name: np.zeros((1, *shape), np.float32) for name, shape in recipe.inputs.items()}
    values[recipe.input.name][:] = load_golden(recipe)[0][:1, :, y : y + h, x : x + w]
    out = {recipe.output.name: np.empty((1, *recipe.outputs[recipe.output.name]), np.float32)}
    plan.run(values, out)
    plan.close()
    return out[recipe.output.name], plan


def plans() -> dict[str, bytes]:
    """What is kept, by name."""
    return {
        path.name: path.read_bytes() for path in store.cache_dir().rglob("*") if path.suffix in (".plan", ".kernels")
    }


def test_the_second_start_with_a_person_builds_nothing(trt: FakeTensorRt, person: Callable[..., Recipe]) -> None:
    first, plan = start(person())
    assert trt.builds == [{"REFIT"}] and trt.refits == 1
    assert plan.identity.engine == "rtface-s@anna" and plan.identity.profile.endswith(", refittable")
    kept = plans()
    again, _ = start(person())
    assert len(trt.builds) == 1 and trt.refits == 2 and plans() == kept
    assert np.array_equal(first, again)
    # Nothing of her is kept: the plan is what the weights of everybody make.
    library = tensorrt.installed()[0]
    assert build(EVERYBODY, "f32", choose((9, 0), (library,), gpu=GPU), refits=True) in next(iter(kept.values()))
    trt.broken = "build"
    for path in store.cache_dir().rglob("*.plan"):
        path.unlink()
    whole, plan = start(person())
    assert trt.builds[-1] == set() and not plan.identity.profile.endswith("refittable")
    assert np.array_equal(first, whole)


def test_everybodys_plan_stays_as_it_is(trt: FakeTensorRt, person: Callable[..., Recipe]) -> None:
    before, _ = start(EVERYBODY)
    (everybodys,) = plans().items()
    own, _ = start(person())
    assert trt.builds == [set(), {"REFIT"}]
    assert len(plans()) == 2 and plans()[everybodys[0]] == everybodys[1]
    after, _ = start(EVERYBODY)
    assert len(trt.builds) == 2
    assert np.array_equal(before, after) and not np.array_equal(before, own)


def test_persons_share_a_plan_and_one_who_changed_is_put_in(trt: FakeTensorRt, person: Callable[..., Recipe]) -> None:
    answers = [start(r)[0] for r in (person(), person("ben", BEN, amount=0.004), person(amount=-0.002))]
    assert trt.builds == [{"REFIT"}] and trt.refits == 3 and len(plans()) == 1
    assert not any(np.array_equal(a, b) for a, b in pairwise(answers))


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ("build", "cannot build it in f32 for sm_90"),
        ("flag", "cannot change the weights of its plan: .* is fixed"),
        ("fixed", r"cannot change the weights of its plan: \S*\.bias\S* is fixed"),
        ("parse", "cannot change the weights of its plan: not all weights are there"),
        ("refit", "cannot change the weights of its plan: some weights are missing"),
        ("answer", "dB against its golden crops"),
    ],
)
def test_where_weights_cannot_be_changed_it_is_built(
    trt: FakeTensorRt,
    person: Callable[..., Recipe],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    broken: str,
    why: str,
) -> None:
    right, _ = start(person())
    for path in store.cache_dir().rglob("*.plan"):
        path.unlink()
    trt.builds.clear()
    trt.broken = broken
    closed: list[Any] = []
    close = Execution.close
    monkeypatch.setattr(Execution, "close", lambda self: (closed.append(self), close(self))[1])
    with caplog.at_level("INFO", "rtface"):
        found, plan = start(person())
    assert np.array_equal(found, right) and not plan.identity.profile.endswith("refittable")
    assert trt.builds == ([] if broken == "build" else [{"REFIT"}]) + [set()]
    (said,) = [r.getMessage() for r in caplog.records if "built whole" in r.getMessage()]
    assert said.startswith("engine rtface-s@anna: its plan is built whole: ")
    assert re.search(why, said)
    assert len(closed) == (1 if broken == "build" else 2)
    assert len(plans()) == (0 if broken == "build" else 1)  # which is not built again at the next start
    start(person())
    assert trt.builds[2 - (broken == "build") :] == [set()]


@pytest.mark.parametrize("error", [OutOfDeviceMemory("full"), DeviceLost("gone"), KeyboardInterrupt()])
def test_what_says_nothing_about_weights_is_raised(
    trt: FakeTensorRt, person: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def refit(self: Execution, model: Any) -> None:
        raise error

    monkeypatch.setattr(Execution, "refit", refit)
    with pytest.raises(type(error)):
        start(person())
    assert trt.builds == [{"REFIT"}]


def test_an_other_network_is_not_put_into_a_plan(trt: FakeTensorRt) -> None:
    library = tensorrt.installed()[0]
    choice = choose((9, 0), (library,), gpu=GPU)
    execution = Execution(library, build(EVERYBODY, "f32", choice, refits=True))
    for recipe, precision in ((EVERYBODY, "fp16"), (load_recipe(SHIPPED / "rtface-m" / "recipe.toml"), "f32")):
        with pytest.raises(EngineError, match="cannot change the weights of its plan"):
            execution.refit(prepare(recipe, precision))  # type: ignore[arg-type]
    with pytest.raises(EngineError, match="is fixed"):
        Execution(library, build(EVERYBODY, "f32", choice)).refit(prepare(EVERYBODY, "f32"))
    assert not trt.refits


def test_the_plan_for_persons_goes_as_any_that_is_not_used(trt: FakeTensorRt, person: Callable[..., Recipe]) -> None:
    start(person())
    (path,) = store.cache_dir().rglob("*.plan")
    os.utime(path, (0, 0))
    start(person())
    assert path.stat().st_mtime > 0  # is in use
    os.utime(path, (0, 0))
    for i in range(store.KEEP):
        store.keep(path.with_name(f"f32-{i}.plan"), b"another")
    assert not path.exists() and len(plans()) == store.KEEP
    start(person())
    assert trt.builds == [{"REFIT"}] * 2
