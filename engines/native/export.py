"""Checkpoint → package: ``python -m engines.native.export --checkpoint runs/s/last.pt --engine rtface-s --out
rtface/models/rtface-s``.

The averaged weights become an ONNX file whose initialisers are stored as fp16 and cast to fp32 by the graph, so that
every backend loads it; the golden outputs come from the torch fp32 model with those same fp16-rounded weights. Each
file is written beside its place and moved there at the end, the recipe last.
"""

from __future__ import annotations

import argparse
import hashlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

from rtface.engine.recipe import load_recipe
from rtface.engine.restore import Restorer

from . import degrade
from .model import Whole, build
from .past import STATE
from .space import F32, TEMPLATE_512, U8, at, cut, oval_mask, roi, similarity

ASTRONAUT_POINTS = np.array(
    [[202.4, 101.2], [246.5, 102.7], [222.8, 123.2], [204.9, 141.0], [243.4, 141.3]], np.float64
)
"""Left eye, right eye, nose, mouth corners in scikit-image's ``astronaut`` (512×512), pixels."""

VERSION = "0.1.0"
GRID = 256
"""Side of the crop on which both networks remember."""
MAPS = (48, 44)
"""Rows and columns of the heads' maps and of the trust in the past."""
STATE_SHAPE = (STATE, 12, 11)
PSNR = {"f32": 55.0, "bf16": 38.0, "int8": 32.0}
"""What the goldens must reach on each backend: far above a broken plan, far below what was measured."""


def astronaut() -> tuple[U8, Any]:
    """scikit-image's public-domain portrait (uint8 512×512×3 RGB) and its matrix from the 512-px canonical crop."""
    from skimage import data

    source = np.concatenate([TEMPLATE_512, np.ones((5, 1))], 1)
    a = np.zeros((10, 4))
    a[0::2] = np.stack([source[:, 0], -source[:, 1], np.ones(5), np.zeros(5)], 1)
    a[1::2] = np.stack([source[:, 1], source[:, 0], np.zeros(5), np.ones(5)], 1)
    c, s, x, y = np.linalg.lstsq(a, ASTRONAUT_POINTS.reshape(-1), rcond=None)[0]
    return np.asarray(data.astronaut(), np.uint8), np.array([[c, -s, x], [s, c, y]])


