"""Engines through PyTorch, on the CPU. What only a GPU can show is stood in for: memory of the GPU by tensors of the
host, its stream by nothing."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rtface.engine.backends import choose
from rtface.engine.engine_set import load_engine
from rtface.engine.plan import gate
from rtface.engine.recipe import Recipe, find_recipes, load_recipe
from rtface.errors import DeviceLost, EngineError, MissingComponent, OutOfDeviceMemory

from .conftest import Maker
from .tiny_onnx import remembering

torch = pytest.importorskip("torch", reason="torch is an extra: pip install -e '.[torch]'")
onnx = pytest.importorskip("onnx", reason="onnx is an extra: pip install -e '.[torch]'")

from rtface.engine.torch_backend import pytorch  # noqa: E402
from rtface.engine.torch_backend.pytorch import TorchPlan  # noqa: E402


def _recipe(folder: Path) -> Recipe:
    return load_recipe(folder / "recipe.toml")


def _crops(n: int = 1) -> np.ndarray:
    return np.random.default_rng(3).random((n, 3, 64, 64), np.float32)


def test_an_engine_runs_in_torch(make_engine: Maker) -> None:
    make_engine()
    engine = load_engine("tiny", device="torch", threads=1)
    assert (engine.device, engine.precision) == ("torch", "f32")
    assert engine.backend.startswith("torch 2.")
    assert "1 thread (PyTorch on this CPU computes in fp32 only)" in engine.reason
    assert torch.get_num_threads() == 1
    crops = _crops(3)
    np.testing.assert_allclose(engine.submit(crops).result().pixels, 0.5 * crops + 0.25, atol=1e-6)
    engine.close()
    with pytest.raises(RuntimeError):
        engine.submit(crops)


@pytest.mark.parametrize("name", ["rtface-s", "rtface-m", "rtface-s-vivid"])
def test_ours_pass_their_gate(name: str) -> None:
    recipe = load_recipe(find_recipes()[name])
    plan = TorchPlan(recipe, "f32", 2)
    verdict = gate(recipe, plan)
    assert verdict.passed
    assert verdict.psnr > 65  # what rounding leaves of the goldens
    plan.close()
    with pytest.raises(EngineError, match="is closed"):
        plan.run({}, {})


def test_a_batch_gives_what_single_crops_give(make_engine: Maker) -> None:
    plan = TorchPlan(_recipe(make_engine()), "f32", 1)
    crops, together, alone = _crops(3), np.empty((3, 3, 64, 64), np.float32), np.empty((3, 3, 64, 64), np.float32)
    plan.run({"input": crops}, {"output": together})
    for i in range(3):
        plan.run({"input": crops[i:i + 1]}, {"output": alone[i:i + 1]})
    np.testing.assert_allclose(together, alone, atol=1e-6)
    with pytest.raises(EngineError, match=r"output output is \(3, 3, 64, 64\), not \(2, "):
        plan.run({"input": crops}, {"output": together[:2]})


def test_half_precision_with_nodes_in_fp32(make_engine: Maker) -> None:
    """x + 256 − 256 leaves nothing of x in bf16."""
    layers = ((1.0, 256.0), (1.0, -256.0))
    crops, answer = _crops(), np.empty((1, 3, 64, 64), np.float32)
    for name, nodes, error in (("rough", "", (0.1, 1.0)), ("kept", '"conv0", "conv1"', (0.0, 0.01))):
        folder = make_engine(name, layers=layers, answer=lambda x: x,
                             edit=lambda text, nodes=nodes: text.replace("fp32_nodes = []", f"fp32_nodes = [{nodes}]"))
        TorchPlan(_recipe(folder), "bf16", 1).run({"input": crops}, {"output": answer})
        assert error[0] <= np.abs(answer - crops).max() <= error[1]
    wrong = make_engine("wrong", edit=lambda text: text.replace("fp32_nodes = []", 'fp32_nodes = ["conv7"]'))
    with pytest.raises(EngineError, match="engine wrong: the network has no node conv7"):
        TorchPlan(_recipe(wrong), "bf16", 1)
    TorchPlan(_recipe(wrong), "f32", 1)  # all of it is in fp32


@pytest.mark.parametrize(("old", "new"), [('name = "output"', 'name = "outptu"'), ('name = "input"', 'name = "inptu"')])
def test_a_tensor_that_the_network_does_not_have(make_engine: Maker, old: str, new: str) -> None:
    make_engine(edit=lambda text: text.replace(old, new))
    with pytest.raises(EngineError, match="engine tiny"):
        load_engine("tiny", device="torch", threads=1)


def _replaced(folder: Path, data: bytes) -> None:
    """Another network under the same recipe."""
    old, text = (folder / "model.onnx").read_bytes(), (folder / "recipe.toml").read_text()
    text = text.replace(hashlib.sha256(old).hexdigest(), hashlib.sha256(data).hexdigest())
    (folder / "recipe.toml").write_text(text.replace(f"bytes = {len(old)}", f"bytes = {len(data)}"))
    (folder / "model.onnx").write_bytes(data)


def test_a_network_that_cannot_be_read_or_computed(make_engine: Maker) -> None:
    folder = make_engine()
    data = (folder / "model.onnx").read_bytes()
    _replaced(folder, data[:len(data) // 2])
    with pytest.raises(EngineError, match="engine tiny: PyTorch failed"):
        load_engine("tiny", device="torch", threads=1)
    _replaced(folder, data.replace(b"Conv", b"Cnov"))
    with pytest.raises(EngineError, match="engine tiny: the PyTorch backend does not know the network's operator Cnov"):
        load_engine("tiny", device="torch", threads=1)


def test_what_pytorch_raises_becomes_ours(make_engine: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = TorchPlan(_recipe(make_engine()), "f32", 1)
    for raised, ours in ((torch.OutOfMemoryError("CUDA out of memory\nmore"), OutOfDeviceMemory),
                         (torch.AcceleratorError("CUDA error: launch failure"), DeviceLost),
                         (RuntimeError("shapes"), EngineError)):
        def fails(_: Any, raised: Exception = raised) -> None:
            raise raised
        monkeypatch.setattr(plan._network, "forward", fails)
        with pytest.raises(ours) as caught:
            plan.run({"input": _crops()}, {"output": _crops()})
        assert str(caught.value) == f"engine tiny: PyTorch failed: {str(raised).splitlines()[0]}"
        assert type(caught.value) is ours


class OnHost:
    """Memory of a GPU that is an array of the host; NaN where nothing was written."""

    def __init__(self, *shape: int) -> None:
        self.array = np.full(shape, np.nan, np.float32)
        self.address, self.nbytes = self.array.ctypes.data, self.array.nbytes

    def close(self) -> None:
        pass


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Handles that work was put on."""
    used: list[int] = []

    def on_stream(handle: int, device: str) -> Any:
        used.append(handle)
        return contextlib.nullcontext()
    monkeypatch.setattr(pytorch, "_on_stream", on_stream)
    monkeypatch.setattr(pytorch, "_view", lambda memory, dtype, shape, device: torch.from_numpy(
        memory.array.reshape(shape)))
    return used


