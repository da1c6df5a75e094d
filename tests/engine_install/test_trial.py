"""Foreign networks are run for the first time in a process of their own, which can be ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from rtface.engine.recipe import Recipe
from rtface.engine.recipe_tables import Golden, Licence, Output, Port, Psnr, WeightsFile
from rtface.errors import EngineError, InputError
from rtface_engines import trial
from rtface_engines.generic_onnx import inspect
from tests.engine.tiny_onnx import convolutions, endless


def recipe_of(folder: Path, data: bytes) -> Recipe:
    (folder / "model.onnx").write_bytes(data)
    return Recipe(
        "tiny",
        "1",
        "a test",
        Licence("MIT", "MIT", True, ""),
        WeightsFile("model.onnx", len(data), "", 0),
        Port("input", 64),
        Output("output"),
        Golden("golden.npz", Psnr(50.0)),
        folder=folder,
    )


def test_goldens_are_computed_in_a_child_and_its_warnings_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trial.write_golden(recipe_of(tmp_path, convolutions(64, [(-1.0, 0.0)])), 1)
    with np.load(tmp_path / "golden.npz") as golden:
        assert len(golden["crops"]) == len(golden["restored"]) > 0
    assert "hardly resemble" in caplog.text


@pytest.mark.slow
def test_a_network_that_never_ends_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="took longer than 3 s"):
        trial.write_golden(recipe_of(tmp_path, endless(64)), 1, limit=3.0)


def test_a_process_that_crashes_is_an_error_of_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "__name__", "tests.engine_install.test_trial")
    with pytest.raises(EngineError, match="ended by SIGSEGV"):
        trial.write_golden(recipe_of(tmp_path, b""), 1)


def golden_apart(parent: object, given: object) -> None:
    """In the place of `trial.golden_apart`: crashes as a native library does."""
    os.kill(os.getpid(), signal.SIGSEGV)


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
def test_adding_an_endless_network_stops_at_once(tmp_path: Path) -> None:
    file = tmp_path / "loop.onnx"
    file.write_bytes(endless(64))
    assert inspect(file).size == 64
    with subprocess.Popen(
        [sys.executable, "-m", "rtface", "engines", "add", "loop", "--from", str(file), "--accept-license"],
        env=os.environ | {"RTFACE_CONFIG_DIR": str(tmp_path / "config")},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        adding = tmp_path / "config" / "engines" / ".adding"
        deadline = time.monotonic() + 60
        while not list(adding.glob("*/new/model.onnx")) and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(1.0)  # it is at its golden crops, or about to start them
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        assert process.wait(30) == 130
        assert time.monotonic() - began < 10
    assert not list(adding.glob("*"))


def test_damaged_onnx_files_are_refused(tmp_path: Path) -> None:
    sound = endless(64)
    deep = b"\x3a\x85\x01" + b"\x2a\x82\x01" + b"\x08\x01" * 65  # a weight of 65 dimensions and no type
    for data in (sound[:-9], deep, sound[:40] + b"\xff" * 40 + sound[80:]):
        (tmp_path / "a.onnx").write_bytes(data)
        with pytest.raises(InputError, match="damaged"):
            trial.inspect(tmp_path / "a.onnx")


def test_the_size_a_file_claims_is_not_reserved(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(endless(64) + b"\x08\x01" * 1_000_001)  # a million repeated fields
    assert trial.inspect(tmp_path / "a.onnx").size == 64
