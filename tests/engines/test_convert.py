"""The converter, on a network of a few weights: what it writes, and what it says of files that do not fit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.engines.common import ROOT, onnx, ort, torch
from tests.engines.tiny_network import MODEL, OFFERS

safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed: make test-engines")

from engines.convert import __main__ as program  # noqa: E402
from engines.convert import whole as steps  # noqa: E402
from engines.convert.graph import fold  # noqa: E402
from rtface.engine.backends.int8 import load_calibration  # noqa: E402
from rtface.engine.golden import load_golden  # noqa: E402


class Case:
    def __init__(self, folder: Path) -> None:
        self.folder, self.out, self.crops, self.weights = (folder / n for n in ("tiny", "out", "crops.npz", "tiny.pth"))
        self.folder.mkdir()
        (self.folder / "model.py").write_text(MODEL)
        (self.folder / "offers.toml").write_text(OFFERS)
        self.pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
        np.savez(self.crops, crops=self.pixels)
        code = types.ModuleType("tiny")
        exec(MODEL, code.__dict__)
        torch.manual_seed(1)
        self.net = code.build(16)
        self.state = OrderedDict(("net." + name.replace("inward", "encoder"), value)
                                 for name, value in self.net.state_dict().items())  # fmt: skip

    def arguments(self) -> list[str]:
        pairs = {"folder": self.folder, "offer": "tiny-1", "weights": self.weights, "crops": self.crops,
                 "out": self.out}  # fmt: skip
        return [str(word) for name, value in pairs.items() for word in (f"--{name}", value)]

    def run(self, capsys: Any, monkeypatch: Any) -> tuple[int, list[dict[str, Any]]]:
        monkeypatch.setattr(sys, "argv", ["convert", *self.arguments()])
        code = program.main()
        return code, [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    def refusal(self, capsys: Any, monkeypatch: Any) -> str:
        """What is said of a file that must not be taken; nothing may be left of the attempt."""
        code, said = self.run(capsys, monkeypatch)
        assert code == 1 and not list(self.out.glob("*"))
        return said[-1]["error"]


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def test_a_network_is_written_whole_and_as_torch_computes_it(case: Case) -> None:
    torch.save({"params": {}, "params_ema": case.state | {"other.weight": torch.ones(1)}}, case.weights)
    ran = subprocess.run([sys.executable, "-m", "engines.convert", *case.arguments()], capture_output=True, text=True,
                         env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False)  # fmt: skip
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    result = lines[-1]["result"]
    assert ran.returncode == 0 and result["parameters"] == 16 * 27 + 16 + 16 * 16 + 16 + 16 * 27 + 3
    assert result["onnx_error"] < 1e-6 and result["bytes"] == (case.out / "model.onnx").stat().st_size
    assert [line["stage"] for line in lines[:-1] if line["done"] == 1] == ["load", "export", "golden", "check"]
    assert sorted(p.name for p in case.out.iterdir()) == ["golden.npz", "model.onnx"]

    model = onnx.load(case.out / "model.onnx")
    kinds = {n.op_type for n in model.graph.node}
    assert kinds == {"Conv", "Softmax", "Unsqueeze", "Mul", "Add"}, "constants are folded"
    assert result["fp32_nodes"] == [n.name for n in model.graph.node if n.op_type == "Softmax"]
    session = ort.InferenceSession(model.SerializeToString())
    crops = (case.pixels.transpose(0, 3, 1, 2) / 127.5 - 1).astype(np.float32)[[0, 1, 0, 1]]
    turned = np.array([[0], [0.3], [1], [2]], np.float32)
    with torch.no_grad():
        wanted = case.net(torch.from_numpy(crops), torch.from_numpy(turned)).numpy()
    np.testing.assert_allclose(session.run(None, {"crop": crops, "fidelity": turned})[0], wanted, atol=1e-5)


def test_goldens_are_read_by_the_run_time(case: Case, capsys: Any, monkeypatch: Any) -> None:
    """Of a file that holds the network alone, its names without the offer's prefix."""
    case.weights = case.weights.with_suffix(".safetensors")
    safetensors.save_file({name.removeprefix("net."): value for name, value in case.state.items()}, case.weights)
    assert case.run(capsys, monkeypatch)[0] == 0
    recipe: Any = types.SimpleNamespace(golden_path=case.out / "golden.npz", name="tiny",
                                        golden=types.SimpleNamespace(sha256=""),
                                        input=types.SimpleNamespace(size=32))  # fmt: skip
    crops, answers = load_golden(recipe)
    np.testing.assert_allclose(crops, case.pixels.transpose(0, 3, 1, 2) / 255, atol=1e-6)
    with torch.no_grad():
        wanted = case.net(torch.from_numpy(crops * 2 - 1), torch.full((2, 1), 0.5)).numpy() / 2 + 0.5
    assert answers.min() >= 0 and answers.max() <= 1
    np.testing.assert_allclose(answers, wanted.clip(0, 1), atol=3e-4)


