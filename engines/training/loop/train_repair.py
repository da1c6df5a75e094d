"""Trains the networks for damaged prints.

``python -m training.loop.train_repair fill --faces FACES --run runs/fill --minutes 100`` (or ``damage``).

The fill's loss is the mean logarithm of each picture's error inside the holes, squared and absolute. So smooth pictures
count as much as rich ones. A run continues from its last checkpoint; training waits while the file ``--wait-for``
exists. On CPUs set ``OMP_NUM_THREADS=1``.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from training.data.damaged_photos import UNSURE, DamagedPhotos
from training.data.holed_faces import HoledFaces
from training.evaluation.repairs import damage_summary, examples, fill_summary
from training.loop.checkpoints import Ema, resume, save
from training.loop.muon import Muon
from training.loop.parallel_gradients import Crew
from training.model.repair import DamageNet, FillNet

FLOOR = 1e-5
POOL = 160
"""Earlier samples. Half of each batch comes from them, mirrored and with other colours, to save loading time."""
SAVE_S, MEASURE_S = 120.0, 480.0
DECAY_SHARE = 0.4
"""Share of the run, at its end, in which the rate falls to 2 % of the highest."""
Sample = tuple[Tensor, ...]


def fill_loss(net: nn.Module, piece: Any) -> tuple[Tensor, float]:
    """Computes the loss of a piece of a batch, and its mean error in dB."""
    fill, hole, truth, row, share = piece
    with torch.autocast("cpu", torch.bfloat16):
        out = net(fill, hole, row)
    error = hole * (out.float() - truth)
    count = 3 * hole.sum((1, 2, 3)) + 1
    square, plain = (error**2).sum((1, 2, 3)) / count, error.abs().sum((1, 2, 3)) / count
    loss = (torch.log(square + FLOOR) + torch.log(plain + FLOOR**0.5)).sum() * share
    return loss, float(-10 * torch.log10(square.detach() + FLOOR).sum() * share)


def damage_loss(net: nn.Module, piece: Any) -> tuple[Tensor, float]:
    """Computes cross entropy plus a loss of false and missed marks. Stores the tile's false marks in its last part."""
    picture, label, error, share = piece
    with torch.autocast("cpu", torch.bfloat16):
        logits = net(picture)
    sure, damage = (label != UNSURE).float(), (label > UNSURE).float()
    entropy = F.binary_cross_entropy_with_logits(logits.float(), damage, sure)
    p = logits.float().sigmoid() * sure
    hit, wrong, missed = (p * damage).sum(), (p**2 * (1 - damage)).sum(), ((1 - p) * damage).sum()
    error.fill_(float(wrong.detach()))
    if damage.any():
        marks = 1 - (hit + 10) / (hit + 0.5 * wrong + 0.5 * missed + 10)
    else:
        marks = 0.4 * torch.log1p(wrong / 10)
    return (4 * entropy + marks) * share, float((4 * entropy + marks).detach()) * share


def turned(sample: Sample) -> Sample:
    """Mirrors a sample and exchanges its colours, which commutes with the smooth fill."""
    colours = torch.randperm(3) if torch.rand(()) < 0.3 else torch.arange(3)
    return tuple((v[:, colours] if v.shape[1] == 3 else v).flip(-1) if v.ndim == 4 else v for v in sample)


def rate(progress: float) -> float:
    """Returns the share of the highest learning rate at ``progress`` 0…1 of the run."""
    return min(1.0, 0.05 + progress * 50) * max(0.02, min(1.0, (1 - progress) / DECAY_SHARE))


def train(a: argparse.Namespace, net: nn.Module, loss: Any, data: Any, measure: Callable[[nn.Module], str]) -> None:
    """Trains a network for ``a.minutes``, and writes its checkpoint every two minutes."""
    opt, ema = Muon(net, a.lr, threads=a.threads), Ema(net, 0.998)
    path = a.run / f"{a.network}.pt"
    more = resume(path, net, opt, ema)
    step, spent = int(more.get("step", 0)), float(more.get("spent", 0.0))
    crew = Crew(net, a.threads, loss)
    data.seed += 1000 * step
    batches = iter(DataLoader(data, a.batch // 2, num_workers=1, prefetch_factor=4))
    saved = measured = time.monotonic()
    total, count = 0.0, 0
    pool: list[Sample] = []
    while spent < 60 * a.minutes:
        begin = time.process_time()
        while a.wait_for.exists():
            time.sleep(1)
        for group in opt.param_groups:
            group["lr"] = a.lr * rate(spent / (60 * a.minutes))
        batch = next(batches)
        new: list[Sample] = [tuple(v[k : k + 1] for v in batch) for k in range(a.batch // 2)]
        picks = torch.randint(len(pool), (len(new), a.picks)).tolist() if pool else []
        old = [turned(max((pool[k] for k in some), key=lambda x: float(x[-1]))) for some in picks]
        pool = (pool + new)[-POOL * a.picks :]
        figure = sum(crew.run([(*x, 1 / len(new + old)) for x in new + old]))
        if math.isfinite(figure):
            opt.step()
            ema.update(net)
        total, count, step = total + figure, count + 1, step + 1
        now = time.monotonic()
        spent += time.process_time() - begin
        last = spent >= 60 * a.minutes
        if last or now - saved > SAVE_S:
            save(path, net, opt, ema, step=step, spent=spent)
            lr = opt.param_groups[0]["lr"]
            print(
                f"step {step}, {spent / 60:.1f} processor minutes, rate {lr:.1e}, mean {total / count:.4f}", flush=True
            )
            saved, total, count = now, 0.0, 0
        if last or now - measured > MEASURE_S:
            with ema.used(net), torch.inference_mode():
                print("held-out:", measure(net), flush=True)
            measured = time.monotonic()


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("network", choices=("fill", "damage"))
    p.add_argument("--faces", type=Path, required=True)
    p.add_argument("--run", type=Path, required=True)
    p.add_argument("--minutes", type=float, default=200, help="processor time, so that a busy machine only delays")
    p.add_argument("--core", type=Path, help="checkpoint whose averaged weights are the start")
    p.add_argument("--lr", type=float, default=2e-3)
    p.add_argument("--batch", type=int, default=8)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--picks", type=int, default=1, help="damage: the worst of so many earlier samples is taken again")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--people", type=int, default=24, help="held-out people measured during training")
    p.add_argument("--wait-for", type=Path, default=Path("/tmp/quiet"))
    a = p.parse_args()
    torch.manual_seed(a.seed)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)  # a fork copies no threads, so that the loader's process would wait for OpenCV's
    a.run.mkdir(parents=True, exist_ok=True)
    net = FillNet() if a.network == "fill" else DamageNet()
    net.to(memory_format=torch.channels_last)  # pyright: ignore
    if a.core:
        net.load_state_dict({k: v.float() for k, v in torch.load(a.core, map_location="cpu")["ema"].items()})
    faces = examples(a.faces, a.people)
    if a.network == "fill":
        train(a, net, fill_loss, HoledFaces(a.faces, a.seed), lambda n: fill_summary(n, faces))
    else:
        train(a, net, damage_loss, DamagedPhotos(a.faces, a.seed), lambda n: damage_summary(n, faces))


if __name__ == "__main__":
    main()
