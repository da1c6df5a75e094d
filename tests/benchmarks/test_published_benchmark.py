"""What benchmarks.gpu measures of published restorers: which it finds, which plan it takes, its table."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rtface.engine.plan import GoldenResult, PlanIdentity
from rtface.engine.recipe import Recipe, load_recipe
from rtface.engine.recipe_tables import Psnr
from rtface.errors import EngineError
from tests.device.cuda.host_kernels import compiler
from tests.engine.conftest import TEMPLATE
from tests.engine.tiny_onnx import convolutions

ROOT = Path(__file__).parents[2]

pytest.importorskip("onnx", reason="the onnx package is not installed")

from benchmarks.gpu import published  # noqa: E402


def engine(folder: Path) -> Recipe:
    """An engine of the user's that has a published one's name."""
    folder.mkdir(parents=True)
    data = convolutions(64, [(0.5, 0.25)])
    (folder / "model.onnx").write_bytes(data)
    crops = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    answers = crops.transpose(0, 3, 1, 2).astype(np.float32) / 255 * 0.5 + 0.25
    np.savez(folder / "golden.npz", crops=crops, restored=answers)
    (folder / "recipe.toml").write_text(
        TEMPLATE.format(
            name=folder.name, bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), size=64, range="[0.0, 1.0]"
        )
    )
    return load_recipe(folder / "recipe.toml")


def dry(out: Path, names: str, **environment: str) -> tuple[dict[str, Any], str]:
    """The result file of a dry run, and what it printed."""
    compiler()
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", "published", "--dry", "--published", names, "--out", str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        env=os.environ | {"RTFACE_CONFIG_DIR": str(out / "config")} | environment,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert " fails: " not in run.stderr, run.stderr[-3000:]
    return json.loads((out / "gpu_published.json").read_text())["networks"], run.stdout


@pytest.mark.slow
def test_without_pytorch_the_users_own_are_measured(tmp_path: Path) -> None:
    engine(tmp_path / "config" / "engines" / "gfpgan-1.4")
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "torch.py").write_text("raise ImportError('hidden')\n")
    found, said = dry(tmp_path, "gfpgan-1.4,codeformer", PYTHONPATH=str(hidden))
    assert "rtface engines add codeformer" in found["codeformer"]["error"]
    mine = found["gfpgan-1.4"]
    assert mine["weights"] == "the user's" and set(mine["batches"]) == {"1", "2"}
    assert set(mine["batches"]["2"]) == {"ours", "ours without graphs", "ratios"}
    assert any(line.startswith("| gfpgan-1.4 | f32, 100.0 (50.0) | 2 |") for line in said.splitlines())


def test_with_pytorch_the_others_have_random_weights(tmp_path: Path) -> None:
    if importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed: make test-engines sets it up")
    found, said = dry(tmp_path, "gfpgan-1.4")
    mine = found["gfpgan-1.4"]
    assert mine["weights"] == "random" and mine["parameters"] > 1e5
    assert {"ours", "torch fp32 eager", "torch fp16 eager", "torch bf16 channels-last"} <= set(mine["batches"]["2"])
    assert "random weights" in said


class Gpu:
    """A bench whose plans are made here: `psnr` by precision, an error where it is text."""

    dry = False

    def __init__(self, monkeypatch: pytest.MonkeyPatch, recipe: Recipe, psnr: dict[str, float | str]) -> None:
        self.closed: list[str] = []

        def build(recipe: Recipe, precision: Any) -> Any:
            if isinstance(found := psnr[precision], str):
                raise EngineError(found)
            return SimpleNamespace(
                identity=PlanIdentity.of(recipe, "tests", "1", "gpu", precision),
                close=lambda: self.closed.append(precision),
            )

        monkeypatch.setattr(published, "backend", lambda bench: (("fp16", "bf16", "f32"), build, "a test"))
        monkeypatch.setattr(
            published,
            "gate",
            lambda recipe, plan: GoldenResult(
                float(psnr[plan.identity.precision]), getattr(recipe.golden.psnr, plan.identity.precision), 1.0
            ),
        )

    def run(self, step: Any) -> Any:
        return step()


@pytest.mark.parametrize(
    ("psnr", "any_", "taken", "closed"),
    [
        ({"fp16": 60.0}, False, "fp16", []),
        ({"fp16": 20.0, "bf16": 50.0}, False, "bf16", ["fp16"]),
        ({"fp16": 20.0}, True, "fp16", []),  # random weights
        ({"fp16": "no kernel", "bf16": 20.0}, True, "bf16", []),
        ({"fp16": "no kernel", "bf16": 20.0, "f32": 99.0}, False, "f32", ["bf16"]),
    ],
)
def test_which_plan_is_timed(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    psnr: dict[str, float | str],
    any_: bool,
    taken: str,
    closed: list[str],
) -> None:
    recipe = engine(tmp_path / "tiny")
    recipe = replace(recipe, golden=replace(recipe.golden, psnr=Psnr(f32=60.0, bf16=35.0, fp16=40.0)))
    gpu = Gpu(monkeypatch, recipe, psnr)
    plan, verdicts, why = published.judged(gpu, recipe, take_any=any_)  # type: ignore[arg-type]
    assert plan.identity.precision == taken and why == "a test" and gpu.closed == closed
    assert list(verdicts) == list(psnr)
    for precision, found in psnr.items():
        if isinstance(found, str):
            assert verdicts[precision] == {"error": found}
        else:
            assert verdicts[precision]["psnr"] == found
            assert verdicts[precision]["passed"] == (found >= verdicts[precision]["required"])


def test_what_has_no_plan_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    recipe = engine(tmp_path / "tiny")
    gpu = Gpu(monkeypatch, recipe, {"bf16": 20.0, "f32": "no memory"})
    with pytest.raises(EngineError, match=r"no plan of it can be used.*no memory"):
        published.judged(gpu, recipe, take_any=False)  # type: ignore[arg-type]
    assert gpu.closed == ["bf16"]


def test_the_table() -> None:
    times = {"ours": [2.0, 4.0], "torch fp32 eager": [8.0, 32.0], "torch.compile bf16": [3.0, 6.0]}
    figures = published.summary(times, 4, 10**9)
    assert figures["ours"]["crops_per_s"] == 1333.3 and figures["ours"]["tflops"] == 1.3
    one = {
        "precision": "fp16",
        "weights": "random",
        "batches": {"4": figures},
        "gate": {"fp16": {"psnr": 31.25, "required": 40.0, "passed": False}},
    }
    *_, line, error = published.table({"gfpgan-1.4": one, "osediff-face": {"error": "out of memory"}})
    assert line == (
        "| gfpgan-1.4 | fp16, 31.2 (40.0), refused, random weights | 4 | 3.00 / 3.90 / 3.98 | 1333.3 | "
        "6.00 (4.00) | 1.50 (1.50) |"
    )
    assert error == "| osediff-face | out of memory | | | | | |"
