"""Exports the networks for damaged prints to ``engines/shipped/repair/``.

``python -m training.export.export_repair --fill runs/fill/fill.pt --damage runs/damage/damage.pt`` stores averaged
weights as fp16, as for engines. All ports have 512×512 pixels, 0…1.
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
from training.export.export_engine import halve
from training.model.repair import SIDE, DamageNet, FillNet, load


def export(net: nn.Module, ports: dict[str, Tensor], output: str, out: Path) -> str:
    """Writes a network. Returns its SHA-256. Raises AssertionError if ONNX Runtime and torch differ."""
    model = halve(to_onnx(net.eval(), ports, [output], folds=True, free={output: {}}))
    model.graph.name, model.doc_string = out.stem, f"{out.stem} of damaged prints, Apache-2.0"
    session = onnxruntime.InferenceSession(data := model.SerializeToString(), providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        expected = net(*ports.values()).numpy()
    actual = session.run(None, {name: value.numpy() for name, value in ports.items()})
    np.testing.assert_allclose(actual[0], expected, rtol=0, atol=2e-3)
    out.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--fill", type=Path, required=True)
    p.add_argument("--damage", type=Path, required=True)
    p.add_argument("--out", type=Path, default=Path("engines/shipped/repair"))
    a = p.parse_args()
    picture, hole = torch.rand(1, 3, SIDE, SIDE), (torch.rand(1, 1, SIDE, SIDE) > 0.5).float()
    fill, damage = load(FillNet(), a.fill), nn.Sequential(load(DamageNet(), a.damage), nn.Sigmoid())
    print("fill.onnx", export(fill, {"fill": picture, "hole": hole}, "filled", a.out / "fill.onnx"))
    print("damage.onnx", export(damage, {"picture": picture}, "probability", a.out / "damage.onnx"))


if __name__ == "__main__":
    main()
