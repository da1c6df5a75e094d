"""One whole addition with the real converter, in another Python that has torch; the command itself has none."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from rtface.cli.app import app
from rtface.engine import EngineRequest, EngineSet
from rtface.engine_install import catalogue, convert
from rtface.engine_install.environment import missing
from rtface.errors import MissingComponent
from tests.engine_install.published import keys_text

ROOT = Path(__file__).parents[2]
MODEL = '''
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.stem, self.out = nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, 3, 3, padding=1)
    def forward(self, crop, fidelity):
        w = fidelity[:, :, None, None]
        return crop * w + (1 - w) * torch.tanh(self.out(torch.relu(self.stem(crop))))

def build(width=4):
    return Net(width)
'''
OFFERS = '''
[architecture]
name = "small"
[licence]
code = "Apache-2.0"
weights = "CC0-1.0"
commercial_use = true
data = "none"
[input]
name = "crop"
size = 64
range = [-1, 1]
[output]
name = "restored"
range = [-1, 1]
[controls]
fidelity = { name = "fidelity", default = 0.5 }
[precision]
default = "bf16"
fp32_nodes = ["/out/*"]
[psnr]
f32 = 55.0
bf16 = 30.0
[[offers]]
name = "small-8"
version = "1"
summary = "a network of the tests"
variant = { width = 8 }
keys = "small.keys.txt"
states = ["params"]
prefix = "net."
'''
SAVE = '''
import sys, torch
torch.manual_seed(0)
code = {}
exec(open(sys.argv[1]).read(), code)
torch.save({"params": {"net." + k: v for k, v in code["build"](8).state_dict().items()}, "epoch": 3}, sys.argv[2])
'''


def _python() -> Path:
    for path in (os.environ.get("RTFACE_TORCH_PYTHON"), ROOT / ".venv-train" / "bin" / "python"):
        try:
            if path and not missing(Path(path)):
                return Path(path)
        except MissingComponent:
            continue
    pytest.skip("no Python with torch, onnx, onnxruntime and safetensors: make test-engines sets one up in .venv-train")


def test_a_published_file_becomes_an_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = _python()
    folder = tmp_path / "engines" / "small"
    folder.mkdir(parents=True)
    (folder / "model.py").write_text(MODEL)
    (folder / "offers.toml").write_text(OFFERS)
    shapes = {"stem.weight": (8, 3, 3, 3), "stem.bias": (8,), "out.weight": (3, 8, 3, 3), "out.bias": (3,)}
    (folder / "small.keys.txt").write_text(keys_text({f"net.{name}": shape for name, shape in shapes.items()}))
    subprocess.run([python, "-c", SAVE, folder / "model.py", tmp_path / "a.pth"], check=True)
    monkeypatch.setattr(catalogue, "beside", lambda: tmp_path / "engines")
    monkeypatch.setattr(convert, "converter_root", lambda: ROOT)
    words = ["engines", "add", "--from", str(tmp_path / "a.pth"), "--python", str(python), "--accept-licence"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "checking the network against torch" in result.stderr and "dB against its golden crops" in result.stderr
    crops = np.random.default_rng(0).random((1, 3, 64, 64), np.float32)
    engines = EngineSet(EngineRequest("small-8", 1.0), device="onnx", threads=1)
    np.testing.assert_allclose(engines.pick(9).submit(crops).result().pixels, crops, atol=1e-5)
    engines.close()
    (tmp_path / "b.pth").write_bytes((tmp_path / "a.pth").read_bytes()[:-300])
    words[3] = str(tmp_path / "b.pth")
    result = CliRunner().invoke(app, [*words, "--overwrite"])
    assert result.exit_code == 1 and "is damaged or not whole" in result.stderr
