from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rtface.engine.backends.int8 import load_calibration
from rtface.engine.engine_set import load_engine
from rtface.engine.listing import list_engines
from rtface.engine.recipe import find_recipes, load_recipe
from tests.engine.conftest import Maker
from training.export.recipe_text import FLOAT_LAYERS

openvino = pytest.importorskip("openvino")

LAYERS = ((0.8, 0.1), (0.9, -0.05))
Calibrated = Callable[..., Path]


def _reference(x: np.ndarray) -> np.ndarray:
    return (0.8 * x + 0.1) * 0.9 - 0.05


def _with_int8(text: str) -> str:
    return text + "int8 = 35.0\n"


@pytest.fixture
def calibrated(make_engine: Maker) -> Calibrated:
    """Writes an engine of two convolutions with its ranges; `changes` go into the file."""

    def make(high: float = 1.0, **changes: Any) -> Path:
        folder = make_engine(layers=LAYERS, answer=_reference, edit=_with_int8)
        table = {
            "weights": hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest(),
            "crops": [0, 1],
            "convolutions": [{"name": f"conv{i}", "low": 0.0, "high": high} for i in range(2)],
        }
        (folder / "int8.json").write_text(json.dumps(table | changes))
        return folder

    return make


@pytest.fixture
def int8(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every CPU is one that is asked for int8; what OpenVINO makes of it there is right, if not fast."""
    from rtface.engine.backends import openvino as backend

    floats = tuple(p for p in backend.supported() if p != "int8")
    monkeypatch.setattr(backend, "supported", lambda: ("int8", *floats))


def _executed(name: str) -> dict[str, str]:
    """Name → type of the kernel of every convolution of the engine's int8 network."""
    from rtface.engine.backends import openvino as backend

    network = backend.read_network(load_recipe(find_recipes()[name]), "int8")
    compiled = openvino.Core().compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    kernels: dict[str, str] = {}
    for op in compiled.get_runtime_model().get_ordered_ops():
        info = op.get_rt_info()
        if info["layerType"].astype(str) == "Convolution":
            kernels[op.get_friendly_name()] = info["primitiveType"].astype(str)
    return kernels


@pytest.mark.usefixtures("int8")
def test_a_calibrated_engine_runs_in_int8(calibrated: Calibrated) -> None:
    calibrated()
    engine = load_engine("tiny", device="cpu", threads=1)
    assert engine.precision == "int8"
    assert "calibrated" in engine.reason
    assert 35 < engine.psnr < 80  # near the reference, and yet rounded to 8 bits
    crops = np.random.default_rng(5).random((1, 3, 64, 64), np.float32)
    error = engine.submit(crops).result().pixels - _reference(crops)
    assert 1e-4 < float(np.abs(error).max()) < 0.02
    ms = load_engine("tiny", device="cpu", threads=1).measure()
    row = next(row for row in list_engines(device="cpu") if row.name == "tiny")
    assert (row.precision, row.ms) == ("int8", ms)


@pytest.mark.usefixtures("int8")
def test_wrong_ranges_are_refused_and_the_next_precision_runs(calibrated: Calibrated) -> None:
    calibrated(high=0.4)
    engine = load_engine("tiny", device="cpu", threads=1)
    assert engine.precision in ("bf16", "f32")
    crops = np.random.default_rng(5).random((1, 3, 64, 64), np.float32)
    np.testing.assert_allclose(engine.submit(crops).result().pixels, _reference(crops), atol=1e-2)


@pytest.mark.usefixtures("int8")
def test_new_ranges_are_checked_anew(calibrated: Calibrated) -> None:
    folder = calibrated(high=0.4)
    load_engine("tiny", device="cpu", threads=1)
    path = folder / "int8.json"
    path.write_text(path.read_text().replace("0.4", "1.0"))
    engine = load_engine("tiny", device="cpu", threads=1)
    assert engine.precision == "int8"


@pytest.mark.usefixtures("int8")
@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"weights": "0" * 64}, "measured on other weights"),
        ({"convolutions": [{"name": "conv0", "low": 0.0, "hihg": 1.0}]}, r"used: unknown key .*hihg"),
        ({"convolutions": [{"name": "conv7", "low": 0.0, "high": 1.0}]}, "no convolution conv7"),
    ],
)
def test_ranges_of_no_use_cost_speed_only(
    calibrated: Calibrated, caplog: pytest.LogCaptureFixture, changes: dict[str, Any], line: str
) -> None:
    calibrated(**changes)
    with caplog.at_level(logging.WARNING, "rtface"):
        engine = load_engine("tiny", device="cpu", threads=1)
    assert engine.precision in ("bf16", "f32")
    assert "without int8" in caplog.text
    assert re.search(line, caplog.text)


