"""Trains the network of `rtface.analysis.hidden` on `training.data.hidden_samples`, and chooses its threshold.

usage: python -m training.loop.train_hidden SAMPLES.npz … --held-out HELD.npz --out hidden.npz [--epochs 30]

Its answer is shifted so that at most `REFUSED` of held-out people's faces that nobody hid reach `SURE`.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import nn

WIDTHS = (5, 12, 20, 24)
REFUSED, SURE = 0.003, 0.35


class Network(nn.Module):
    """Three convolutions of 4×4 with a step of 2, and one sum."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 4, 2) for a, b in pairwise(WIDTHS))
        self.out, self.drop = nn.Linear(WIDTHS[-1] * 16, 1), nn.Dropout(0.2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of (n, 5, 52, 52)."""
        for layer in self.layers:
            x = torch.relu(layer(x))
        return self.out(self.drop(x.flatten(1)))[:, 0]


def varied(x: torch.Tensor) -> torch.Tensor:
    """Varies maps: mirrored, with more or less contrast, and cut off below or at a side."""
    if torch.rand(()) < 0.5:
        x = x.flip(3)
    n = len(x)
    x = torch.cat([x[:, :4] + 0.25 * torch.randn(n, 1, 1, 1).clamp(-2, 2) * x[:, 4:], x[:, 4:]], 1)
    for turned in (x, x.transpose(2, 3)):  # views; `flip` would copy
        if torch.rand(()) < 0.1:
            turned[:, :, int(torch.randint(34, 50, ())) :] = 0
    return x


def fitted_on(maps: np.ndarray, hidden: np.ndarray, epochs: int, *, batch: int = 96) -> Network:
    """A trained network."""
    network = Network()
    count = sum(one.numel() for one in network.parameters())
    print(len(maps), "samples,", count, "weights", flush=True)
    optimiser = torch.optim.AdamW(network.parameters(), 2e-3, weight_decay=0.02)
    steps = epochs * (len(maps) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps + 1, pct_start=0.15)
    loss_of, whole, marks = nn.BCEWithLogitsLoss(), torch.from_numpy(maps), torch.from_numpy(hidden.astype(np.float32))
    for epoch in range(epochs):
        order, losses = np.random.default_rng(epoch).permutation(len(maps)), list[float]()
        for k in range(len(maps) // batch):
            these = torch.from_numpy(np.sort(order[k * batch : (k + 1) * batch]))
            x, y = whole[these].float(), marks[these]
            loss = loss_of(network(varied(x)), y * 0.998 + 0.001)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            losses.append(float(loss.detach()))
        print(epoch, round(float(np.mean(losses)), 4), flush=True)
    return network.eval()


def answers(network: Network, maps: np.ndarray) -> np.ndarray:
    """Logits of maps."""
    with torch.no_grad():
        parts = (torch.from_numpy(maps[k : k + 512].astype(np.float32)) for k in range(0, len(maps), 512))
        return torch.cat([network(part) for part in parts]).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("samples", type=Path, nargs="+")
    parser.add_argument("--held-out", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=30)
    args = parser.parse_args()
    torch.manual_seed(1)
    loaded = [np.load(path) for path in args.samples]
    maps, kinds = (np.concatenate([one[name] for one in loaded]) for name in ("maps", "kinds"))
    network, held = fitted_on(maps, kinds < 0, args.epochs), np.load(args.held_out)
    said, kinds = answers(network, held["maps"]), held["kinds"]
    least = np.quantile(said[kinds >= 0], 1 - REFUSED)
    print(f"seen of the hidden {np.mean(said[kinds < 0] >= least):.3f} at a logit of {least:.2f}; refused, by kind:")
    for kind in range(kinds.max() + 1):
        print(kind, (kinds == kind).sum(), round(float(np.mean(said[kinds == kind] >= least)), 4))
    names = {f"kernel{k}": layer.weight for k, layer in enumerate(network.layers)}
    names |= {f"bias{k}": layer.bias for k, layer in enumerate(network.layers)}
    names |= {"out": network.out.weight.reshape(WIDTHS[-1], 4, 4)}
    arrays = {name: one.detach().numpy().astype(np.float16) for name, one in names.items()}
    shift = np.log(SURE / (1 - SURE)) - least
    np.savez_compressed(args.out, bias=np.float32(float(network.out.bias) + shift), **arrays)


if __name__ == "__main__":
    main()
