"""Trains the network for coded pictures at their own size.

``python -m training.loop.train_coded --pairs runs/coded --valid runs/coded-valid --run runs/coded-net --minutes 60``

Pairs come from ``training.data.coded_pairs``. The loss is the mean logarithm of each patch's squared error, so that a
good picture counts as much as a poor one: leaving it alone is learnt, not added by a threshold. The run resumes where
it was stopped, and looks for new shards while it trains. ``best.pt`` is the checkpoint with the best gain on people set
aside for validation, less the error of the gain that it predicts: on few films the network learns them by heart.
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training.crop_space import U8
from training.data.coded_pairs import CODECS
from training.loop.checkpoints import Ema, resume, save
from training.loop.muon import Muon
from training.model.coded import BLOCKS, CELL, SMALL_BLOCKS, SMALL_WIDTHS, WIDTHS, CodedNet, step_planes

FIRST, LAST = 2e-3, 2e-5
EVERY = 500
UNKNOWN = 0.3
"""Share of the patches whose quantiser steps are hidden."""
FLOOR = (0.4 / 255) ** 2
"""Squared error added to each patch's before the logarithm: what rounding to code values costs."""
ERROR_WEIGHT = 1.0
GOOD, OFTEN = 5.0, 3
"""Squared error in code values below which a patch counts as good, and how much more often those are drawn."""
COARSE, MORE = 4.5, 3
"""Mean log2 of quantiser steps from which on a patch counts as coarse, and how much more often those are drawn, and
those of codecs that filter well (`FINE`): the mean over all patches hardly shows what is lost there."""
FINE = [CODECS.index(name) for name in ("libx265", "libvpx-vp9", "libsvtav1")]
AREA, LEAST = 4, (0.2 / 255) ** 2
"""Cells along each side of the areas whose mean errors are predicted, and what is added to those."""


