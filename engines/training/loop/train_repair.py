"""Trains the networks for damaged prints.

``python -m training.loop.train_repair fill --faces FACES --run runs/fill --minutes 100`` (or ``damage``).

The fill's loss is the mean logarithm of each picture's error inside the holes, squared and absolute. So smooth pictures
count as much as rich ones. A run continues from its last checkpoint. On CPUs set ``OMP_NUM_THREADS=1``.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import cv2
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from training.data.damaged_prints import UNSURE, DamagedPhotos, HoledFaces
from training.loop.checkpoints import Ema, resume, save
from training.loop.muon import Muon
from training.loop.parallel_gradients import Crew
from training.model.repair import DamageNet, FillNet, load

# least error; share of a run, at its end, in which the rate falls; earlier samples, from which half of each batch comes
FLOOR, DECAY_SHARE, POOL = 1e-5, 0.4, 160


def fill_loss(net: nn.Module, piece: Any) -> tuple[Tensor, float]:
    """Computes the loss of samples, and their error in dB."""
    fill, hole, truth, row = (torch.cat(v) for v in zip(*piece, strict=True))
    with torch.autocast("cpu", torch.bfloat16):
        out = net(fill, hole, row)
    error, count = hole * (out.float() - truth), 3 * hole.sum((1, 2, 3)) + 1
    square, plain = (error**2).sum((1, 2, 3)) / count + FLOOR, error.abs().sum((1, 2, 3)) / count + FLOOR**0.5
    return (square.log() + plain.log()).sum(), float(-10 * square.detach().log10().sum())


def damage_loss(net: nn.Module, piece: Any) -> tuple[Tensor, float]:
    """Computes cross entropy plus a loss of false and missed marks. Stores false marks in the samples' last part."""
    picture, label, _ = (torch.cat(v) for v in zip(*piece, strict=True))
    with torch.autocast("cpu", torch.bfloat16):
        logits = net(picture).float()
    sure, damage = (label != UNSURE).float(), (label > UNSURE).float()
    entropy = F.binary_cross_entropy_with_logits(logits, damage, sure, reduction="none").mean((1, 2, 3))
    p = logits.sigmoid() * sure
    hit, wrong, missed = (v.sum((1, 2, 3)) for v in (p * damage, p**2 * (1 - damage), (1 - p) * damage))
    for (*_, error), value in zip(piece, wrong.tolist(), strict=True):
        error.fill_(value)
    marks = torch.where(
        hit + missed > 0, 1 - (hit + 10) / (hit + 0.5 * (wrong + missed) + 10), 0.4 * torch.log1p(wrong / 10)
    )
    loss = (4 * entropy + marks).sum()
    return loss, float(loss.detach())


def turned(sample: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Mirrors a sample and exchanges colours, which commutes with the smooth fill."""
    colours = torch.randperm(3) if torch.rand(()) < 0.3 else torch.arange(3)
    return tuple((v[:, colours] if v.shape[1] == 3 else v).flip(-1) if v.ndim == 4 else v for v in sample)


def train(a: argparse.Namespace) -> None:
    """Trains a network for ``a.minutes``, and writes its checkpoint every two minutes."""
    fills = a.network == "fill"
    net = (FillNet() if fills else DamageNet()).to(memory_format=torch.channels_last)  # pyright: ignore
    net = load(net, a.core).train() if a.core else net
    opt, ema, path = Muon(net, a.lr, threads=a.threads), Ema(net, 0.998), a.run / f"{a.network}.pt"
    step, spent, saved = *map(float, resume(path, net, opt, ema).get("spent", (0, 0))), 0.0
    crew, pool, figures = Crew(net, a.threads, fill_loss if fills else damage_loss), list[Any](), list[float]()
    data = (HoledFaces if fills else DamagedPhotos)(a.faces, a.seed + 1000 * int(step))
    batches = iter(DataLoader(data, a.batch // 2, num_workers=1, prefetch_factor=4))
    while (progress := spent / (60 * a.minutes)) < 1:
        begin = time.process_time()
        for group in opt.param_groups:
            group["lr"] = a.lr * min(1.0, 0.05 + progress * 50) * max(0.02, min(1.0, (1 - progress) / DECAY_SHARE))
        new = list(zip(*(v.split(1) for v in next(batches)), strict=True))
        picks = torch.randint(len(pool), (len(new), a.picks)).tolist() if pool else []
        old = [turned(max((pool[k] for k in some), key=lambda x: float(x[-1]))) for some in picks]
        pool = (pool + new)[-POOL * a.picks :]
        figures.append(sum(crew.run([part for part in (new, old) if part])) / len(new + old))
        opt.step()
        ema.update(net)
        step, spent = step + 1, spent + time.process_time() - begin
        if spent < 60 * a.minutes and time.monotonic() - saved < 120:
            continue
        save(path, net, opt, ema, spent=(step, spent))
        print(f"step {step:.0f}, {spent / 60:.1f} processor minutes, {sum(figures) / len(figures):.4f}", flush=True)
        saved, figures = time.monotonic(), []


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("network", choices=("fill", "damage"))
    p.add_argument("--core", type=Path, help="checkpoint whose averaged weights are the start")
    p.add_argument("--minutes", type=float, default=200, help="processor time, so that a busy machine only delays")
    given = {"faces": Path("faces"), "run": Path("runs/repair"), "lr": 2e-3}
    for name, value in (given | {"batch": 8, "threads": 2, "seed": 1, "picks": 1}).items():
        p.add_argument(f"--{name}", type=type(value), default=value)
    a = p.parse_args()
    torch.manual_seed(a.seed)
    cv2.setNumThreads(1)  # a fork copies no threads, so that the loader's process would wait for OpenCV's
    a.run.mkdir(parents=True, exist_ok=True)
    train(a)


if __name__ == "__main__":
    main()
