"""One whole addition with the real converter, in another Python that has torch; the command itself has none."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from rtface.cli.app import app
from rtface.engine.engine_set import EngineRequest, EngineSet
from rtface.errors import MissingComponent
from rtface_engines import catalogue, convert
from rtface_engines.environment import missing
from tests.engine_install.published import keys_text
from tests.engines.tiny_network import MODEL, OFFERS

ROOT = Path(__file__).parents[2]
GIVEN = os.environ.get("RTFACE_TORCH_PYTHON")  # before a fixture deletes it
SAVE = """
import sys, torch
torch.manual_seed(0)
code = {}
exec(open(sys.argv[1]).read(), code)
state = {"net." + k.replace("inward", "encoder"): v for k, v in code["build"](16).state_dict().items()}
torch.save({"params_ema": state, "epoch": 3}, sys.argv[2])
"""


def _python() -> Path:
    for path in (GIVEN, ROOT / ".venv-train" / "bin" / "python"):
        try:
            if path and not missing(Path(path)):
                return Path(path)
        except MissingComponent:
            continue
    pytest.skip("no Python with torch, onnx, onnxruntime and safetensors: make test-engines sets one up in .venv-train")


@pytest.mark.slow
def test_a_published_file_becomes_an_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = _python()
    folder = tmp_path / "engines" / "tiny"
    folder.mkdir(parents=True)
    (folder / "model.py").write_text(MODEL)
    (folder / "offers.toml").write_text(OFFERS)
    shapes = {
        "encoder.weight": (16, 3, 3, 3),
        "encoder.bias": (16,),
        "middle.weight": (16, 16, 1, 1),
        "middle.bias": (16,),
        "outward.weight": (3, 16, 3, 3),
        "outward.bias": (3,),
        "count": (),
    }
    (folder / "tiny.keys.txt").write_text(keys_text({f"net.{name}": shape for name, shape in shapes.items()}))
    subprocess.run([python, "-c", SAVE, folder / "model.py", tmp_path / "a.pth"], check=True)
    monkeypatch.setattr(catalogue, "published_folder", lambda: tmp_path / "engines")
    monkeypatch.setattr(convert, "converter_root", lambda: ROOT)
    words = ["engines", "add", "--from", str(tmp_path / "a.pth"), "--python", str(python), "--accept-licence"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "checking the network against torch" in result.stderr and "dB against its golden crops" in result.stderr
    crops = np.random.default_rng(0).random((1, 3, 32, 32), np.float32)
    engines = EngineSet(EngineRequest("tiny-1", 0.0), device="onnx", threads=1)
    np.testing.assert_allclose(engines.pick(9).submit(crops).result().pixels, crops, atol=1e-5)
    engines.close()
    (tmp_path / "b.pth").write_bytes((tmp_path / "a.pth").read_bytes()[:-300])
    words[3] = str(tmp_path / "b.pth")
    result = CliRunner().invoke(app, [*words, "--overwrite"])
    assert result.exit_code == 1 and "is damaged or incomplete" in result.stderr
