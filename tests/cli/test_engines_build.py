"""``rtface engines build``: what it asks for, what it shows, and one line for whatever is missing."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rtface.cli.app import app
from rtface.engine import tensorrt
from rtface.engine.cuda import driver
from rtface.engine.plan import GoldenResult, PlanIdentity
from rtface.errors import EngineError


class Gpu:
    closed = False

    def close(self):
        self.closed = True


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """What the command asked of the library, which answers with a plan of 2 MB."""
    calls = []
    (tmp_path / "a.plan").write_bytes(bytes(2_000_000))

    def on(recipe, gpu):
        calls.append((recipe.name, gpu))
        identity = PlanIdentity.of(recipe, "tensorrt-rtx", "1.7", "a GPU", "fp16")
        return tensorrt.BuiltPlan(identity, tmp_path / "a.plan", 1.25, GoldenResult(61.25, 45.0, 0.5))

    monkeypatch.setattr(tensorrt, "build_on", on)
    return calls


def nvidia(monkeypatch, gpu):
    monkeypatch.setattr(driver, "unusable", lambda number: None)
    module = types.ModuleType("rtface.device.cuda.nvidia")

    def open_gpu(index):
        gpu.index = index
        return gpu

    module.NvidiaGpu = open_gpu
    monkeypatch.setitem(sys.modules, "rtface.device.cuda.nvidia", module)


def run(*args):
    return CliRunner().invoke(app, ["engines", "build", *args])


def test_engines_by_name_on_a_gpu(asked, monkeypatch):
    gpu = Gpu()
    nvidia(monkeypatch, gpu)
    result = run("rtface-s", "--device", "cuda:1", "--json")
    assert result.exit_code == 0, result.stderr
    assert asked == [("rtface-s", gpu)]
    assert gpu.index == 1
    assert gpu.closed
    row = json.loads(result.stdout)[0]
    assert (row["engine"], row["precision"], row["psnr"], row["seconds"]) == ("rtface-s", "fp16", 61.25, 1.25)
    assert Path(row["path"]).exists()
    rows = [line.split() for line in run().stdout.splitlines()]
    assert [row[0] for row in rows[1:]] == ["rtface-m", "rtface-m-vivid", "rtface-s"]
    assert rows[3][1:] == ["a", "GPU", "fp16", "2.0", "MB", "1.2", "s", "61.2", "dB"]


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["none"], 2, "unknown engine 'none'"),
        (["rtface-s", "--device", "sm_89"], 2, "on the GPU that runs them, as --device cuda:0, not for 'sm_89'"),
    ],
)
def test_what_cannot_be_used_is_one_line(asked, args, code, words):
    result = run(*args)
    assert result.exit_code == code
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert asked == []


def test_the_precision_cannot_be_chosen_any_more(asked):
    result = run("rtface-s", "--precision", "int8")
    assert result.exit_code == 2
    assert "--precision is gone; a plan is built in fp16, bf16 or fp32" in result.stderr


def test_no_gpu_says_what_is_missing_and_what_to_do(asked, monkeypatch):
    monkeypatch.setattr(
        driver, "unusable", lambda number: "cuda-core is not installed; get it with: pip install '.[rtx]'"
    )
    result = run()
    assert result.exit_code == 1
    assert "pip install '.[rtx]'" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_build_that_fails_is_one_line_and_gives_the_gpu_back(asked, monkeypatch):
    def broken(*_, **__):
        raise EngineError("engine rtface-s: no kernel\nfor this")

    gpu = Gpu()
    nvidia(monkeypatch, gpu)
    monkeypatch.setattr(tensorrt, "build_on", broken)
    result = run("rtface-s")
    assert result.exit_code == 1
    assert result.stderr == "rtface: error: engine rtface-s: no kernel for this\n"
    assert gpu.closed


def test_the_list_is_still_there(monkeypatch):
    monkeypatch.setattr("rtface.engine.listing.list_engines", lambda **_: [])
    result = CliRunner().invoke(app, ["engines"])
    assert result.exit_code == 1
    assert "no engine is installed" in result.stderr