def test_ranges_for_int8_come_from_all_crops_but_the_first(case: Case, capsys: Any, monkeypatch: Any) -> None:
    """Where the offer says how good int8 has to be; the run time reads them."""
    path = case.folder / "offers.toml"
    path.write_text(OFFERS.replace("[psnr]", "[psnr]\nint8 = 30.0"))
    torch.save({"params_ema": case.state}, case.weights)
    code, said = case.run(capsys, monkeypatch)
    assert code == 0 and {"stage": "int8", "done": 1.0} in said
    recipe: Any = types.SimpleNamespace(folder=case.out, name="tiny",
                                        weights=types.SimpleNamespace(sha256=said[-1]["result"]["sha256"]))  # fmt: skip
    found = load_calibration(recipe)
    assert found is not None and found.crops == (0, 1)
    (only,) = found.convolutions  # those that see or give pixels stay exact
    with torch.no_grad():
        seen = case.net.inward(torch.from_numpy(case.pixels[1:].transpose(0, 3, 1, 2) / 127.5 - 1).float())
    assert only.name == "/middle/Conv"
    assert float(seen.min()) <= only.low < float(seen.quantile(0.01))
    assert float(seen.quantile(0.99)) < only.high <= float(seen.max())


class Callback:
    """As a trainer leaves one in a checkpoint."""


def test_what_a_trainer_left_beside_the_tensors_is_not_built(case: Case, capsys: Any, monkeypatch: Any) -> None:
    trainer = types.ModuleType("pytorch_lightning.callbacks")
    monkeypatch.setattr(Callback, "__module__", trainer.__name__)
    trainer.Callback = Callback  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pytorch_lightning", types.ModuleType("pytorch_lightning"))
    monkeypatch.setitem(sys.modules, trainer.__name__, trainer)
    left = Callback()
    left.best = 1.0  # type: ignore[attr-defined]
    case.weights = case.weights.with_suffix(".ckpt")
    torch.save({"callbacks": {Callback: left}, "state_dict": case.state}, case.weights)
    monkeypatch.delitem(sys.modules, trainer.__name__)
    assert case.run(capsys, monkeypatch)[0] == 0


class Bomb:
    def __reduce__(self) -> Any:
        return os.mkdir, (os.environ["RTFACE_TEST_BOMB"],)


@pytest.mark.parametrize("zipped", [True, False])
def test_no_code_of_a_file_runs(case: Case, capsys: Any, monkeypatch: Any, tmp_path: Path, zipped: bool) -> None:
    monkeypatch.setenv("RTFACE_TEST_BOMB", str(tmp_path / "bomb"))
    torch.save({"params_ema": case.state, "more": Bomb()}, case.weights, _use_new_zipfile_serialization=zipped)
    assert "damaged or not a weights file" in case.refusal(capsys, monkeypatch)
    assert not (tmp_path / "bomb").exists()


