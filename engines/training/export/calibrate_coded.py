"""Measures the int8 ranges of the network that removes compression artefacts.

Run ``python -m training.export.calibrate_coded --pairs runs/coded`` after every export. It runs the exported network on
training patches in fp32 and writes ``int8.json`` next to it: for each convolution, a range that contains 99.99 % of the
input values of every patch. Layers at full and half size stay in floating point, because 8 bits would lose the small
corrections of good pictures. Layers that merge features of lower resolutions also stay in floating point: 8 bits there
would cost a fifth of the gain in PSNR.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import torch

from rtface.engine.coded_network import LIGHT, PATH
from training.export.calibrate_int8 import bounds, show_inputs, write
from training.loop.train_coded import UNKNOWN_SHARE
from training.model.coded import step_planes

FLOAT_LAYERS = ("stem", "/head", "error", "up.0", "join.0", "dec.0", "up.1", "join.1", "down")


def calibrate(network: Path, pairs: Path, count: int, seed: int) -> dict[str, Any]:
    """Measures the ranges. Returns the content of the network's ``int8.json``."""
    model: Any = ov.Core().read_model(network)
    names, outputs = show_inputs(model, FLOAT_LAYERS)
    request: Any = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}).create_infer_request()
    ranges = np.zeros((len(names), 2))  # ranges include zero, because convolutions pad with zeros
    r = np.random.default_rng(seed)
    shards = sorted(pairs.glob("*[0-9].npz"))
    for path in r.choice(np.array(shards), min(8, len(shards)), replace=False):
        with np.load(path) as data:
            for number in r.choice(len(data["seen"]), count // 8, replace=False):
                steps = torch.from_numpy(data["steps"][number].astype(np.float32))[None]
                steps = torch.full_like(steps, np.nan) if r.uniform() < UNKNOWN_SHARE else steps
                image = np.ascontiguousarray(data["seen"][number].transpose(2, 0, 1)[None], np.float32) / 255
                request.infer({"image": image, "steps": step_planes(steps).numpy()})
                for place, row in zip(outputs, ranges, strict=True):
                    low, high = bounds(request.get_output_tensor(place).data)
                    row[:] = min(row[0], low), max(row[1], high)
    return {
        "weights": hashlib.sha256(network.read_bytes()).hexdigest(),
        "convolutions": [
            {"name": name, "low": round(float(low), 5), "high": round(float(high), 5)}
            for name, (low, high) in zip(names, ranges, strict=True)
            if high - low > 1e-4  # omits convolutions whose input is always zero
        ],
    }


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--pairs", type=Path, required=True, help="training pairs, never those of held-out people")
    p.add_argument("--count", type=int, default=160, help="number of patches")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--light", action="store_true", help="calibrate the light network")
    a = p.parse_args()
    network = LIGHT[0] if a.light else PATH
    write(network.with_name("int8.json"), calibrate(network, a.pairs, a.count, a.seed))


if __name__ == "__main__":
    main()
