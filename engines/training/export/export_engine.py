"""Exports a checkpoint to an engine folder.

``python -m training.export.export_engine --checkpoint runs/s/last.pt --engine rtface-s --out engines/shipped/rtface-s``
writes averaged weights to an ONNX file. Weights are stored as fp16; the graph casts them to fp32, so that every backend
can load the file. Golden outputs come from the torch model in fp32, with the same rounded weights. Files are written
under temporary names and renamed at the end, the recipe last.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper

from engines.convert.graph import to_onnx
from rtface.engine.crop_runner import CropRunner
from rtface.engine.recipe import load_recipe
from training.crop_space import F32, U8, oval_mask, roi
from training.export.golden_crops import as_floats, golden_crops, in_steps
from training.export.recipe_text import CONTROLLED, GRID, VERSION, memory_text, recipe_text
from training.loop.initial_weights import HALF, weights
from training.model.networks import DAMPING, Medium, Small, Whole, build
from training.model.recurrence import STATE_CHANNELS, Past, empty_past

NAMES = ("rtface-s", "rtface-m", "rtface-m-vivid")
MIN_FP16_DB = 55.0
"""Minimum PSNR in dB of the network if all operations are in fp16."""


def halve(model: onnx.ModelProto) -> onnx.ModelProto:
    """Stores float32 initialisers as fp16, each followed by a Cast to float32.

    Only initialisers with more than 16 values are changed; equal initialisers are stored once. Does not infer shapes.
    The positions in ``recurrence.Carry`` stay exact, because rounding would shift them by a twentieth of a pixel.
    """
    graph = model.graph
    exact = {name for node in graph.node if "/carry/" in node.name for name in node.input}
    casts: list[onnx.NodeProto] = []
    stored: dict[tuple[tuple[int, ...], bytes], str] = {}
    aliases: dict[str, str] = {}
    for init in list(graph.initializer):
        value = numpy_helper.to_array(init)
        if value.dtype != np.float32 or value.size <= 16 or init.name in exact:
            continue
        graph.initializer.remove(init)
        aliases[init.name] = stored.setdefault((value.shape, value.tobytes()), init.name)
        if aliases[init.name] != init.name:
            continue
        graph.initializer.append(numpy_helper.from_array(value.astype(np.float16), init.name + HALF))
        casts.append(helper.make_node("Cast", [init.name + HALF], [init.name], to=TensorProto.FLOAT))
    for node in graph.node:
        for position, name in enumerate(node.input):
            node.input[position] = aliases.get(name, name)
    nodes = casts + list(graph.node)
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model)
    return model


def export(checkpoint: Path, engine: str, out: Path, data: str) -> dict[str, float]:
    """Writes ``model.onnx``, ``golden.npz`` and ``recipe.toml`` into ``out``. Returns figures about the export.

    ``engine`` is one of `NAMES`.
    """
    state = weights(checkpoint)
    memory = any(name.startswith("core.trust.") for name in state)
    net = build(engine, memory=memory, like=state)
    rounded = {k: state[k].half().float() if state[k].numel() > 16 else state[k] for k in net.state_dict()}
    net.load_state_dict(rounded)
    net.core.damping = DAMPING
    whole = Whole(net).eval()
    size = net.size
    out.mkdir(parents=True, exist_ok=True)
    model_file = out / "model.onnx.tmp"
    *_, w, h = roi(size)
    past = [2, 3, *reversed(roi(GRID)[2:])]
    shapes = {"crop": [2, 3, h, w]}
    if memory:
        shapes |= {"past": past, "known": [2, 1, 1, 1], "state": [2, STATE_CHANNELS, past[2] // 8, past[3] // 8]}
        shapes |= {"shrunk": past} if size != GRID else {}
    if engine in CONTROLLED:
        shapes["fidelity"] = [2, 1]
    outputs = ["residual", *(["log_scale", "occlusion", "next"] if memory else []),
               *(["kept"] if "shrunk" in shapes else [])]  # fmt: skip
    inputs = {name: torch.rand(shape) for name, shape in shapes.items()}
    model = halve(to_onnx(whole, inputs, outputs, folds=True))
    model.graph.name = engine
    model.doc_string = f"{engine} {VERSION}, Apache-2.0"
    model_file.write_bytes(model.SerializeToString())

    digest = hashlib.sha256(model_file.read_bytes()).hexdigest()
    parameters = sum(p.numel() for p in net.parameters())
    recipe = out / "recipe.toml.tmp"
    text = recipe_text(engine, size, model_file.stat().st_size, digest, parameters, data)
    recipe.write_text(text + (memory_text(size, shapes["state"][1:]) if memory else ""), encoding="utf-8")

    plan = TorchPlan(whole, model_file)
    restorer = CropRunner(load_recipe(recipe), plan)
    crops = golden_crops(size)
    goldens: dict[str, Any] = {"crops": crops}
    if memory:
        goldens["next_crops"] = golden_crops(size, following=True)
        firsts = [restorer.restore(x[None]) for x in as_floats(crops)]
        nexts = [restorer.restore(x[None], a).pixels[0]
                 for x, a in zip(as_floats(goldens["next_crops"]), firsts, strict=True)]  # fmt: skip
        restored = np.concatenate([a.pixels for a in firsts])
        goldens["next_restored"] = in_steps(np.stack(nexts), goldens["next_crops"])
    else:
        restored = restorer.restore(as_floats(crops)).pixels
    goldens["restored"] = in_steps(restored, crops)
    if not plan.worst < 2e-3:
        raise RuntimeError(f"ONNX differs from torch by {plan.worst}")
    fp16_psnr = measure_fp16(net, crops)
    if fp16_psnr < MIN_FP16_DB:
        raise RuntimeError(f"fp16 reaches only {fp16_psnr:.1f} dB: TensorRT would have to compute layers in fp32")
    golden = out / "golden.npz.tmp"
    with golden.open("wb") as f:
        np.savez_compressed(f, **goldens)
    for f in (model_file, golden, recipe):
        f.replace(f.with_suffix(""))
    mask = oval_mask(size)[..., None]
    clean = float(((restored[0].transpose(1, 2, 0) - crops[0] / 255) ** 2 * mask).mean() / mask.mean())
    return {
        "bytes": (out / "model.onnx").stat().st_size,
        "onnx_torch_max": plan.worst,
        "fp16_db": fp16_psnr,
        "astronaut_clean_db": -10 * np.log10(clean + 1e-12),
    }


def measure_fp16(net: Small | Medium, crops: U8) -> float:
    """Returns the worst PSNR in dB of fp16 compared with fp32. A low value shows that activations exceed 65,504, the
    largest number in fp16, so that TensorRT could not use fp16."""
    x, y, w, h = roi(net.size)
    inputs = torch.from_numpy(as_floats(crops))[:, :, y : y + h, x : x + w]
    past = None
    if net.core.trust is not None:
        past = empty_past(F.interpolate(inputs, size=roi(GRID)[3:1:-1], mode="area"))
        past = Past(past.picture, torch.ones_like(past.known), past.state)
    half_past = None if past is None else Past(*(part.half() for part in past))
    with torch.no_grad():
        error = net(inputs, past)[0] - copy.deepcopy(net).half()(inputs.half(), half_past)[0].float()
    return float(-10 * torch.log10(error.square().mean((1, 2, 3)).nan_to_num(nan=1.0).clamp_min(1e-12)).min())


class TorchPlan:
    """A plan for rtface that computes with torch. Compares ONNX Runtime with torch."""

    identity: Any = None

    def __init__(self, whole: Whole, model: Path) -> None:
        self.whole, self.worst = whole, 0.0
        self.session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])

    def run(self, inputs: Mapping[str, F32], outputs: Mapping[str, F32]) -> None:
        with torch.no_grad():
            output = self.whole(**{name: torch.from_numpy(v) for name, v in inputs.items()})
        expected = [output.numpy()] if isinstance(output, torch.Tensor) else [t.numpy() for t in output]
        actual = self.session.run(None, dict(inputs))
        for port, a, b in zip(self.session.get_outputs(), expected, actual, strict=True):
            self.worst = max(self.worst, float(np.abs(a - b).max()))
            outputs[port.name][:] = a
        batched = self.session.run(None, {name: np.repeat(v, 2, 0) for name, v in inputs.items()})
        self.worst = max(self.worst, *(float(np.abs(a - b[1:]).max()) for a, b in zip(expected, batched, strict=True)))

    def close(self) -> None:
        pass


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--checkpoint", type=Path, required=True)
    p.add_argument("--engine", choices=NAMES, required=True)
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--data", default="public domain, CC0, CC BY, MIT and BSD portraits; see training/MODEL_CARD.md")
    a = p.parse_args()
    for k, v in export(a.checkpoint, a.engine, a.out, a.data).items():
        print(f"{k}: {v:.6g}")


if __name__ == "__main__":
    main()