def _half(case: Case) -> None:
    torch.save({"params_ema": case.state}, case.weights)
    whole = case.weights.read_bytes()
    case.weights.write_bytes(whole[: len(whole) // 2])


def _cut_safetensors(case: Case) -> None:
    case.weights = case.weights.with_suffix(".safetensors")
    safetensors.save_file(case.state, case.weights)
    case.weights.write_bytes(case.weights.read_bytes()[:-100])


def _not_a_number(case: Case) -> None:
    case.state["net.encoder.bias"].fill_(float("nan"))
    torch.save({"params_ema": case.state}, case.weights)


@pytest.mark.parametrize(("prepare", "said"), [
    (_half, "damaged or not a weights file"),
    (_cut_safetensors, "damaged or not a weights file"),
    (_not_a_number, "damaged: inward.bias contains values that are not numbers"),
])  # fmt: skip
def test_a_damaged_file_is_named_in_a_line(case: Case, capsys: Any, monkeypatch: Any, prepare: Any, said: str) -> None:
    prepare(case)
    error = case.refusal(capsys, monkeypatch)
    assert said in error and "\n" not in error, error


def test_a_network_that_onnx_computes_otherwise_is_not_kept(case: Case, capsys: Any, monkeypatch: Any) -> None:
    # Tracing makes a constant of a number that depends on the crop.
    text = MODEL.replace("fidelity[:,", "(1 + float(crop.std())) * fidelity[:,")
    (case.folder / "model.py").write_text(text)
    torch.save({"params_ema": case.state}, case.weights)
    assert "ONNX differs from torch by" in case.refusal(capsys, monkeypatch)


def test_a_crop_where_rounding_chooses_is_no_golden(case: Case, capsys: Any, monkeypatch: Any) -> None:
    """One of three may differ, two may not."""
    pixels = np.random.default_rng(5).integers(0, 256, (3, 32, 32, 3), np.uint8)
    np.savez(case.crops, crops=pixels)
    torch.save({"params_ema": case.state}, case.weights)
    true, jumps = steps.difference, [1]

    def apart(offer: Any, session: Any, crops: Any, wanted: Any, controls: Any) -> float:
        jumping = any(np.allclose(crop, steps.as_floats(pixels, offer)[k]) for crop in crops for k in jumps)
        return true(offer, session, crops, wanted, controls) + jumping

    monkeypatch.setattr(steps, "difference", apart)
    code, said = case.run(capsys, monkeypatch)
    assert code == 0 and said[-1]["result"]["left_out"] == 1
    with np.load(case.out / "golden.npz") as file:
        assert np.array_equal(file["crops"], pixels[[0, 2]]) and len(file["restored"]) == 2
    for file in case.out.iterdir():
        file.unlink()
    jumps.append(2)
    assert "ONNX differs from torch by 1 of the range" in case.refusal(capsys, monkeypatch)


def test_a_pattern_that_names_nothing_is_an_error(case: Case, capsys: Any, monkeypatch: Any) -> None:
    path = case.folder / "offers.toml"
    path.write_text(path.read_text().replace("*/softened/*", "*/norm/*"))
    torch.save({"params_ema": case.state}, case.weights)
    assert "no node of the network has a name like */norm/*" in case.refusal(capsys, monkeypatch)


def test_crops_of_another_size_are_refused(case: Case, capsys: Any, monkeypatch: Any) -> None:
    np.savez(case.crops, crops=case.pixels[:, :16])
    torch.save({"params_ema": case.state}, case.weights)
    assert "must be uint8 N×32×32×3, got uint8 (2, 16, 32, 3)" in case.refusal(capsys, monkeypatch)


def test_folding_does_not_make_a_file_larger() -> None:
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    row, column = np.ones((1, 400), np.float32), np.ones((400, 1), np.float32)
    sums = {"large": ["row", "column"], "twice": ["row", "row"], "y": ["x", "large"], "z": ["y", "twice"]}
    nodes = [helper.make_node("Add", inputs, [name]) for name, inputs in sums.items()]
    port = helper.make_tensor_value_info
    stored = [numpy_helper.from_array(row, "row"), numpy_helper.from_array(column, "column")]
    graph = helper.make_graph(nodes, "g", [port("x", 1, [400, 400])], [port("z", 1, [400, 400])], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    fold(model)
    onnx.checker.check_model(model)
    assert [n.output[0] for n in model.graph.node] == ["large", "y", "z"]
