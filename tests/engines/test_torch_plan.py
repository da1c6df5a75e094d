"""Networks by PyTorch, as tests on a GPU that no TensorRT takes run them (tests/gpu/torch_plan.py), on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.gpu.tracker import NETWORKS, recipe_of
from engines.convert.tracker import to_onnx
from rtface.engine.golden import gate
from rtface.engine.recipe import find_recipes, load_recipe
from rtface.tracking import models
from tests.engines.common import ONNX, ort, torch
from tests.gpu import torch_plan

GPU = SimpleNamespace(name="a GPU", capability=(9, 0), driver="13.0")
SHIPPED = ("rtface-s", "rtface-m", "rtface-m-vivid")


@pytest.fixture(autouse=True)
def on_host(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One thread: on a busy machine several wait for each other at every operation."""
    monkeypatch.setattr(torch_plan, "ON_HOST", True)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def compared(spec: Any, batch: int) -> Any:
    """A plan whose answers to noise are ONNX Runtime's, but for the order of additions on this processor."""
    plan, rng = torch_plan.TorchPlan(spec, GPU, "f32"), np.random.default_rng(0)
    memory = {name: np.zeros((batch, *shape), np.float32) for name, (_, shape) in plan.ports.items()}
    for name, shape in spec.inputs.items():
        memory[name][...] = rng.random((batch, *shape), np.float32)
    plan.bind({name: SimpleNamespace(address=values.ctypes.data) for name, values in memory.items()}, (1, batch))
    plan.enqueue(0, batch)
    session = ort.InferenceSession(str(spec.model_path), providers=["CPUExecutionProvider"])
    wanted = session.run(list(spec.outputs), {name: memory[name] for name in spec.inputs})
    for name, want in zip(spec.outputs, wanted, strict=True):
        np.testing.assert_allclose(memory[name], want, rtol=1e-4, atol=ONNX, err_msg=name)
    return plan


@pytest.mark.parametrize("name", SHIPPED)
def test_an_engine_is_onnx_runtimes(name: str) -> None:
    recipe = load_recipe(find_recipes()[name])
    assert gate(recipe, compared(recipe, 3)).psnr > recipe.golden.psnr.f32


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_of_the_tracker_is_onnx_runtimes(name: str, tmp_path: Path) -> None:
    file, size, layout, more = NETWORKS[name]
    compared(recipe_of(tmp_path, name, to_onnx(models.path(file), size, layout, **more)), 3)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_halves_pass_the_golden_gate(precision: Any) -> None:
    recipe = load_recipe(find_recipes()["rtface-s"])
    assert gate(recipe, torch_plan.TorchPlan(recipe, GPU, precision)).passed
