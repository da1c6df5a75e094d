"""Devices: which names there are, which backend each has, what is said where one cannot be used, and what "auto" takes.

There is no GPU here. OpenVINO's CPU stands in for its GPU and NPU: all but the computation is what such a device would
see.
"""

from __future__ import annotations

import hashlib
import json
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from rtface.cli.app import app
from rtface.config.option_sources import load
from rtface.config.options import Options
from rtface.engine import golden as plans
from rtface.engine.backends import choose
from rtface.engine.cuda import driver
from rtface.engine.engine_set import load_engine
from rtface.engine.golden import candidates
from rtface.engine.listing import list_engines
from rtface.engine.recipe import load_recipe
from rtface.errors import EngineError, MissingComponent, UsageError
from rtface.util import openvino_core
from rtface.util.parse import DEVICES
from tests.engine.conftest import Maker


def _crops(n: int = 1, size: int = 64) -> np.ndarray:
    return np.random.default_rng(3).random((n, 3, size, size), np.float32)


def _with_fp16(text: str) -> str:
    return text + "fp16 = 35.0\n"


@pytest.mark.parametrize("device", [*DEVICES, "cuda:3", "openvino:gpu.1", " CUDA:0 ", "Onnx"])
def test_names_of_devices(device: str) -> None:
    assert Options(device=device).device == choose.check_device(device) == device.strip().lower()


@pytest.mark.parametrize(
    ("device", "near"),
    [
        ("cpuu", "cpu"),
        ("openvino:gpo", "openvino:gpu"),
        ("openvino:gpu:1", "openvino:gpu"),
        ("cuda.0", "cuda"),
        ("cpu:1", "cpu"),
    ],
)
def test_a_name_that_is_none_gets_the_nearest(device: str, near: str) -> None:
    for refused, shown in (
        (lambda: load({"device": device}), "--device"),
        (lambda: load_engine(device=device), "device"),
        (lambda: load({}, environ={"RTFACE_DEVICE": device}), "RTFACE_DEVICE"),
        (lambda: list_engines(device=device), "device"),
    ):
        with pytest.raises(UsageError, match=rf"{shown} must be auto, cpu, .*: the nearest is {near}$"):
            refused()