@pytest.mark.usefixtures("int8")
@pytest.mark.parametrize("data", [b"", b"{torn", b"[]", b"\xff\xfe"])
def test_a_torn_file_costs_speed_only(calibrated: Calibrated, caplog: pytest.LogCaptureFixture, data: bytes) -> None:
    (calibrated() / "int8.json").write_bytes(data)
    engine = load_engine("tiny", device="cpu", threads=1)
    assert engine.precision in ("bf16", "f32")
    assert "cannot be used" in caplog.text


@pytest.mark.usefixtures("int8")
def test_golden_crops_that_are_not_there_pass_nothing(calibrated: Calibrated) -> None:
    calibrated(crops=[7, -1])
    engine = load_engine("tiny", device="cpu", threads=1)
    assert engine.precision in ("bf16", "f32")


def test_a_cpu_without_the_instructions_is_not_asked(calibrated: Calibrated, monkeypatch: pytest.MonkeyPatch) -> None:
    from rtface.engine.backends import openvino as backend

    calibrated()
    monkeypatch.setattr(backend.cv2, "checkHardwareSupport", lambda _: False)
    assert "int8" not in backend.supported()
    engine = load_engine("tiny", device="cpu", threads=1)
    assert engine.precision in ("bf16", "f32")


def test_weights_use_7_bits_where_sums_have_16_bits(calibrated: Calibrated, monkeypatch: pytest.MonkeyPatch) -> None:
    from rtface.engine.backends import openvino as backend

    recipe, seen = load_recipe(calibrated() / "recipe.toml"), list[tuple[str, float]]()
    for vnni in (True, False):
        monkeypatch.setattr(backend.cv2, "checkHardwareSupport", lambda n, vnni=vnni: n != backend.AVX512_VNNI or vnni)
        network = backend.read_network(recipe, "int8")
        rounded = [
            op
            for op in network.get_ops()
            if op.get_type_name() == "FakeQuantize" and op.input_value(0).get_node().get_type_name() == "Constant"
        ]
        step = [float(np.ptp([op.input_value(k).get_node().get_data() for k in (1, 2)])) / 254 for op in rounded]
        weights = [float(np.abs(op.input_value(0).get_node().get_data()).max()) for op in rounded]
        seen.append((backend.identify(recipe, "int8").device, max(w / s for w, s in zip(weights, step, strict=True))))
    (with_vnni, full), (without, half) = seen
    assert full == pytest.approx(127) and half == pytest.approx(63.5)
    assert with_vnni != without  # what was found or compiled for one is not taken for the other
    assert 2 * 255 * np.ceil(half) < 2**15


@pytest.mark.parametrize("name", ["rtface-s", pytest.param("rtface-m", marks=pytest.mark.slow)])
def test_ours_are_calibrated_for_the_weights_they_ship_with(name: str) -> None:
    recipe = load_recipe(find_recipes()[name])
    calibration = load_calibration(recipe)
    assert calibration, "run engines/training/export/calibrate_int8.py after every export"
    assert len(calibration.crops) >= 2
    from rtface.engine.backends import openvino as backend

    if "int8" not in backend.supported():
        pytest.skip("this CPU has no int8 instructions: what runs in int8 here says nothing")
    kernels = _executed(name)
    learnt = {k: kind for k, kind in kernels.items() if not any(part in k for part in FLOAT_LAYERS)}
    assert len(learnt) == len(calibration.convolutions) > 30
    assert [k for k, kind in learnt.items() if not kind.lower().endswith("i8")] == []
    engine = load_engine(name, device="cpu", threads=1)
    assert engine.precision == "int8"
