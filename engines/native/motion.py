"""Teaches alignment alone, before the rest: ``python -m engines.native.motion --clips DIR --run runs/align``.

Alignment is a tenth of the network, and wants more pictures than the rest. Here it sees nothing else: the input, and a
past put together from what a restoration is like (a part of the way from input to truth) and carried along by its own
flow; it is told the true motion. ``train --core runs/s/last.pt runs/align/last.pt`` takes the weights from there.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .clips import Batch, Clips, mirrored, stray
from .losses import Loss
from .muon import Muon
from .parallel import Crew
from .past import Align, Carry
from .trainer import Ema

KEPT = (0.7, 0.95)
"""How much of the past is kept from frame to frame."""
RESTORED = (0.1, 0.5)
"""Which part of the way to the truth an answer goes."""


class Motion(nn.Module):
    """``Align`` and ``Carry`` under the names that they have in a network."""

    def __init__(self) -> None:
        super().__init__()
        self.core = nn.ModuleDict({"align": Align(), "carry": Carry()})

    def forward(self, crop: Tensor, past: Tensor) -> Tensor:
        return self.core["align"](crop, past)

    def carry(self, past: Tensor, flow: Tensor) -> Tensor:
        return self.core["carry"](past, flow)


def follow(net: Any, b: Batch, weight: Tensor, keep: float, way: float) -> Tensor:
    """How far the flow of every frame but the first is off on average: N values, in pixels."""
    answers = b.seen + way * (b.truth - b.seen)
    past = answers[:, 0]
    off: list[Tensor] = []
    for t in range(1, b.seen.shape[1]):
        with torch.autocast(past.device.type, torch.bfloat16):
            flow = net(b.seen[:, t].contiguous(memory_format=torch.channels_last), past).float()
        off.append(stray(flow - b.flow[:, t], weight))
        past = keep * net.carry(past, flow.detach()) + (1 - keep) * answers[:, t]
    return torch.stack(off).mean(0)


class Stage:
    """One run, with its folder."""

    def __init__(self, a: argparse.Namespace) -> None:
        torch.manual_seed(a.seed)
        torch.set_num_threads(1)
        self.a, self.net, self.clips = a, Motion().to(memory_format=torch.channels_last), Clips(a.clips)
        self.opt = Muon(self.net, a.lr, threads=a.threads)
        self.ema, self.used, self.step = Ema(self.net, 0.998), 0.0, 0
        self.path = a.run / "last.pt"
        if self.path.exists():
            c = torch.load(self.path, map_location="cpu")
            self.net.load_state_dict(c["net"])
            self.opt.load_state_dict(c["opt"])
            self.ema.n, self.ema.weights, self.used, self.step = c["ema_n"], c["ema"], c["used"], c["step"]
        self.dice = np.random.default_rng([a.seed, self.step])
        self.weight: Tensor = Loss(256).weight  # pyright: ignore
        self.crew = Crew(self.net, a.threads, self.work)

    def work(self, net: nn.Module, piece: Any) -> tuple[Tensor, float]:
        off = follow(net, piece[0], self.weight, *piece[1:]).mean()
        return 100 * off / self.a.batch, float(off.detach())

    def one(self) -> tuple[Batch, float, float]:
        r = self.dice
        b = self.clips.get(int(r.integers(len(self.clips.index))))
        return mirrored(b) if r.random() < 0.5 else b, float(r.uniform(*KEPT)), float(r.uniform(*RESTORED))

    def learn(self) -> float:
        """One step; by how many pixels the flow was off."""
        t = min(1.0, self.used / 60 / self.a.minutes)
        for g in self.opt.param_groups:
            g["lr"] = (self.a.lr * (0.5 + 0.5 * math.cos(math.pi * t)) + 1e-5) * min(1.0, (self.step + 1) / 50)
        off = self.crew.run([self.one() for _ in range(self.a.batch)])
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 500.0)
        self.opt.step()
        self.step += 1
        self.ema.update(self.net)
        return float(np.mean(off))

    def save(self) -> None:
        c = {"net": self.net.state_dict(), "opt": self.opt.state_dict(), "ema": self.ema.weights,
             "ema_n": self.ema.n, "used": self.used, "step": self.step}  # fmt: skip
        torch.save(c, self.path.with_suffix(".tmp"))
        self.path.with_suffix(".tmp").replace(self.path)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--clips", type=Path, required=True, help="what `sequences` wrote")
    p.add_argument("--run", type=Path, required=True)
    p.add_argument("--minutes", type=float, default=20)
    p.add_argument("--lr", type=float, default=3e-3)
    p.add_argument("--batch", type=int, default=16, help="clips a step")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    a.run.mkdir(parents=True, exist_ok=True)
    stage = Stage(a)
    last = shown = time.monotonic()
    off: list[float] = []
    while stage.used < 60 * a.minutes:
        off.append(stage.learn())
        now = time.monotonic()
        stage.used, last = stage.used + min(now - last, 5.0), now
        if now - shown > 60 or stage.used >= 60 * a.minutes:
            stage.save()
            print(f"step {stage.step}, {stage.used / 60:.1f} min: flow off by {np.mean(off):.3f} px", flush=True)
            off, shown = [], now


if __name__ == "__main__":
    main()