@pytest.mark.parametrize(("device", "code"), [("openvino:npu", 1), ("cuda", 1), ("openvino:gpuu", 2)])
def test_a_device_that_is_not_there_is_one_line(device: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if device == "openvino:npu" and "NPU" in _openvino().devices():
        pytest.skip("there is an NPU here")
    monkeypatch.setattr(driver, "driver", _no_driver)
    result = CliRunner().invoke(app, ["engines", "--no-measure", "--device", device])
    assert result.exit_code == code
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("rtface: error: ")


# What is tried.


@pytest.mark.parametrize(
    ("supported", "mixed", "old", "new", "wanted"),
    [
        (("int8", "bf16", "f32"), False, "", "", ["bf16", "f32"]),  # int8: not calibrated
        (("f32",), False, "", "", ["f32"]),
        (("fp16", "f32"), False, "", "", ["fp16", "f32"]),
        (("fp16", "bf16", "f32"), True, "", "", ["fp16", "bf16", "f32"]),
        (("fp16",), False, "", "", ["fp16"]),
        (("fp16", "bf16", "f32"), True, 'default = "bf16"', 'default = "f32"', ["fp16", "bf16", "f32"]),
        (("fp16", "bf16", "f32"), False, 'default = "bf16"', 'default = "f32"', ["f32"]),
        (("fp16", "bf16", "f32"), True, "fp16 = 35.0\n", "", ["bf16", "f32"]),
        (("fp16", "f32"), False, "fp32_nodes = []", 'fp32_nodes = ["conv0"]', ["f32"]),
        (("int8", "bf16", "f32"), False, "fp32_nodes = []", 'fp32_nodes = ["conv0"]', ["bf16", "f32"]),
        (("fp16", "bf16", "f32"), False, "fp32_nodes = []", 'fp32_nodes = ["conv0"]', ["bf16", "f32"]),
        (("fp16", "f32"), True, "fp32_nodes = []", 'fp32_nodes = ["conv0"]', ["fp16", "f32"]),
    ],
)
def test_which_precisions_are_tried(
    make_engine: Maker, supported: Any, mixed: bool, old: str, new: str, wanted: list[str]
) -> None:
    folder = make_engine(edit=lambda text: _with_fp16(text).replace(old, new) if old else _with_fp16(text))
    assert candidates(load_recipe(folder / "recipe.toml"), supported, mixed) == wanted


# OpenVINO's devices.


def _openvino() -> Any:
    pytest.importorskip("openvino")
    from rtface.engine.backends import openvino

    return openvino


class OtherCore:
    """OpenVINO's core with devices whose work the CPU does; `asked` is what was asked of them."""

    def __init__(self, able: dict[str, list[str]]) -> None:
        self.real, self.able, self.asked = openvino_core.core(), able, list[tuple[str, str, dict[str, Any]]]()

    @property
    def available_devices(self) -> list[str]:
        return ["CPU", *self.able]

    def get_property(self, device: str, key: str) -> Any:
        if device == "CPU":
            return self.real.get_property(device, key)
        name = device if device in self.able else f"{device}.0"  # "GPU" is the first one
        return {"FULL_DEVICE_NAME": f"Intel {name}", "OPTIMIZATION_CAPABILITIES": self.able[name]}[key]

    def read_model(self, path: Path) -> Any:
        return self.real.read_model(path)

    def _options(self, what: str, device: str, options: dict[str, Any]) -> dict[str, Any]:
        self.asked.append((what, device, options))
        return options if device == "CPU" else {"INFERENCE_PRECISION_HINT": "f32"}

    def compile_model(self, model: Any, device: str, options: dict[str, Any]) -> Any:
        self.model = model
        return self.real.compile_model(model, "CPU", self._options("compile", device, options))

    def import_model(self, blob: BytesIO, device: str, options: dict[str, Any]) -> Any:
        return self.real.import_model(blob, "CPU", self._options("import", device, options))


ABLE = {"GPU.0": ["FP32", "FP16", "INT8"], "GPU.1": ["FP32", "FP16"], "NPU": ["FP16", "INT8"]}


@pytest.fixture
def other(monkeypatch: pytest.MonkeyPatch) -> OtherCore:
    _openvino()
    core = OtherCore(ABLE)
    monkeypatch.setattr(openvino_core, "core", lambda: core)
    return core


@pytest.mark.parametrize(
    ("device", "name"), [("openvino:gpu", "GPU"), ("openvino:gpu.1", "GPU.1"), ("openvino:npu", "NPU")]
)
def test_openvinos_other_devices_compute_in_fp16(make_engine: Maker, other: OtherCore, device: str, name: str) -> None:
    make_engine(edit=_with_fp16)
    engine = load_engine("tiny", device=device, threads=3)
    assert (engine.device, engine.precision) == (device, "fp16")
    assert engine.reason.endswith(f"({'this NPU' if name == 'NPU' else 'this GPU'} computes in fp16)")
    assert f"{name}: Intel" in engine.reason
    assert "thread" not in engine.reason
    crops = _crops(2)
    np.testing.assert_allclose(engine.submit(crops).result().pixels, 0.5 * crops + 0.25, atol=1e-5)
    load_engine("tiny", device=device)
    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f16"}
    assert other.asked == [("compile", name, options), ("import", name, options)]
    row = next(row for row in list_engines(device=device) if row.name == "tiny")
    assert (row.device, row.precision) == (device, "fp16")


def test_each_device_passes_its_own_gate(make_engine: Maker, other: OtherCore, monkeypatch: pytest.MonkeyPatch) -> None:
    make_engine(edit=_with_fp16)
    ran: list[str] = []
    real = plans.gate
    monkeypatch.setattr(plans, "gate", lambda r, p: (ran.append(p.identity.device), real(r, p))[1])
    for device in ("openvino:gpu.0", "openvino:gpu.1", "openvino:npu", "cpu", "openvino:gpu.1"):
        load_engine("tiny", device=device, threads=1)
    assert ran[:3] == ["GPU.0: Intel GPU.0", "GPU.1: Intel GPU.1", "NPU: Intel NPU"]
    assert len(ran) == 4


def test_without_fp16_a_gpu_runs_fp32_and_an_npu_nothing(make_engine: Maker, other: OtherCore) -> None:
    make_engine()
    engine = load_engine("tiny", device="openvino:gpu")
    assert engine.precision == "f32"
    assert other.asked[0][2]["INFERENCE_PRECISION_HINT"] == "f32"
    with pytest.raises(EngineError, match="none of its precisions is available"):
        load_engine("tiny", device="openvino:npu")


def test_a_calibrated_engine_runs_in_int8_beside_fp16(make_engine: Maker, other: OtherCore) -> None:
    folder = make_engine(edit=lambda text: _with_fp16(text) + "int8 = 35.0\n")
    (folder / "int8.json").write_text(
        json.dumps(
            {
                "weights": hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest(),
                "crops": [0, 1],
                "convolutions": [{"name": "conv0", "low": 0.0, "high": 1.0}],
            }
        )
    )
    engine = load_engine("tiny", device="openvino:gpu.0")
    assert engine.precision == "int8"
    assert "this GPU computes in int8, and the engine is calibrated for it" in engine.reason
    assert other.asked[0][2]["INFERENCE_PRECISION_HINT"] == "f16"
    assert sum(op.get_type_name() == "FakeQuantize" for op in other.model.get_ops()) == 2
    engine = load_engine("tiny", device="openvino:gpu.1")  # without instructions for it
    assert engine.precision == "fp16"


def test_a_device_that_openvino_does_not_find(make_engine: Maker, other: OtherCore) -> None:
    make_engine()
    with pytest.raises(MissingComponent, match=r"no GPU\.2 here .*CPU \(.*\), GPU\.0 \(Intel GPU\.0\), .*NPU \(Intel"):
        load_engine("tiny", device="openvino:gpu.2")
    other.able = {"GPU": ["FP32"]}  # a single one is listed without its number
    choose.find("openvino:gpu.0")
    with pytest.raises(MissingComponent, match="no NPU here"):
        choose.find("openvino:npu")


def test_without_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingComponent, match=r"pip install .*\[onnx\]'$"):
        choose.find("onnx")


