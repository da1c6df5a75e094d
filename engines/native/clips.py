"""Teaching a network to remember: training on the sequences that ``sequences`` writes.

The network sees its own restored crop of the frame before, as it was and carried along by optical flow, exactly as the
run time shows it, and learns through several frames at once what to keep of it.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .data import CLEAN, Pairs, Shards, Stream
from .films import KINDS
from .losses import Loss
from .model import Small
from .past import STATE, Past


@dataclass
class Batch:
    """Clips: ``truth`` and ``seen`` N×T×3×h×w float32 0..1, ``flow`` N×T×h/4×w/4×2 pixels, ``cover`` N×T×h/4×w/4
    0..1, ``clean`` N bool."""

    truth: Tensor
    seen: Tensor
    flow: Tensor
    cover: Tensor
    clean: Tensor

    def __len__(self) -> int:
        return self.truth.shape[0] * self.truth.shape[1]


class Clips(Shards):
    """The sequences that ``sequences`` writes."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, ("pictures", "flow", "cover"))

    def get(self, i: int, start: int = 0, length: int | None = None) -> Batch:
        """Clip ``i`` as a batch of one; what an obstacle hides is to be left as it is, so it is its own truth."""
        shard, row = self.index[i]
        end = None if length is None else start + length
        pictures, flow, cover = (part[row, start:end] for part in self.shards[shard])
        both = torch.from_numpy(np.array(pictures)).permute(1, 0, 4, 2, 3).float() / 255
        truth, seen = both[0], both[1]
        hidden = torch.from_numpy(cover.astype(np.float32)) / 255
        if cover.any():
            truth = truth + F.interpolate(hidden[:, None], scale_factor=4.0, mode="bilinear") * (seen - truth)
        moved = torch.from_numpy(flow.astype(np.float32))
        clean = torch.tensor([bool(self.kinds[i] == CLEAN)])
        return Batch(truth[None], seen[None], moved[None], hidden[None], clean)


def mirrored(b: Batch) -> Batch:
    """The same clips seen in a mirror."""
    flow = b.flow.flip(3) * torch.tensor([-1.0, 1.0])
    return Batch(b.truth.flip(4), b.seen.flip(4), flow, b.cover.flip(3), b.clean)


