"""Trains the network that finds damage.

``python -m training.loop.train_damage --faces DIR --run runs/damage``

Samples are made while it trains (``training.data.damaged_faces``), on one core. The run resumes where it was stopped.
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training.crop_space import F32, U8
from training.data.damaged_faces import load, region, sample
from training.data.portraits import load_faces, split
from training.loop.checkpoints import Ema, resume, save
from training.loop.muon import Muon
from training.model.damage import DamageNet

FIRST, LAST = 2e-3, 2e-5
"""Learning rates at the beginning and the end, with a cosine between."""
EVERY = 250
"""Steps between checkpoints."""


def tensor(images: list[F32]) -> Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def batch(portraits: list[U8], r: np.random.Generator, size: int) -> tuple[Tensor, Tensor]:
    """Damaged faces N×3×h×w, 0..1, and their masks N×1×h×w."""
    samples = [sample(portraits[int(r.integers(len(portraits)))], r) for _ in range(size)]
    seen = [np.asarray(region(s.seen) / 255, np.float32) for s in samples]
    return tensor(seen), tensor([region(s.mask)[..., None].astype(np.float32) for s in samples])


def loss_of(logits: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy, and Dice for each image (Milletari et al. 2016)."""
    p = torch.sigmoid(logits)
    both, either = (p * mask).sum((1, 2, 3)), (p + mask).sum((1, 2, 3))
    return F.binary_cross_entropy_with_logits(logits, mask) + 0.1 * (1 - (2 * both + 20) / (either + 20)).mean()


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--faces", type=Path, required=True)
    p.add_argument("--run", type=Path, required=True)
    p.add_argument("--minutes", type=float, default=30, help="of computing time, on one core")
    p.add_argument("--batch", type=int, default=8)
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    torch.manual_seed(a.seed)
    a.run.mkdir(parents=True, exist_ok=True)
    portraits = load(split(load_faces(a.faces))[0])
    net = DamageNet().to(memory_format=torch.channels_last)
    opt, ema, path = Muon(net, FIRST, threads=1), Ema(net, 0.998), a.run / "last.pt"
    left = resume(path, net, opt, ema)
    step, used = int(left.get("step", 0)), float(left.get("used", 0.0))
    total = 0.0
    while used < 60 * a.minutes:
        began = time.process_time()
        done = used / (60 * a.minutes)
        rate = LAST + (FIRST - LAST) * 0.5 * (1 + math.cos(math.pi * done))
        for group in opt.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 60)
        seen, mask = batch(portraits, np.random.default_rng([a.seed, step]), a.batch)
        with torch.autocast("cpu", torch.bfloat16):
            logits = net(seen)
        loss = loss_of(logits.float(), mask)
        opt.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        opt.step()
        ema.update(net)
        step += 1
        used += time.process_time() - began
        total += loss.item()
        if step % EVERY == 0 or used >= 60 * a.minutes:
            save(path, net, opt, ema, step=step, used=used)
        if step % 50 == 0:
            with (a.run / "log.csv").open("a", newline="") as f:
                csv.writer(f).writerow([step, round(used), round(total / 50, 5)])
            print(f"step {step}, {used:.0f} s: loss {total / 50:.4f}", flush=True)
            total = 0.0


if __name__ == "__main__":
    main()
