"""Checkpoint → ``rtface/models/damage/model.onnx``: ``python -m training.export.export_damage --checkpoint
runs/damage/last.pt``.

The averaged weights are stored as fp16, as those of the engines. The SHA-256 that is printed belongs into
`rtface.engine.damage_network`.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from engines.convert.graph import to_onnx
from rtface.correct.damage import REGION
from training.export.export_engine import halve
from training.model.damage import DamageNet


class Probability(nn.Module):
    """The network as it ships: the probability instead of its logit."""

    def __init__(self, net: DamageNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        return torch.sigmoid(self.net(image))


def load(checkpoint: Path) -> Probability:
    """The averaged weights of a checkpoint, rounded as they are stored."""
    net = DamageNet()
    state = torch.load(checkpoint, map_location="cpu")["ema"]
    net.load_state_dict({k: v.half().float() if v.numel() > 16 else v for k, v in state.items()})
    return Probability(net).eval()


def export(checkpoint: Path, out: Path) -> str:
    """Writes the network, whole or not at all; returns its SHA-256.

    Raises:
        RuntimeError: ONNX Runtime's answers differ from torch's.
    """
    net = load(checkpoint)
    *_, w, h = REGION
    image = torch.rand(1, 3, h, w)
    model = halve(to_onnx(net, {"image": image}, ["damage"], folds=True))
    model.graph.name = "damage"
    model.doc_string = "finds damage on faces, Apache-2.0"
    data = model.SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        wanted = net(image).numpy()
    worst = float(np.abs(wanted - np.asarray(session.run(None, {"image": image.numpy()})[0])).max())
    if not worst < 1e-3:
        raise RuntimeError(f"ONNX differs from torch by {worst}")
    out.parent.mkdir(parents=True, exist_ok=True)
    work = out.with_suffix(".tmp")
    work.write_bytes(data)
    work.replace(out)
    return hashlib.sha256(data).hexdigest()


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--checkpoint", type=Path, required=True)
    p.add_argument("--out", type=Path, default=Path("rtface/models/damage/model.onnx"))
    a = p.parse_args()
    digest = export(a.checkpoint, a.out)
    print(f"{a.out}: {a.out.stat().st_size} bytes, SHA-256 {digest}")


if __name__ == "__main__":
    main()
