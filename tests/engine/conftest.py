from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rtface.engine.host_engine import HostEngine
from tests.engine.tiny_onnx import convolutions, faithful

Maker = Callable[..., Path]

TEMPLATE = """
name = "{name}"
version = "1.0"
summary = "a network of the tests"
kind = "restorer"
[licence]
code = "Apache-2.0"
weights = "Apache-2.0"
commercial_use = true
data = "none"
[weights]
file = "model.onnx"
bytes = {bytes}
sha256 = "{sha256}"
parameters = 12
[input]
name = "input"
size = {size}
layout = "NCHW"
range = {range}
colour = "rgb"
[output]
name = "output"
range = {range}
[alignment]
template = "ffhq"
[batch]
min = 1
opt = 1
max = 4
[precision]
default = "bf16"
fallback = "f32"
fp32_nodes = []
[controls]
strength = true
[golden]
file = "golden.npz"
[golden.psnr]
f32 = 60.0
bf16 = 35.0
"""


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes this user's settings and cache."""
    monkeypatch.setenv("RTFACE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RTFACE_CONFIG_DIR", str(tmp_path / "config"))


@pytest.fixture(autouse=True)
def close_engines(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Closes the engines that a test opens."""
    opened: list[HostEngine] = []
    real = HostEngine.__init__

    def init(self: HostEngine, *args: Any, **options: Any) -> None:
        real(self, *args, **options)
        opened.append(self)

    monkeypatch.setattr(HostEngine, "__init__", init)
    yield
    for engine in opened:
        engine.close()


@pytest.fixture
def make_engine(tmp_path: Path) -> Maker:
    """Writes an engine into the user's folder: a chain of x·gain + bias, whose golden answers are `answer(x)`."""

    def make(
        name: str = "tiny",
        layers: Any = ((0.5, 0.25),),
        size: int = 64,
        range_: str = "[0.0, 1.0]",
        answer: Callable[[np.ndarray], np.ndarray] = lambda x: 0.5 * x + 0.25,
        edit: Callable[[str], str] = lambda text: text,
    ) -> Path:
        folder = tmp_path / "config" / "engines" / name
        folder.mkdir(parents=True)
        data = convolutions(size, list(layers))
        (folder / "model.onnx").write_bytes(data)
        crops = np.random.default_rng(1).integers(0, 256, (2, size, size, 3)).astype(np.uint8)
        restored = answer(crops.astype(np.float32).transpose(0, 3, 1, 2) / 255).astype(np.float32)
        np.savez(folder / "golden.npz", crops=crops, restored=restored)
        text = TEMPLATE.format(
            name=name, bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), size=size, range=range_
        )
        (folder / "recipe.toml").write_text(edit(text))
        return folder

    return make


CONTROL = '[controls]\nfidelity = { name = "w", default = 0.5 }\n'


@pytest.fixture
def make_faithful(make_engine: Maker) -> Callable[..., Path]:
    """Engines that answer input·w, w the control, 0.5 by default."""

    def make(name: str = "faithful", edit: Callable[[str], str] = lambda text: text) -> Path:
        data = faithful(64)
        folder = make_engine(name, answer=lambda x: 0.5 * x)
        (folder / "model.onnx").write_bytes(data)
        text = (folder / "recipe.toml").read_text().replace("[controls]\n", CONTROL)
        lines = [f"bytes = {len(data)}" if line.startswith("bytes") else line for line in text.splitlines()]
        lines = [
            f'sha256 = "{hashlib.sha256(data).hexdigest()}"' if line.startswith("sha256") else line for line in lines
        ]
        (folder / "recipe.toml").write_text(edit("\n".join(lines)))
        return folder

    return make