def _no_driver() -> driver.Driver:
    raise MissingComponent("there is no NVIDIA driver (libcuda.so.1 is not found)")


def _driver() -> driver.Driver:
    return driver.Driver("13.1", ("NVIDIA H200", "NVIDIA L4"))


def test_why_cuda_is_not_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "driver", _no_driver)
    with pytest.raises(MissingComponent, match=r"^CUDA is not usable here because there is no NVIDIA driver"):
        choose.find("cuda")
    monkeypatch.setattr(driver, "driver", _driver)
    with pytest.raises(MissingComponent, match=r"no GPU 2; available: cuda:0 \(NVIDIA H200\), cuda:1 \(NVIDIA L4"):
        choose.find("cuda:2")
    monkeypatch.setattr(driver, "installed", lambda module: module not in ("cuda.core", "tensorrt_rtx"))
    assert driver.missing() == ["cuda-core"]  # the other TensorRT is enough
    with pytest.raises(MissingComponent, match=r"cuda-core is not installed; get it with: .*pip install .*\[rtx\]'"):
        choose.find("cuda:1")
    monkeypatch.setattr(driver, "installed", lambda module: False)
    assert driver.missing() == ["cuda-core", "cuda-bindings", "onnx", "tensorrt-rtx-cu13-bindings or tensorrt-cu13"]


def test_the_driver_is_asked_without_any_package(monkeypatch: pytest.MonkeyPatch) -> None:
    class Library:
        """What libcuda answers on a machine with two GPUs; `status` is cuInit's."""

        status = 0

        def cuInit(self, flags: int) -> int:  # noqa: N802
            return self.status

        def cuDriverGetVersion(self, version: Any) -> int:  # noqa: N802
            version._obj.value = 13010
            return 0

        def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
            count._obj.value = 2
            return 0

        def cuDeviceGetName(self, text: Any, size: int, i: int) -> int:  # noqa: N802
            text.value = f"GPU {i}".encode()
            return 0

    monkeypatch.setattr(driver.ctypes, "CDLL", lambda name: Library())
    assert driver.driver.__wrapped__() == driver.Driver("13.1", ("GPU 0", "GPU 1"))
    Library.status = 999
    with pytest.raises(MissingComponent, match=r"cuInit .* returned error 999"):
        driver.driver.__wrapped__()

    def absent(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(driver.ctypes, "CDLL", absent)
    with pytest.raises(MissingComponent, match="there is no NVIDIA driver"):
        driver.driver.__wrapped__()


# "auto".


def test_crops_in_memory_are_for_the_host_s_devices(make_engine: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a run takes a GPU, `rtface.pipeline.runtime` decides: its engines want crops that lie there."""
    _openvino()
    make_engine()
    monkeypatch.setattr(driver, "driver", _driver)
    monkeypatch.setattr(driver, "missing", list)
    assert choose.order("auto") == ("cpu", "onnx")
    with pytest.raises(UsageError, match="need crops in GPU memory"):
        load_engine("tiny", device="cuda")
    monkeypatch.setattr(driver, "driver", _no_driver)
    with pytest.raises(MissingComponent, match="CUDA is not usable here because"):
        driver.take("cuda:1")


def test_a_plan_that_fails_leads_to_the_next_device(make_engine: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    openvino = _openvino()
    pytest.importorskip("onnxruntime")
    make_engine()
    monkeypatch.setattr(driver, "driver", _no_driver)

    def broken(*_: Any, **__: Any) -> None:
        raise EngineError("no room")

    monkeypatch.setattr(openvino, "OpenVinoPlan", broken)
    engine = load_engine("tiny", threads=1)
    assert engine.device == "onnx"
    assert "device cpu returned no usable answer" in engine.reason
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EngineError, match="no room"):
        load_engine("tiny", threads=1)


def test_speed_is_remembered_by_device(make_engine: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    _openvino()
    pytest.importorskip("onnxruntime")
    make_engine()
    monkeypatch.setattr(driver, "driver", _no_driver)

    def known(device: str) -> Any:
        return next((row.ms, row.device) for row in list_engines(device=device) if row.name == "tiny")

    ms = load_engine("tiny", device="onnx", threads=1).measure()
    assert known("onnx") == (ms, "onnx")
    assert known("cpu") == known("auto") == (None, None)  # "auto" would take the CPU, which was not timed
    ms = load_engine("tiny", device="auto", threads=1).measure()
    assert known("cpu") == known("auto") == (ms, "cpu")
    with pytest.raises(MissingComponent, match="CUDA is not usable here"):
        list_engines(device="cuda")