class Pairs:
    """All shards of a folder in memory; ``refresh`` reads those written since."""

    def __init__(self, root: Path) -> None:
        self.root, self.names = root, set[str]()
        self.seen: list[U8] = []
        self.truth: list[U8] = []
        self.steps: list[np.ndarray] = []
        self.meta: list[np.ndarray] = []
        self.order = np.zeros(0, np.int64)
        self.refresh()

    def refresh(self) -> int:
        for path in sorted(self.root.glob("*.npz")):
            if path.name in self.names or path.name.endswith(".tmp.npz"):
                continue
            first = len(self.seen)
            with np.load(path) as data:  # each look at an array reads it from the disk
                self.seen += list(data["seen"])
                self.truth += list(data["truth"])
                self.steps += list(data["steps"].astype(np.float32))
                self.meta += list(data["meta"])
            good = [
                float(np.mean((s.astype(np.float32) - t) ** 2)) < GOOD
                for s, t in zip(self.seen[first:], self.truth[first:], strict=True)
            ]
            coarse = [
                bool(np.isfinite(s).all() and s.mean() > COARSE) or int(m[0]) in FINE
                for s, m in zip(self.steps[first:], self.meta[first:], strict=True)
            ]
            often = np.where(good, OFTEN, np.where(coarse, MORE, 1))
            self.order = np.concatenate([self.order, np.repeat(np.arange(first, len(self.seen)), often)])
            self.names.add(path.name)
        return len(self.seen)

    def batch(self, r: np.random.Generator, size: int, side: int) -> tuple[Tensor, Tensor, Tensor]:
        """Seen and true patches N×3×side×side, 0..1, and steps N×side/8×side/8."""
        parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for number in self.order[r.integers(len(self.order), size=size)]:
            room = (self.seen[0].shape[0] - side) // CELL + 1
            y, x = (int(v) for v in r.integers(room, size=2))
            box = np.s_[y * CELL : y * CELL + side, x * CELL : x * CELL + side]
            steps = self.steps[number][y : y + side // CELL, x : x + side // CELL]
            if r.uniform() < UNKNOWN:
                steps = np.full_like(steps, np.nan)
            one = (self.seen[number][box], self.truth[number][box], steps)
            if r.uniform() < 0.5:  # another contrast, saturation and brightness
                one = toned(*one, r)
            if r.uniform() < 0.25:  # another colour
                colours = r.permutation(3)
                one = (one[0][..., colours], one[1][..., colours], one[2])
            if r.uniform() < 0.5:
                one = tuple(v[:, ::-1] for v in one)
            if r.uniform() < 0.15:
                one = tuple(v[::-1] for v in one)
            if r.uniform() < 0.1:
                one = tuple(np.rot90(v) for v in one)
            parts.append(one)
        seen, truth = (
            torch.from_numpy(np.stack([p[k] for p in parts])).permute(0, 3, 1, 2).float() / 255 for k in (0, 1)
        )
        return (
            seen.contiguous(memory_format=torch.channels_last),
            truth.contiguous(memory_format=torch.channels_last),
            torch.from_numpy(np.stack([p[2] for p in parts])),
        )


def toned(seen: U8, truth: U8, steps: np.ndarray, r: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Both pictures with another contrast, saturation and brightness, float32 0…255; errors and steps scale alike."""
    pair = np.stack([seen, truth]).astype(np.float32)
    gray = pair.mean(-1, keepdims=True)
    pair = gray + np.float32(r.uniform(0.6, 1.25) if r.uniform() < 0.5 else 1.0) * (pair - gray)
    low, high = float(pair[1].min()), float(pair[1].max())
    scale = min(float(np.exp(r.normal(0, 0.2))), 255 / max(high - low, 1.0))
    pair = scale * (pair - low) + float(r.uniform(0, max(0.0, 255 - scale * (high - low))))
    return pair[0], pair[1], steps + np.float32(np.log2(scale))


def cell_error(a: Tensor, b: Tensor) -> Tensor:
    """Squared error, mean over the colours and cells of 8×8: N×h/8×w/8."""
    return F.avg_pool2d(((a - b) ** 2).mean(1, keepdim=True), CELL)[:, 0]


def losses(net: CodedNet, seen: Tensor, truth: Tensor, steps: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean logarithm of the patches' errors, loss of the predicted errors, and errors before and after by patch."""
    with torch.autocast("cpu", torch.bfloat16):
        d, log_error = net(seen, step_planes(steps))
    out = seen + d.float()
    before, after = cell_error(seen, truth), cell_error(out, truth)
    patch = after.mean((1, 2))
    wanted = F.avg_pool2d(torch.stack([before, after.detach()], 1), AREA) + LEAST
    told = F.avg_pool2d(torch.exp(log_error.float()), AREA) + LEAST
    miss = F.smooth_l1_loss(torch.log(told), torch.log(wanted), beta=0.5)
    return torch.log(patch + FLOOR).mean(), miss, before.mean((1, 2)), patch.detach()


def validate(net: CodedNet, pairs: Pairs, known: bool) -> tuple[float, float, float]:
    """Mean and worst gain in dB over patches, and mean error in dB of the predicted gain."""
    gains: list[float] = []
    misses: list[float] = []
    with torch.no_grad():
        for number in range(0, len(pairs.seen), 4):
            part = slice(number, number + 4)
            seen, truth = (
                torch.from_numpy(np.stack(v[part])).permute(0, 3, 1, 2).float() / 255 for v in (pairs.seen, pairs.truth)
            )
            steps = torch.from_numpy(np.stack(pairs.steps[part]))
            with torch.autocast("cpu", torch.bfloat16):
                d, log_error = net(seen, step_planes(steps if known else torch.full_like(steps, math.nan)))
            before, after = cell_error(seen, truth).mean((1, 2)), cell_error(seen + d.float(), truth).mean((1, 2))
            gain = 10 * torch.log10((before + FLOOR) / (after + FLOOR))
            told = torch.exp(log_error.float()).mean((2, 3)) + FLOOR
            gains += gain.tolist()
            misses += (10 * torch.log10(told[:, 0] / told[:, 1]) - gain).abs().tolist()
    return float(np.mean(gains)), float(np.min(gains)), float(np.mean(misses))


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--pairs", type=Path, required=True)
    p.add_argument("--valid", type=Path, required=True)
    p.add_argument("--run", type=Path, required=True)
    p.add_argument("--core", type=Path, help="checkpoint whose averaged weights are the beginning")
    p.add_argument("--minutes", type=float, default=60, help="of computing time")
    p.add_argument("--batch", type=int, default=8)
    p.add_argument("--side", type=int, default=128)
    p.add_argument("--lr", type=float, default=FIRST)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--small", action="store_true", help="the light network")
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    a.run.mkdir(parents=True, exist_ok=True)
    net = CodedNet(*((SMALL_WIDTHS, SMALL_BLOCKS) if a.small else (WIDTHS, BLOCKS))).to(
        memory_format=torch.channels_last
    )
    if a.core:
        net.load_state_dict(torch.load(a.core, map_location="cpu")["ema"], strict=False)
    opt, ema, path = Muon(net, a.lr, threads=1), Ema(net, 0.999), a.run / "last.pt"
    left = resume(path, net, opt, ema)
    step, used = int(left.get("step", 0)), float(left.get("used", 0.0))
    pairs, valid = Pairs(a.pairs), Pairs(a.valid)
    print(f"{sum(p.numel() for p in net.parameters())} weights, {len(pairs.seen)} patches", flush=True)
    best = -math.inf
    total, looked, began_wall = np.zeros(3), time.monotonic(), time.monotonic()
    while used < 60 * a.minutes:
        began = time.process_time()
        done = used / (60 * a.minutes)
        rate = LAST + (a.lr - LAST) * 0.5 * (1 + math.cos(math.pi * done))
        for group in opt.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 100)
        seen, truth, steps = pairs.batch(np.random.default_rng([a.seed, step]), a.batch, a.side)
        loss, told, before, after = losses(net, seen, truth, steps)
        opt.zero_grad(set_to_none=True)
        (loss + ERROR_WEIGHT * told).backward()
        if torch.isfinite(torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)):
            opt.step()
        ema.update(net)
        step += 1
        used += time.process_time() - began
        gain = 10 * torch.log10((before + FLOOR) / (after + FLOOR))
        total += [loss.item(), told.item(), float(gain.mean())]
        if step % 100 == 0:
            print(
                f"step {step}, {used:.0f} s ({time.monotonic() - began_wall:.0f} s): loss {total[0] / 100:.3f}, "
                f"errors {total[1] / 100:.3f}, gain {total[2] / 100:.3f} dB",
                flush=True,
            )
            total[:] = 0
        if time.monotonic() - looked > 60:
            looked = time.monotonic()
            pairs.refresh()
        if step % EVERY == 0 or used >= 60 * a.minutes:
            save(path, net, opt, ema, step=step, used=used)
            valid.refresh()
            if valid.seen:
                with ema.used(net):
                    rows = [validate(net, valid, known) for known in (True, False)]
                known, unknown = (f"gain {g:+.3f} (worst {w:+.2f}, predicted within {m:.2f})" for g, w, m in rows)
                print(f"step {step}, {len(pairs.seen)} patches: {known}; steps unknown: {unknown}", flush=True)
                score = sum(gain - miss for gain, _, miss in rows)
                if score > best:
                    best = score
                    save(a.run / "best.pt", net, opt, ema, step=step, used=used)
                with (a.run / "log.csv").open("a", newline="") as f:
                    csv.writer(f).writerow([step, round(used), *(round(v, 4) for row in rows for v in row)])


if __name__ == "__main__":
    main()
