"""Exports a checkpoint to ``engines/shipped/coded/model.onnx``.

``python -m training.export.export_coded --checkpoint runs/coded-net/coded-best.pt`` stores averaged weights as fp16, as
for engines. Height and width are variable. Copy the printed SHA-256 to `rtface.engine.coded_network`.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from engines.convert.graph import to_onnx
from training.export.export_engine import halve
from training.model.coded import BLOCKS, CELL, SMALL_BLOCKS, SMALL_WIDTHS, WIDTHS, CodedNet

SIDES = (("image", 1), ("steps", CELL), ("correction", 1), ("errors", CELL))


def load(checkpoint: Path, *, small: bool = False) -> CodedNet:
    """Loads the network with a checkpoint's averaged weights. Rounds them as in the exported file."""
    net = CodedNet(*((SMALL_WIDTHS, SMALL_BLOCKS) if small else (WIDTHS, BLOCKS)))
    state = torch.load(checkpoint, map_location="cpu")["ema"]
    net.load_state_dict({k: v.half().float() if v.numel() > 16 else v for k, v in state.items()})
    return net.eval()


def export(checkpoint: Path, out: Path, *, small: bool = False) -> str:
    """Writes the network atomically. Returns its SHA-256.

    Raises:
        RuntimeError: the outputs of ONNX Runtime and torch differ.
    """
    net = load(checkpoint, small=small)
    dynamic_axes = {name: {0: "n", 2: f"h{n}", 3: f"w{n}"} for name, n in SIDES}
    example = {"image": torch.rand(1, 3, 96, 128), "steps": torch.rand(1, 2, 96 // CELL, 128 // CELL)}
    model = halve(to_onnx(net, example, ["correction", "errors"], folds=True, free=dynamic_axes))
    model.graph.name = "coded"
    model.doc_string = "takes coding artefacts and noise out of pictures at their coded size, Apache-2.0"
    data = model.SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    for h, w in ((96, 128), (224, 160)):
        inputs = {"image": torch.rand(1, 3, h, w), "steps": torch.rand(1, 2, h // CELL, w // CELL)}
        with torch.no_grad():
            expected = net(*inputs.values())
        actual = session.run(None, {name: value.numpy() for name, value in inputs.items()})
        worst = max(float(np.abs(a.numpy() - np.asarray(b)).max()) for a, b in zip(expected, actual, strict=True))
        if not worst < 2e-3:
            raise RuntimeError(f"ONNX differs from torch by {worst}")
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_suffix(".tmp")
    temporary.write_bytes(data)
    temporary.replace(out)
    return hashlib.sha256(data).hexdigest()


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--checkpoint", type=Path, required=True)
    p.add_argument("--out", type=Path, default=Path("engines/shipped/coded/model.onnx"))
    p.add_argument("--small", action="store_true")
    a = p.parse_args()
    digest = export(a.checkpoint, a.out, small=a.small)
    print(f"{a.out}: {a.out.stat().st_size} bytes, SHA-256 {digest}")


if __name__ == "__main__":
    main()
