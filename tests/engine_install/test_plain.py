"""Networks in ONNX that are taken as they are."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from rtface.cli.app import app
from rtface.engine.engine_set import EngineRequest, EngineSet
from rtface.engine.recipe import load_recipe
from rtface.errors import InputError, MissingComponent
from rtface_engines.generic_onnx import inspect
from tests.engine.tiny_onnx import DOUBLE, FLOAT, convolutions, faithful, keeping, remembering
from tests.engine_install.published import Publisher


def call(*words: object) -> Result:
    return CliRunner().invoke(app, ["engines", "add", *map(str, words), "--accept-license"])


def folder(name: str) -> Path:
    return Path(os.environ["RTFACE_CONFIG_DIR"]) / "engines" / name


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_a_network_of_ones_own(published: Publisher, tmp_path: Path) -> None:
    path = written(tmp_path / "a.onnx", convolutions(64, [(0.5, 0.0)]))
    result = call("mine", "--from", path)
    assert result.exit_code == 0, result.output
    assert "rtface does not know an engine mine; it is added as your own engine" in result.stderr
    assert "checked in f32; this takes seconds, for a large network minutes" in result.stderr
    recipe = load_recipe(folder("mine") / "recipe.toml")
    assert (recipe.input.size, recipe.batch.max, recipe.weights.parameters) == (64, 16, 12)
    assert recipe.precision.default == "f32"  # in bf16 some networks compile for a quarter of an hour
    assert not recipe.licence.commercial_use and recipe.controls.fidelity is None
    assert recipe.model_path.read_bytes() == path.read_bytes()
    engines = EngineSet("mine", device="onnx", threads=1)
    crops = np.random.default_rng(0).random((1, 3, 64, 64), np.float32)
    np.testing.assert_allclose(engines.pick(9).submit(crops).result().pixels, 0.5 * crops + 0.25, atol=1e-4)
    engines.close()


def test_a_known_name_brings_its_licence(published: Publisher, tmp_path: Path) -> None:
    path = written(tmp_path / "a.onnx", convolutions(64, [(0.5, 0.0)]))
    assert call("tiny-2", "--from", path).exit_code == 0
    recipe = load_recipe(folder("tiny-2") / "recipe.toml")
    assert (recipe.family, recipe.licence.weights, recipe.summary) == ("GAN", "S-Lab-1.0", "the second")
    assert recipe.precision.default == "bf16"
    assert "an ONNX file does not tell which network it contains" in call("--from", path).stderr


@pytest.mark.parametrize(
    ("port", "device"),
    [
        ((("n", 1), FLOAT, "n"), "cpu"),
        (((), DOUBLE, 1), "onnx"),
        ((("n",), FLOAT, "n"), "onnx"),
        (((1, 1), DOUBLE, 1), "cpu"),
    ],
)
def test_a_control_of_any_shape_and_type(
    published: Publisher, tmp_path: Path, device: str, port: tuple[Sequence[int | str], int, Any]
) -> None:
    control, kind, batch = port
    path = written(tmp_path / "a.onnx", faithful(64, control=control, kind=kind, batch=batch))
    result = call("mine", "--from", path)
    assert result.exit_code == 0, result.output
    recipe = load_recipe(folder("mine") / "recipe.toml")
    assert recipe.controls.fidelity is not None and recipe.batch.max == (16 if "n" in control and batch == "n" else 1)
    crops = np.random.default_rng(0).random((1, 3, 64, 64), np.float32)
    for fidelity, gain in ((None, 0.5), (0.25, 0.25)):
        engines = EngineSet(EngineRequest("mine", fidelity), device=device, threads=1)
        found = engines.pick(9).submit(crops).result().pixels
        np.testing.assert_allclose(found, gain * (2 * crops - 1) / 2 + 0.5, atol=8e-3)
        engines.close()


def test_the_written_network_is_right_by_the_book(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    network = inspect(written(tmp_path / "a.onnx", faithful(64, control=(), kind=DOUBLE, batch=1)))
    network.write(tmp_path / "b.onnx")
    model = onnx.load(tmp_path / "b.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert len(model.graph.output) == 1


def test_further_outputs_are_left_out(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(convolutions(64, [(0.5, 0.0), (1.0, 0.0)]))
    model.graph.output.add().CopyFrom(model.graph.output[0])
    model.graph.output[1].name = "h0"
    network = inspect(written(tmp_path / "a.onnx", model.SerializeToString()))
    assert (network.output.name, network.outputs) == ("output", 2)
    network.write(tmp_path / "b.onnx")
    assert [v.name for v in onnx.load(tmp_path / "b.onnx").graph.output] == ["output"]


def test_weights_in_other_files_are_refused(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    onnx.save(
        onnx.load_from_string(convolutions(64, [(0.5, 0.0)])),
        tmp_path / "a.onnx",
        save_as_external_data=True,
        size_threshold=0,
        location="weights.bin",
    )
    with pytest.raises(InputError, match="has its weights in other files; combine the files first"):
        inspect(tmp_path / "a.onnx")


def test_without_the_onnx_package_a_rewrite_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingComponent, match=r"pip install onnx$"):
        inspect(written(tmp_path / "a.onnx", faithful(64, control=(), kind=DOUBLE)))
    assert inspect(written(tmp_path / "a.onnx", faithful(64))).control_name == "w"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty; download it again"),
        (b"<html>not found</html>", "is a web page, not a weights file"),
        (np.random.default_rng(3).bytes(5000), "is damaged or not an ONNX file"),
        (convolutions(64, [(0.5, 0.0)])[:-60], "is damaged or not an ONNX file"),
        (convolutions(60, [(0.5, 0.0)]), "expects images of 60×60, but rtface needs a multiple of 16"),
        (convolutions(4096, [(0.5, 0.0)]), "expects images of 4096×4096, but rtface needs .* from 32 to 2048"),
        (remembering(64), "cannot be an engine: rtface needs one .*; this network's inputs are input N×3×64×64 float"),
        (keeping(64, 32), "cannot be an engine"),
        (faithful(64, control=(7,)), "are input N×3×64×64 float32, w 7 float32, its outputs output N×3×64×64 float32"),
    ],
)
def test_what_cannot_be_used_is_said(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        inspect(written(tmp_path / "a.onnx", data))


def test_damage_inside_the_graph_is_an_error_of_the_file(published: Publisher, tmp_path: Path) -> None:
    data = convolutions(64, [(0.5, 0.0)]).replace(b"Conv", b"Cnov")
    result = call("mine", "--from", written(tmp_path / "a.onnx", data))
    assert result.exit_code == 1 and "OpenVINO cannot use" in result.stderr, result.stderr
    assert len(result.stderr.splitlines()) == 1 and not folder("mine").parent.exists()


def test_without_room_nothing_is_written(published: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path / "my own.onnx", convolutions(64, [(0.5, 0.0)]))
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 5})())
    result = call("mine", "--from", file)
    assert result.exit_code == 1 and "MB free, but 0.0 MB are needed; free some space, or move" in result.stderr
    assert (
        f"rtface engines add gfpgan-1.4 --from '{file}'"
        in CliRunner().invoke(app, ["engines", "add", "--from", str(file)]).stderr
    )
    assert list(folder("mine").parent.iterdir()) == []