def golden_crops(size: int, following: bool = False) -> U8:
    """N×size×size×3 uint8 RGB: the astronaut clean and degraded in several ways, and one synthetic pattern.

    ``following``: the same a frame later, turned and shifted a little, with other noise.
    """
    picture, matrix = astronaut()
    if following:
        matrix = matrix @ np.array([*similarity(1.004, 0.008, (257.5, 254.5), 512), [0, 0, 1]])
    m = at(matrix, size)
    clean = cut(picture, m, size)
    r = np.random.default_rng(4 if following else 3)
    low = cv2.resize(
        cv2.resize(clean, (size // 4,) * 2, interpolation=cv2.INTER_AREA), (size, size), interpolation=cv2.INTER_CUBIC
    )
    small = cv2.resize(clean, (size // 2,) * 2, interpolation=cv2.INTER_AREA)
    call = cv2.resize(
        degrade.jpeg(degrade.noise(np.asarray(small, np.uint8), 3, r), 30), (size, size), interpolation=cv2.INTER_CUBIC
    )
    y, x = np.mgrid[:size, :size] / size
    pattern = np.stack([x, y, 0.5 + 0.5 * np.sin(40 * (x * x + y * y) + 0.3 * following)], -1) * 255 // 16 * 16
    out = [clean, call, pattern]
    if size <= 256:
        out[1:1] = [low, degrade.noise(clean, 8, r, 1), degrade.motion_blur(clean, 9, 0.5)]
    return np.stack([np.clip(o, 0, 255).astype(np.uint8) for o in out])


def halve(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store float32 initialisers of more than 16 values as fp16 followed by a Cast to float32; shape-infers nothing."""
    graph = model.graph
    casts: list[onnx.NodeProto] = []
    for init in list(graph.initializer):
        value = numpy_helper.to_array(init)
        if value.dtype != np.float32 or value.size <= 16:
            continue
        graph.initializer.remove(init)
        graph.initializer.append(numpy_helper.from_array(value.astype(np.float16), init.name + "_half"))
        casts.append(
            helper.make_node("Cast", [init.name + "_half"], [init.name], init.name + "_cast", to=TensorProto.FLOAT)
        )
    nodes = casts + list(graph.node)
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model)
    return model


def constants_to_initialisers(model: onnx.ModelProto) -> None:
    """``Constant`` nodes become initialisers and ``Identity`` nodes of initialisers vanish (weights stored once)."""
    graph = model.graph
    names: dict[str, str] = {}
    nodes: list[onnx.NodeProto] = []
    stored = {i.name for i in graph.initializer}
    for node in graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = names.get(name, name)
        if node.op_type == "Constant":
            graph.initializer.append(
                numpy_helper.from_array(numpy_helper.to_array(node.attribute[0].t), node.output[0])
            )
            stored.add(node.output[0])
        elif node.op_type == "Identity" and node.input[0] in stored:
            names[node.output[0]] = node.input[0]
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def export(checkpoint: Path, engine: str, out: Path, data: str) -> dict[str, float]:
    """Write ``model.onnx``, ``golden.npz`` and ``recipe.toml`` into ``out``; returns a few figures."""
    state = torch.load(checkpoint, map_location="cpu")["ema"]
    memory, keeps = (any(name.startswith(f"core.{part}.") for name in state) for part in ("trust", "memory"))
    net = build(engine, memory=memory, state=keeps)
    own = {k: state[k].half().float() if state[k].numel() > 16 else state[k] for k in net.state_dict()}
    net.load_state_dict(own)
    whole = Whole(net).eval()
    size = net.size
    out.mkdir(parents=True, exist_ok=True)
    tmp = out / "model.onnx.tmp"
    *_, w, h = roi(size)
    past = [2, 3, *reversed(roi(GRID)[2:])]
    shapes = {"crop": [2, 3, h, w]}
    if memory:
        shapes |= {"still": past, "moved": past, "known": [2, 2, *MAPS]}
        shapes |= {"shrunk": past} if size != GRID else {}
        shapes |= {"state": [2, *STATE_SHAPE]} if keeps else {}
    names = list(shapes)
    answers = ["residual", *(["log_scale", "occlusion"] if memory else []),
               *(["kept"] if "shrunk" in shapes else []), *(["next"] if keeps else [])]  # fmt: skip
    places = ("crop", "still", "moved", "known", "shrunk", "state")[: 6 if keeps else 5 if "shrunk" in shapes else 4]
    given = [torch.rand(shapes[n]) if n in shapes else None for n in (places if memory else places[:1])]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            whole, tuple(given), str(tmp), dynamo=False, opset_version=17,
            input_names=names, output_names=answers, dynamic_axes={n: {0: "n"} for n in names + answers},
        )  # fmt: skip
    model = onnx.load(tmp)
    constants_to_initialisers(model)
    model = halve(model)
    model.graph.name = engine
    model.doc_string = f"{engine} {VERSION}, Apache-2.0"
    tmp.write_bytes(model.SerializeToString())

    digest = hashlib.sha256(tmp.read_bytes()).hexdigest()
    parameters = sum(p.numel() for p in net.parameters())
    recipe = out / "recipe.toml.tmp"
    text = recipe_text(engine, size, tmp.stat().st_size, digest, parameters, data)
    recipe.write_text(text + (memory_text(size, keeps) if memory else ""), encoding="utf-8")

    plan = Both(whole, tmp)
    restorer = Restorer(load_recipe(recipe), plan)
    crops = golden_crops(size)
    goldens: dict[str, Any] = {"crops": crops}
    if memory:
        goldens["next_crops"] = golden_crops(size, following=True)
        firsts = [restorer.restore_next(x, None) for x in as_floats(crops)]
        nexts = [restorer.restore_next(x, a.memory).pixels
                 for x, a in zip(as_floats(goldens["next_crops"]), firsts, strict=True)]  # fmt: skip
        restored = np.stack([a.pixels for a in firsts])
        goldens["next_restored"] = in_steps(np.stack(nexts))
    else:
        restored = restorer.restore(as_floats(crops))
    goldens["restored"] = in_steps(restored)
    if not plan.worst < 2e-3:
        raise RuntimeError(f"ONNX differs from torch by {plan.worst}")
    golden = out / "golden.npz.tmp"
    with golden.open("wb") as f:
        np.savez_compressed(f, **goldens)
    for f in (tmp, golden, recipe):
        f.replace(f.with_suffix(""))
    mask = oval_mask(size)[..., None]
    clean = float(((restored[0].transpose(1, 2, 0) - crops[0] / 255) ** 2 * mask).mean() / mask.mean())
    return {
        "bytes": (out / "model.onnx").stat().st_size,
        "onnx_torch_max": plan.worst,
        "astronaut_clean_db": -10 * np.log10(clean + 1e-12),
    }


def as_floats(crops: U8) -> F32:
    """uint8 N×S×S×3 → float32 N×3×S×S, 0..1."""
    return np.ascontiguousarray(crops.transpose(0, 3, 1, 2)).astype(np.float32) / 255


def in_steps(restored: F32) -> Any:
    """float16 in steps of half a code value, which packs into a third of the size."""
    return (np.rint(restored * 510) / 510).astype(np.float16)


class Both:
    """A plan of the run time that answers with torch, and looks how far ONNX Runtime is from that."""

    identity: Any = None

    def __init__(self, whole: Whole, model: Path) -> None:
        self.whole, self.worst = whole, 0.0
        self.session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])

    def run(self, inputs: Mapping[str, F32], outputs: Mapping[str, F32]) -> None:
        names = {"shrunk": "half"}
        with torch.no_grad():
            found = self.whole(**{names.get(k, k): torch.from_numpy(v) for k, v in inputs.items()})
        ours = [found.numpy()] if isinstance(found, torch.Tensor) else [t.numpy() for t in found]
        theirs = self.session.run(None, dict(inputs))
        for port, a, b in zip(self.session.get_outputs(), ours, theirs, strict=True):
            self.worst = max(self.worst, float(np.abs(a - b).max()))
            outputs[port.name][:] = a
        several = self.session.run(None, {name: np.repeat(v, 2, 0) for name, v in inputs.items()})
        self.worst = max(self.worst, *(float(np.abs(a - b[1:]).max()) for a, b in zip(ours, several, strict=True)))

    def close(self) -> None:
        pass


def recipe_text(engine: str, size: int, size_bytes: int, digest: str, parameters: int, data: str) -> str:
    """The recipe as TOML."""
    grade = {"rtface-s": "small: real time beside anything else", "rtface-m": "medium: finer detail for larger faces"}[
        engine
    ]
    return f'''name = "{engine}"
version = "{VERSION}"
summary = "Our own residual network on {size}-px crops, {grade}"
kind = "restorer"

[licence]
code = "Apache-2.0"
weights = "Apache-2.0"
commercial_use = true
data = "{data}"

[weights]
file = "model.onnx"
bytes = {size_bytes}
sha256 = "{digest}"
parameters = {parameters}

[input]
name = "crop"
size = {size}
region = {list(roi(size))}
layout = "NCHW"
range = [0, 1]
colour = "rgb"

[output]
name = "residual"
range = [0, 1]
residual = true

[alignment]
template = "ffhq"

[batch]
min = 1
opt = 1
max = 16

[precision]
default = "bf16"
fallback = "f32"
fp32_nodes = []

[controls]
strength = true

[golden]
file = "golden.npz"

[golden.psnr]
f32 = {PSNR["f32"]}
bf16 = {PSNR["bf16"]}
int8 = {PSNR["int8"]}
'''


def memory_text(size: int, keeps: bool) -> str:
    """The recipe's section for a network with memory."""
    return f"""
[memory]
{f"shape = {list(STATE_SHAPE)}" if keeps else ""}
{f"grid = {GRID}" if size != GRID else ""}
maps = {list(MAPS)}
heads = true
"""


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--checkpoint", type=Path, required=True)
    p.add_argument("--engine", choices=("rtface-s", "rtface-m"), required=True)
    p.add_argument("--out", type=Path, required=True)
    p.add_argument(
        "--data", default="public domain, CC0, CC BY, MIT and BSD portraits; see engines/native/MODEL_CARD.md"
    )
    a = p.parse_args()
    for k, v in export(a.checkpoint, a.engine, a.out, a.data).items():
        print(f"{k}: {v:.6g}")


if __name__ == "__main__":
    main()
