"""Averages two networks' weights: ``python -m training.loop.average OLD NEW --out s.pt``.

If a network was fine-tuned for another kind of film, its average with the original network preserves the old abilities
and most of the new ones (Wortsman et al., "Robust fine-tuning of zero-shot models", 2022). ``--keep`` selects parts
that keep the old weights. ``--into ENGINE`` replaces the weights in an engine that contains the network (``rtface-m``
contains ``rtface-s``).
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from training.loop.initial_weights import weights


def between(old: Mapping[str, Tensor], new: Mapping[str, Tensor], share: float, keep: str = "") -> dict[str, Tensor]:
    """Moves weights ``old`` towards ``new`` by ``share`` (0…1). Weights whose names contain ``keep`` do not change."""
    return {k: v if keep and keep in k else torch.lerp(v, new[k], share) for k, v in old.items()}


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("old", type=Path, help="checkpoint, or an engine's folder")
    p.add_argument("new", type=Path, help="checkpoint of the same network after further training")
    p.add_argument("--share", type=float, default=0.5)
    p.add_argument("--keep", default="", help="part of the names of weights that must not change, such as occlusion")
    p.add_argument("--into", type=Path, help="checkpoint or folder of an engine that contains this network")
    p.add_argument("--out", type=Path, required=True)
    a = p.parse_args()
    state = between(weights(a.old), weights(a.new), a.share, a.keep)
    if a.into:
        engine = weights(a.into)
        state = engine | {k: v for k, v in state.items() if k in engine}
    torch.save({"ema": state}, a.out)


if __name__ == "__main__":
    main()
