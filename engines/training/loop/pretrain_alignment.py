"""Trains the alignment alone, before the network is trained with memory.

``python -m training.loop.pretrain_alignment --clips DIR --run runs/align``

The alignment is a tenth of the network, but needs more pictures than the other parts. In this training, it only reads
the input and a simulated past: a blend of input and truth, similar to a restoration, warped by the estimated flow. The
target is the true motion. ``train --core runs/s/last.pt runs/align/last.pt`` loads the weights.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.loop.checkpoints import Ema, resume, save
from training.loop.initial_weights import weights
from training.loop.muon import Muon
from training.loop.parallel_gradients import Crew
from training.loop.sequences import Batch, Clips, join, mirror
from training.losses.restoration import Loss
from training.model.recurrence import Align, Carry, Past, drift, empty_past

KEPT_SHARES = (0.7, 0.95)
"""Range of the weight of the warped past in the past for the next frame."""
RESTORED_SHARES = (0.1, 0.5)
"""Range of the weight of the truth in a simulated restoration, which blends it with the input."""
DRIFTED = 0.6
"""Share of clips that start with a misaligned past."""
PIECE = 4
"""Number of clips that a thread computes together. Single clips would take nearly twice as long."""


class Motion(nn.Module):
    """``Align`` and ``Carry`` alone. Parameters have the same names as in a complete network."""

    def __init__(self) -> None:
        super().__init__()
        self.core = nn.ModuleDict({"align": Align(), "carry": Carry()})

    def forward(self, crop: Tensor, past: Past) -> tuple[Tensor, Tensor]:
        return self.core["align"](crop, past)

    def carry(self, past: Tensor, flow: Tensor) -> Tensor:
        return self.core["carry"](past, flow)


def augment_clip(b: Batch, r: np.random.Generator) -> Batch:
    """Augments clips: makes them grey, flips and shifts them, and changes the light. Otherwise, the alignment would
    memorise the few thousand clips."""
    if r.random() < 0.5:
        b = mirror(b)
    upside_down, (dy, dx) = bool(r.random() < 0.5), (int(v) for v in r.integers(-16, 17, 2))
    shares = torch.from_numpy(r.dirichlet((3, 6, 1)).astype(np.float32))
    gain, bias = float(np.exp(r.normal(0, 0.2))), float(r.normal(0, 0.08))
    pictures: list[Tensor] = []
    for picture in (b.truth, b.seen):
        grey = (picture * shares[:, None, None]).sum(2, keepdim=True) * gain + bias
        pictures.append(shift(grey.flip(3) if upside_down else grey, dy, dx))
    flow = b.flow.flip(3) * torch.tensor([1.0, -1.0])[:, None, None] if upside_down else b.flow
    return Batch(*pictures, shift(flow, round(dy / 8), round(dx / 8)), b.cover, b.clean)


def shift(z: Tensor, dy: int, dx: int) -> Tensor:
    """Shifts N×T×C×h×w by ``dy`` down and ``dx`` right, mirrored at the edges."""
    pad_y, pad_x = abs(dy), abs(dx)
    h, w = z.shape[-2:]
    padded = F.pad(z.flatten(0, 1), (pad_x, pad_x, pad_y, pad_y), mode="reflect")
    return padded[..., pad_y - dy : pad_y - dy + h, pad_x - dx : pad_x - dx + w].reshape(z.shape)


def flow_error(difference: Tensor, weight: Tensor) -> Tensor:
    """Averages the lengths of vectors N×2×h/8×w/8, weighted by 1×1×h×w. Returns N values in pixels."""
    length = torch.sqrt((difference * difference).sum(1, keepdim=True) + 1e-3)
    return (length * F.avg_pool2d(weight, 8)).mean((1, 2, 3))


def clip_error(net: Any, b: Batch, weight: Tensor, keep: float, share: float, drifted: Tensor | None = None) -> Tensor:
    """Measures the mean flow error of all frames but the first: N values, pixels.

    The flow must warp the past to the face's current position, so it must also correct errors of earlier flows. With
    true motion as the only target, errors add up to 0.9 px in ten frames of a call. ``keep``, ``share``: see
    `KEPT_SHARES` and `RESTORED_SHARES`. ``drifted``: initial misalignment (``recurrence.drift``).
    """
    restored = b.seen + share * (b.truth - b.seen)
    past, offset = empty_past(restored[:, 0]), torch.zeros_like(b.flow[:, 0])
    errors: list[Tensor] = []
    for t in range(b.seen.shape[1]):
        with torch.autocast(restored.device.type, torch.bfloat16):
            flow, state = net(b.seen[:, t].contiguous(memory_format=torch.channels_last), past)
        if not t:
            picture = past.picture
            if drifted is not None:
                picture, offset = net.carry(picture, drifted), drifted
            past = Past(picture, torch.ones_like(past.known), state.float())
            continue
        flow = flow.float()
        errors.append(flow_error(flow - b.flow[:, t] + offset, weight))
        flow = flow.detach()
        picture = keep * net.carry(past.picture, flow) + (1 - keep) * restored[:, t]
        past = Past(picture, past.known, state.float())
        offset = keep * (offset + flow - b.flow[:, t])
    return torch.stack(errors).mean(0)


class Stage:
    """A training run of the alignment, stored in a folder."""

    def __init__(self, a: argparse.Namespace) -> None:
        torch.manual_seed(a.seed)
        torch.set_num_threads(1)
        self.a, self.net, self.clips = a, Motion().to(memory_format=torch.channels_last), Clips(a.clips)
        if a.core:
            initial = weights(a.core)
            state = self.net.state_dict()
            self.net.load_state_dict(state | {k: initial[k] for k in state if k in initial})
        self.opt = Muon(self.net, a.lr, threads=a.threads)
        self.ema, self.path = Ema(self.net, 0.998), a.run / "last.pt"
        saved = resume(self.path, self.net, self.opt, self.ema)
        self.step, self.used = int(saved.get("step", 0)), float(saved.get("used", 0.0))
        self.weight: Tensor = Loss(256).weight  # pyright: ignore
        self.crew = Crew(self.net, a.threads, self.work)

    def work(self, net: nn.Module, piece: int) -> tuple[Tensor, float]:
        """Measures the flow error on a few random clips. ``piece`` is the seed that selects them."""
        r = np.random.default_rng([self.a.seed, piece])
        clips = [augment_clip(self.clips.get(int(i)), r) for i in r.integers(len(self.clips.index), size=PIECE)]
        drifted = drift(PIECE, torch.Generator().manual_seed(int(r.integers(2**31)))) if r.random() < DRIFTED else None
        options = float(r.uniform(*KEPT_SHARES)), float(r.uniform(*RESTORED_SHARES)), drifted
        error = clip_error(net, join(clips), self.weight, *options).mean()
        return 100 * error * PIECE / self.a.batch, float(error.detach())

    def learn(self) -> float:
        """Trains one step. Returns the flow error in pixels."""
        progress = min(1.0, self.used / 60 / self.a.minutes)
        for g in self.opt.param_groups:
            g["lr"] = (self.a.lr * (0.5 + 0.5 * math.cos(math.pi * progress)) + 1e-5) * min(1.0, (self.step + 1) / 50)
        pieces = self.a.batch // PIECE
        errors = self.crew.run([self.step * pieces + k for k in range(pieces)])
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 500.0)
        self.opt.step()
        self.step += 1
        self.ema.update(self.net)
        return float(np.mean(errors))

    @torch.no_grad()
    def judge(self, clips: Clips) -> float:
        """Measures the flow error (pixels) of the averaged weights on held-out people."""
        with self.ema.used(self.net):
            errors = [clip_error(self.net, clips.get(i), self.weight, 0.85, 0.3) for i in range(len(clips.index))]
        return float(torch.cat(errors).mean())

    def save(self) -> None:
        save(self.path, self.net, self.opt, self.ema, step=self.step, used=self.used)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--clips", type=Path, required=True, help="folder written by `training.data.film_sequences`")
    p.add_argument("--valid", type=Path, help="the same for held-out people, measured every five minutes")
    p.add_argument("--run", type=Path, required=True)
    p.add_argument("--core", type=Path, help="checkpoint or engine folder to start from")
    p.add_argument("--minutes", type=float, default=20)
    p.add_argument("--lr", type=float, default=3e-3)
    p.add_argument("--batch", type=int, default=16, help=f"clips per step, {PIECE} at a time")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    a.run.mkdir(parents=True, exist_ok=True)
    stage, valid = Stage(a), Clips(a.valid) if a.valid else None
    last_check, last = stage.used, time.monotonic()
    last_print = last
    errors: list[float] = []
    while stage.used < 60 * a.minutes:
        errors.append(stage.learn())
        now = time.monotonic()
        stage.used, last = stage.used + min(now - last, 5.0), now
        if now - last_print > 60 or stage.used >= 60 * a.minutes:
            stage.save()
            print(f"step {stage.step}, {stage.used / 60:.1f} min: flow error {np.mean(errors):.3f} px", flush=True)
            errors, last_print = [], now
            if valid and (stage.used - last_check > 300 or stage.used >= 60 * a.minutes):
                print(f"  held-out people: {stage.judge(valid):.3f} px", flush=True)
                last_check, last = stage.used, time.monotonic()


if __name__ == "__main__":
    main()