def test_memory_of_a_gpu_is_used_where_it_lies(make_engine: Maker, streams: list[int]) -> None:
    folder = make_engine(answer=lambda x: x)
    _replaced(folder, remembering(64))
    text = (folder / "recipe.toml").read_text()
    (folder / "recipe.toml").write_text(text + "[memory]\nshape = [2, 1, 1]\nheads = true\n")
    plan = TorchPlan(_recipe(folder), "f32", 1)
    assert plan.max_batch == 4
    assert not plan.capturable(100, 4)
    f32 = np.dtype(np.float32)
    assert plan.ports == {"input": (f32, (3, 64, 64)), "past": (f32, (3, 64, 64)), "known": (f32, (1, 1, 1)),
                          "state": (f32, (2, 1, 1)), "output": (f32, (3, 64, 64)), "next": (f32, (2, 1, 1)),
                          "occlusion": (f32, (1, 1, 1)), "log_scale": (f32, (1, 1, 1))}
    buffers = {name: OnHost(4, *shape) for name, (_, shape) in plan.ports.items()}
    plan.bind(buffers)
    rng = np.random.default_rng(0)
    for turn, batch in enumerate((4, 2, 1, 2)):
        for name in ("input", "past", "known", "state"):
            buffers[name].array[:] = rng.random(buffers[name].array.shape)
        for name in ("output", "next"):
            buffers[name].array[:] = np.nan
        plan.enqueue(100 + turn, batch)
        given = {name: memory.array for name, memory in buffers.items()}
        wanted = given["input"] + 0.75 * given["known"] * (given["past"] - given["input"])
        np.testing.assert_allclose(given["output"][:batch], wanted[:batch], atol=1e-6)
        np.testing.assert_allclose(given["next"][:batch], given["state"][:batch] + 1)
        assert np.isnan(given["output"][batch:]).all()
    assert streams == [100, 101, 102, 103]
    buffers["next"] = OnHost(3, 2, 1, 1)
    with pytest.raises(EngineError, match="engine tiny: next needs 32 bytes, got 24"):
        plan.bind(buffers)


def test_memory_is_shown_to_torch_by_its_address() -> None:
    memory = OnHost(4, 3, 2, 2)
    shown = pytorch._OnGpu(memory, np.dtype(np.float32), (4, 3, 2, 2)).__cuda_array_interface__
    assert shown == {"shape": (4, 3, 2, 2), "typestr": "<f4", "data": (memory.address, False), "strides": None,
                     "version": 3}


def test_precisions_by_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for capability, precisions in (((6, 1), ("f32",)), ((7, 5), ("fp16", "f32")), ((9, 0), ("fp16", "bf16", "f32"))):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, c=capability: c)
        assert pytorch.supported("cuda:0") == precisions
    assert pytorch.supported("cpu") == ("f32",)


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(MissingComponent, match="is built without CUDA"):
        choose.find("torch:cuda")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(MissingComponent, match="finds no NVIDIA GPU"):
        choose.find("torch:cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda i: "NVIDIA L4")
    with pytest.raises(MissingComponent, match=r"no GPU 1; there is: torch:cuda:0 \(NVIDIA L4\)"):
        choose.find("torch:cuda:1")
    backend = choose.find("torch:cuda")
    assert (backend.device, backend.where, backend.mixed, backend.threads) == ("torch:cuda", "this GPU", True, False)
