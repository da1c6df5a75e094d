"""The packages in ``engines/shipped`` hold what their recipes say, and compute what the torch model computed."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from rtface.engine.backends.onnx_runtime import OnnxPlan
from rtface.engine.backends.openvino import OpenVinoPlan, supported
from rtface.engine.golden import gate, load_golden, psnr
from rtface.engine.recipe import Recipe, load_recipe

MODELS = Path(__file__).parents[2] / "engines" / "shipped"
ENGINES = sorted(path.parent.name for path in MODELS.glob("*/recipe.toml"))


def recipe(name: str) -> Recipe:
    return load_recipe(MODELS / name / "recipe.toml")


def test_the_engines_that_the_documents_name_are_there() -> None:
    assert {"rtface-s", "rtface-m"} <= set(ENGINES)


@pytest.mark.parametrize("name", ENGINES)
def test_recipe_matches_file(name: str) -> None:
    r = recipe(name)
    data = r.model_path.read_bytes()
    assert len(data) == r.weights.bytes
    assert hashlib.sha256(data).hexdigest() == r.weights.sha256
    assert len(data) <= (7 if r.input.size == 256 else 8) * 1_000_000
    assert r.golden_path.stat().st_size < 4_000_000
    assert r.licence.weights == "Apache-2.0" and r.licence.commercial_use is True


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize(("kind", "precision"), [(OpenVinoPlan, "f32"), (OpenVinoPlan, "bf16"), (OnnxPlan, "f32")])
def test_a_plan_passes_the_golden_gate(name: str, kind: Any, precision: Any) -> None:
    if kind is OpenVinoPlan and precision not in supported():
        pytest.skip(f"this CPU has no {precision}")
    assert gate(recipe(name), kind(recipe(name), precision, 1)).passed


@pytest.mark.parametrize("name", ENGINES)
def test_batch_is_the_same_as_one_by_one(name: str) -> None:
    session = ort.InferenceSession(str(recipe(name).model_path), providers=["CPUExecutionProvider"])
    r = np.random.default_rng(0)
    shapes = {port.name: (3, *port.shape[1:]) for port in session.get_inputs()}
    given = {key: r.random(shape, np.float32) for key, shape in shapes.items()}
    together = session.run(None, given)
    alone = session.run(None, {key: value[1:2] for key, value in given.items()})
    for a, b in zip(together, alone, strict=True):
        assert len(a) == 3 and np.abs(a[1:2] - b).max() < 1e-3


@pytest.mark.parametrize("name", ENGINES)
def test_clean_faces_and_the_surroundings_are_kept(name: str) -> None:
    crops, answers = load_golden(recipe(name))
    assert psnr(answers[0], crops[0]) >= 38
    change, edge = np.abs(answers - crops), crops.shape[2] // 8
    assert max(change[:, :, :edge].max(), change[:, :, :, :edge].max()) < 1e-3
