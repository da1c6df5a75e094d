"""The packages in ``rtface/models`` hold what their recipes say, and compute what the torch model computed."""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

MODELS = Path(__file__).parents[2] / "rtface" / "models"
ENGINES = ("rtface-s", "rtface-m")


def recipe(name: str) -> dict[str, Any]:
    return tomllib.loads((MODELS / name / "recipe.toml").read_text(encoding="utf-8"))


def golden(name: str) -> tuple[np.ndarray, np.ndarray]:
    with np.load(MODELS / name / "golden.npz") as z:
        return z["crops"].transpose(0, 3, 1, 2).astype(np.float32) / 255, z["restored"].astype(np.float32)


def db(a: np.ndarray, b: np.ndarray) -> float:
    return float(-10 * np.log10(max(1e-12, float(((a - b) ** 2).mean()))))


def openvino_run(name: str, x: np.ndarray, precision: str) -> np.ndarray:
    ov = pytest.importorskip("openvino", reason="OpenVINO is not installed")
    core = ov.Core()
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this CPU has no bf16")
    net = core.compile_model(str(MODELS / name / "model.onnx"), "CPU", {"INFERENCE_PRECISION_HINT": precision})
    return np.array(net({0: x})[0])


@pytest.mark.parametrize("name", ENGINES)
def test_recipe_matches_file(name: str) -> None:
    r = recipe(name)
    data = (MODELS / name / r["weights"]["file"]).read_bytes()
    assert len(data) == r["weights"]["bytes"]
    assert hashlib.sha256(data).hexdigest() == r["weights"]["sha256"]
    assert len(data) <= {"rtface-s": 7, "rtface-m": 8}[name] * 1_000_000
    assert (MODELS / name / "golden.npz").stat().st_size < 3_000_000
    assert r["licence"]["weights"] == "Apache-2.0" and r["licence"]["commercial_use"] is True


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_golden_openvino(name: str, precision: str) -> None:
    x, y = golden(name)
    assert db(openvino_run(name, x, precision), y) >= recipe(name)["golden"]["psnr"][precision]


@pytest.mark.parametrize("name", ENGINES)
def test_golden_onnxruntime(name: str) -> None:
    ort = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    x, y = golden(name)
    session = ort.InferenceSession(str(MODELS / name / "model.onnx"), providers=["CPUExecutionProvider"])
    out = session.run(None, {"crop": x})[0]
    assert out.shape == x.shape
    assert db(out, y) >= recipe(name)["golden"]["psnr"]["f32"]


@pytest.mark.parametrize("name", ENGINES)
def test_batch_is_the_same_as_one_by_one(name: str) -> None:
    x, _ = golden(name)
    both = openvino_run(name, x[:2], "f32")
    assert np.abs(both[1] - openvino_run(name, x[1:2], "f32")[0]).max() < 1e-3


@pytest.mark.parametrize("name", ENGINES)
def test_clean_face_is_left_alone(name: str) -> None:
    x, y = golden(name)
    assert db(y[0], x[0]) >= 38


@pytest.mark.parametrize("name", ENGINES)
def test_outside_the_region_nothing_changes(name: str) -> None:
    x, y = golden(name)
    edge = x.shape[2] // 8
    assert np.abs(y[:, :, :edge] - x[:, :, :edge]).max() < 1e-3
    assert np.abs(y[:, :, :, :edge] - x[:, :, :, :edge]).max() < 1e-3