class ClipStream:
    """Endless seeded steps, prepared in a thread: ``count`` clips of ``length`` frames and a piece of single pairs."""

    def __init__(self, clips: Clips, pairs: Pairs | None, count: int, length: int, seed: int, clean_share: float,
                 often: Mapping[str, float] | None = None, ahead: int = 4) -> None:
        self.clips, self.count, self.length, self.clean_share = clips, count, length, clean_share
        self.often = often or {}
        self.singles = Stream(pairs, 4, seed, clean_share, often) if pairs else None
        self.rng = np.random.default_rng(seed)
        self.queue: queue.Queue[list[Batch]] = queue.Queue(ahead)
        threading.Thread(target=self._fill, daemon=True).start()

    def _one(self) -> Batch:
        r = self.rng
        i = self.clips.draw(r, self.often)
        frames = self.clips.shards[self.clips.index[i][0]][0].shape[1]
        b = self.clips.get(i, int(r.integers(0, frames - self.length + 1)), self.length)
        if r.random() < self.clean_share:
            b = Batch(b.truth, b.truth.clone(), b.flow, b.cover, torch.ones_like(b.clean))
        return mirrored(b) if r.random() < 0.5 else b

    def _fill(self) -> None:
        while True:
            step = [self._one() for _ in range(self.count)]
            if self.singles is not None:
                truth, seen, clean = next(self.singles)
                n, _, h, w = truth.shape
                nothing = torch.zeros(n, 1, h // 4, w // 4)
                step.append(Batch(truth[:, None], seen[:, None], torch.stack([nothing] * 2, -1), nothing, clean))
            self.queue.put(step)

    def __next__(self) -> list[Batch]:
        return self.queue.get()


def carried(picture: Tensor, flow: Tensor) -> Tensor:
    """A picture N×3×h×w fetched from where ``flow`` (N×h/4×w/4×2, pixels) says it was."""
    _, _, h, w = picture.shape
    fine = F.interpolate(flow.permute(0, 3, 1, 2), size=(h, w), mode="bilinear", align_corners=False)
    y, x = torch.meshgrid(torch.arange(h, dtype=torch.float32), torch.arange(w, dtype=torch.float32), indexing="ij")
    at = torch.stack([2 * (x + fine[:, 0] + 0.5) / w - 1, 2 * (y + fine[:, 1] + 0.5) / h - 1], -1)
    return F.grid_sample(picture, at, mode="bilinear", padding_mode="border", align_corners=False)


def unroll(net: Small, b: Batch) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Runs a network over clips: residuals (N×3×h×w each), gate logits and heads of every frame."""
    residuals: list[Tensor] = []
    logits: list[Tensor] = []
    heads: list[Tensor] = []
    n, frames, _, h, w = b.seen.shape
    still = moved = b.seen[:, 0]
    known = b.seen.new_zeros(n, 1, 1, 1)
    state = None if net.core.memory is None else b.seen.new_zeros(n, STATE, h // 16, w // 16)
    for t in range(frames):
        x = b.seen[:, t].contiguous(memory_format=torch.channels_last)
        if t:
            moved = carried(still, b.flow[:, t])
        with torch.autocast(x.device.type, torch.bfloat16):
            residual, logit, new, more = net(x, Past(still, moved, known, state))
        residual = residual.float()
        still, known = (x + residual).clamp(0, 1), torch.ones_like(known)
        state = None if new is None else new.float()
        residuals.append(residual)
        logits.append(logit.float())
        heads.append(more.float())
    return residuals, logits, heads


OCCLUSION = 5.0
"""Weight of what lies in front of the face beside the uncertainty, in the loss of the heads."""

Look = Callable[[Tensor, Tensor], Tensor]
"""How different two pictures N×3×h×w look, N values."""


def clip_loss(
    loss: Loss, net: Small, b: Batch, temporal: float, clean_weight: float, look: tuple[Look, float] | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """(summed loss of a batch over its frames, squared error N×T after the lock, the input's N×T).

    ``look``: a perceptual distance and its weight, for one random frame of the batch (it costs as much as ten frames).
    """
    residuals, logits, heads = unroll(net, b)
    weight = 1 + clean_weight * b.clean
    total = b.seen.new_zeros(())
    ours: list[Tensor] = []
    theirs: list[Tensor] = []
    pictures: list[Tensor] = []
    before: Tensor | None = None
    for t, (residual, logit) in enumerate(zip(residuals, logits, strict=True)):
        truth, seen = b.truth[:, t], b.seen[:, t]
        each, square, shown = loss(seen, residual, truth)
        gate = F.binary_cross_entropy_with_logits(logit.mean((1, 2, 3)), (~b.clean).float(), reduction="none")
        error = seen + residual - truth
        if before is not None:
            each = each + temporal * loss.charbonnier(error - before)
        before = error
        left = F.avg_pool2d((shown - truth).abs().mean(1, keepdim=True), 4).detach()
        each = each + 0.002 * head_loss(heads[t], left, b.cover[:, t : t + 1], F.avg_pool2d(loss.mask, 4))  # pyright: ignore
        total = total + (each * weight + 0.002 * gate).sum()
        ours.append(square)
        pictures.append(shown)
        theirs.append(((seen - truth) ** 2 * loss.mask).mean((1, 2, 3)))  # pyright: ignore
    if look is not None:
        t = int(torch.randint(len(residuals), ()))
        total = total + look[1] * look[0](pictures[t].clamp(0, 1), b.truth[:, t]).sum()
    return total, torch.stack(ours, 1), torch.stack(theirs, 1)


def head_loss(heads: Tensor, left: Tensor, cover: Tensor, oval: Tensor) -> Tensor:
    """Per sample: negative log-likelihood of the error that is left (mean over 4×4 pixels and the colours) under a
    Laplace distribution, and cross-entropy of what is hidden; N×1×h×w each, weighted with the oval."""
    scale = heads[:, :1].clamp(-8, 0)
    doubt = left * torch.exp(-scale) + scale
    hidden = F.binary_cross_entropy_with_logits(heads[:, 1:], cover, reduction="none")
    return ((doubt + OCCLUSION * hidden) * oval).mean((1, 2, 3))


@torch.no_grad()
def clip_figures(loss: Loss, net: Small, clips: Clips, most: int, skip: int = 3) -> dict[str, Any]:
    """Gain in dB over the input by kind (frames from ``skip`` on), of first frames; flicker relative to the input."""
    rows: list[tuple[int, float, float, float]] = []
    for i in range(min(most, len(clips.index))):
        b = clips.get(i)
        if b.clean.item():
            continue
        residuals, *_ = unroll(net, b)
        shown = [loss(b.seen[:, t], r, b.truth[:, t])[2] for t, r in enumerate(residuals)]
        errors = (torch.stack(shown, 1) - b.truth)[0]
        plain = (b.seen - b.truth)[0]
        mask = loss.mask
        gains = 10 * torch.log10((plain**2 * mask).mean((1, 2, 3)) / (errors**2 * mask).mean((1, 2, 3)).clamp_min(1e-9))  # pyright: ignore
        flick = [float((e[skip + 1 :] - e[skip:-1]).abs().mul(mask).mean()) for e in (errors, plain)]  # pyright: ignore
        rows.append((int(clips.kinds[i]), float(gains[skip:].mean()), float(gains[0]), flick[0] / max(flick[1], 1e-6)))
    table = np.array(rows)
    kinds = {KINDS[int(k)]: round(float(table[table[:, 0] == k, 1].mean()), 2) for k in np.unique(table[:, 0])}
    return {"valid_gain_db": round(float(table[:, 1].mean()), 3), "valid_first_db": round(float(table[:, 2].mean()), 3),
            "valid_worst_db": round(float(table[:, 1].min()), 2), "flicker": round(float(table[:, 3].mean()), 3),
            "kinds": str(kinds).replace(",", "")}  # fmt: skip
