"""Trains on sequences: batches of successive frames, and losses over these frames.

As in a run, the network reads its own restored crop of the previous frame. Over several frames, it learns how to align
this crop and which parts of it to keep.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training.data.film_pairs import KINDS
from training.data.shards import CLEAN, Pairs, Shards, Stream
from training.losses.restoration import Loss
from training.model.networks import Small
from training.model.recurrence import Past, drift, empty_past


@dataclass
class Batch:
    """Clips: ``truth`` and ``seen`` (the input) N×T×3×h×w float32 0..1; ``flow`` N×T×2×h/8×w/8, pixels; ``cover``, the
    occluded share of cells, N×T×h/4×w/4; ``clean`` N bool. The first ``warm`` frames do not count in the loss."""

    truth: Tensor
    seen: Tensor
    flow: Tensor
    cover: Tensor
    clean: Tensor
    warm: int = 0

    def __len__(self) -> int:
        return self.truth.shape[0] * (self.truth.shape[1] - self.warm)


class Clips(Shards):
    """Sequences written by ``data.film_sequences``."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, ("pictures", "flow", "cover"))

    def get(self, i: int, start: int = 0, length: int | None = None) -> Batch:
        """Loads clip ``i`` as a batch of one. Occluded parts of the truth equal the input: they must not change."""
        shard, row = self.index[i]
        end = None if length is None else start + length
        pictures, flow, cover = (part[row, start:end] for part in self.shards[shard])
        pair = torch.from_numpy(np.array(pictures)).permute(1, 0, 4, 2, 3).float() / 255
        truth, seen = pair[0], pair[1]
        hidden = torch.from_numpy(cover.astype(np.float32)) / 255
        if cover.any():
            truth = truth + F.interpolate(hidden[:, None], scale_factor=4.0, mode="bilinear") * (seen - truth)
        motion = torch.from_numpy(flow.astype(np.float32)).permute(0, 3, 1, 2)
        clean = torch.tensor([bool(self.kinds[i] == CLEAN)])
        return Batch(truth[None], seen[None], motion[None], hidden[None], clean)


def join(clips: list[Batch]) -> Batch:
    """Joins clips of the same length into one batch."""
    parts = [(c.truth, c.seen, c.flow, c.cover, c.clean) for c in clips]
    return Batch(*(torch.cat(part) for part in zip(*parts, strict=True)))


def mirror(b: Batch) -> Batch:
    """Mirrors clips."""
    flow = b.flow.flip(4) * torch.tensor([-1.0, 1.0])[:, None, None]
    return Batch(b.truth.flip(4), b.seen.flip(4), flow, b.cover.flip(3), b.clean, b.warm)


JITTER_SHARE = 0.6
"""Share of batches with a simulated tracker's jitter."""
JITTER = (0.25, 0.003, 0.005)
"""Standard deviations of a tracker's crop jitter between frames: shift (pixels of 256), scale, rotation (radians),
measured on calls."""


def add_jitter(b: Batch, r: np.random.Generator) -> Batch:
    """Adds a tracker's jitter to clips: a small shift, scale and rotation per frame.

    The jitter is drawn anew for each use. Clips already contain slower errors (``film_sequences.TrackerErrors``).
    """
    n, length, _, h, w = b.seen.shape
    shift_sd, scale_sd, turn_sd = JITTER
    jitter = np.abs(r.normal(0, 1, (n, 1))) * r.normal(0, 1, (4, n, length))
    jitter *= np.array([shift_sd, shift_sd, scale_sd, turn_sd])[:, None, None]
    dx, dy, scale, angle = torch.from_numpy(jitter.astype(np.float32))
    a, c = torch.exp(scale) * torch.cos(angle), torch.exp(scale) * torch.sin(angle)
    turn = torch.stack([torch.stack([a, -c], -1), torch.stack([c, a], -1)], -2)  # n×T×2×2

    def move_cells(step: int) -> Tensor:
        """Returns the moved centres of ``step``-px cells, n×T×h×w×2 (x, y). The origin is the region's centre."""
        y, x = (torch.arange(0, size, step) + (step - 1) / 2 - (size - 1) / 2 for size in (h, w))
        grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)
        return torch.einsum("ntij,yxj->ntyxi", turn, grid) + torch.stack([dx, dy], -1)[:, :, None, None]

    places = move_cells(1) * torch.tensor([2 / w, 2 / h])
    warped = [F.grid_sample(p.flatten(0, 1), places.flatten(0, 1), "bicubic", "reflection", align_corners=False)
             .clamp(0, 1).reshape(p.shape) for p in (b.truth, b.seen)]  # fmt: skip
    # New flow = this crop's jitter, then the old flow, then the inverse of the previous crop's jitter.
    cells = move_cells(8)
    old = cells[:, 1:] + b.flow[:, 1:].permute(0, 1, 3, 4, 2) - torch.stack([dx, dy], -1)[:, :-1, None, None]
    new = torch.einsum("ntij,ntyxj->ntyxi", torch.linalg.inv(turn[:, :-1]), old)
    y, x = (torch.arange(0, size, 8) + 3.5 - (size - 1) / 2 for size in (h, w))
    flow = b.flow.clone()
    flow[:, 1:] = (new - torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)).permute(0, 1, 4, 2, 3)
    return Batch(warped[0], warped[1], flow, b.cover, b.clean, b.warm)


class ClipStream:
    """Endless seeded batches, prepared in a thread: ``count`` clips of ``length`` frames, and pairs of one frame."""

    def __init__(
        self,
        clips: Clips,
        pairs: Pairs | None,
        count: int,
        length: int,
        seed: int,
        clean_share: float,
        ahead: int = 4,
    ) -> None:
        self.clips, self.count, self.length, self.clean_share = clips, count, length, clean_share
        self.singles = Stream(pairs, 4, seed, clean_share) if pairs else None
        self.rng = np.random.default_rng(seed)
        self.queue: queue.Queue[list[Batch]] = queue.Queue(ahead)
        threading.Thread(target=self._fill, daemon=True).start()

    def _draw(self, count: int) -> Batch:
        """Draws clips of one length. A third start with a face's first frame; for others, ``warm`` frames precede."""
        r = self.rng
        surplus = self.clips.shards[0][0].shape[1] - self.length
        warm = max(0, int(r.integers(-(surplus // 2), surplus + 1)))
        drawn: list[Batch] = []
        for _ in range(count):
            b = self.clips.get(self.clips.draw(r), int(r.integers(0, surplus - warm + 1)), warm + self.length)
            if r.random() < self.clean_share:
                b = Batch(b.truth, b.truth.clone(), b.flow, b.cover, torch.ones_like(b.clean))
            drawn.append(mirror(b) if r.random() < 0.5 else b)
        b = join(drawn)
        b.warm = warm
        return add_jitter(b, r) if r.random() < JITTER_SHARE else b

    def _fill(self) -> None:
        while True:
            step = [self._draw(min(CLIPS_PER_PIECE, self.count)) for _ in range(max(1, self.count // CLIPS_PER_PIECE))]
            if self.singles is not None:
                truth, seen, clean = next(self.singles)
                n, _, h, w = truth.shape
                no_flow, no_cover = torch.zeros(n, 1, 2, h // 8, w // 8), torch.zeros(n, 1, h // 4, w // 4)
                step.append(Batch(truth[:, None], seen[:, None], no_flow, no_cover, clean))
            self.queue.put(step)

    def __next__(self) -> list[Batch]:
        return self.queue.get()


class FrameOutput(NamedTuple):
    """A network's output: ``residual`` N×3×h×w, gate ``logit``, ``moved`` (warped past) N×3×h×w, and ``heads``."""

    residual: Tensor
    logit: Tensor
    moved: Tensor
    heads: Tensor


def unroll(net: Small, b: Batch, ahead: float = 0.0, drifted: Tensor | None = None) -> list[FrameOutput]:
    """Runs a network over clips, frame by frame.

    ``ahead``: weight (0..1) with which the past after the first frame is blended with the truth. ``drifted``: its
    misalignment (``recurrence.drift``). The two simulate a long film, in which the past improves and drifts, because
    clips are too short.
    """
    out: list[FrameOutput] = []
    past = empty_past(b.seen[:, 0])
    for t in range(b.seen.shape[1]):
        x = b.seen[:, t].contiguous(memory_format=torch.channels_last)
        learns = torch.is_grad_enabled() and t >= b.warm
        with torch.autocast(x.device.type, torch.bfloat16), torch.set_grad_enabled(learns):
            residual, logit, moved, heads, state = net(x, past)
        output = FrameOutput(residual.float(), logit.float(), moved.float(), heads.float())
        restored = (x + output.residual).clamp(0, 1)
        if not t:
            restored = restored.lerp(b.truth[:, 0], ahead)
            restored = restored if drifted is None else net.core.carry(restored, drifted)
        past = Past(restored, torch.ones_like(past.known), state.float())
        out.append(output)
    return out


ALIGNMENT = 1.0
"""Weight of the difference between the warped past and the truth."""

TEMPORAL = 0.3
"""Weight of changes of the error between frames."""

MAX_AHEAD = 0.4
"""Maximum of ``ahead`` in `unroll`. Half of the batches start with 0."""

CLIPS_PER_PIECE = 2
"""Number of clips that a thread processes together, which is a fifth faster than one by one."""

USUAL_ERROR = 0.02
"""Usual error (Charbonnier) of an input."""

OCCLUSION_WEIGHT = 5.0
"""Weight of the occlusion, relative to the uncertainty, in the loss of the heads."""

PerceptualDistance = Callable[[Tensor, Tensor], Tensor]
"""Function that maps two batches N×3×h×w to N perceptual distances."""


def weight_of(input_error: Tensor, clean: Tensor, clean_weight: float) -> Tensor:
    """Returns the weights of N samples. Samples with a smaller ``input_error`` (Charbonnier) get more weight, because
    they have as much to lose as poor ones have to gain. For clean samples, it is multiplied by 1 + ``clean_weight``."""
    return (1 + clean_weight * clean) * 2 * USUAL_ERROR / (USUAL_ERROR + input_error)


def clip_loss(
    loss: Loss, net: Small, b: Batch, clean_weight: float, distance: tuple[PerceptualDistance, float] | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns (loss summed over frames, squared errors N×T, input's squared errors N×T).

    Errors are after the colour lock. ``distance``: a perceptual distance and its weight. It is computed for only one
    random frame of the batch, because it takes as long as ten frames.
    """
    ahead = max(0.0, float(torch.rand(())) * 2 - 1) * MAX_AHEAD
    outputs = unroll(net, b, ahead, drift(len(b.truth)).to(b.seen.device) if ahead else None)
    frames = range(b.warm, b.truth.shape[1])
    input_errors = torch.stack([loss.charbonnier(b.seen[:, t] - b.truth[:, t]) for t in frames])
    weight = weight_of(input_errors.mean(0), b.clean, clean_weight)
    total = b.seen.new_zeros(())
    squares: list[Tensor] = []
    input_squares: list[Tensor] = []
    pictures: list[Tensor] = []
    last: Tensor | None = None
    for t in frames:
        residual, logit, moved, heads = outputs[t]
        truth, seen = b.truth[:, t], b.seen[:, t]
        each, square, output = loss(seen, residual, truth)
        gate = F.binary_cross_entropy_with_logits(logit.mean((1, 2, 3)), (~b.clean).float(), reduction="none")
        error = seen + residual - truth
        if last is not None:
            each = each + TEMPORAL * loss.charbonnier(error - last) + ALIGNMENT * loss.charbonnier(moved - truth)
        last = error
        remaining = F.avg_pool2d((output - truth).abs().mean(1, keepdim=True), 4).detach()
        each = each + 0.002 * head_loss(heads, remaining, b.cover[:, t : t + 1], F.avg_pool2d(loss.mask, 4))  # pyright: ignore
        total = total + (each * weight + 0.002 * gate).sum()
        squares.append(square)
        pictures.append(output)
        input_squares.append(((seen - truth) ** 2 * loss.mask).mean((1, 2, 3)))  # pyright: ignore
    if distance is not None:
        t = int(torch.randint(len(pictures), ()))
        total = total + distance[1] * distance[0](pictures[t].clamp(0, 1), b.truth[:, b.warm + t]).sum()
    return total, torch.stack(squares, 1), torch.stack(input_squares, 1)


def head_loss(heads: Tensor, remaining: Tensor, cover: Tensor, oval: Tensor) -> Tensor:
    """Computes the loss of the heads per sample, weighted by the oval: the negative log-likelihood (Laplace) of the
    error ``remaining`` after restoration, plus the cross-entropy of ``cover``. Both arguments are N×1×h×w."""
    scale = heads[:, :1].clamp(-8, 0)
    error_loss = remaining * torch.exp(-scale) + scale
    occlusion_loss = F.binary_cross_entropy_with_logits(heads[:, 1:], cover, reduction="none")
    return ((error_loss + OCCLUSION_WEIGHT * occlusion_loss) * oval).mean((1, 2, 3))


@torch.no_grad()
def clip_figures(loss: Loss, net: Small, clips: Clips, limit: int, skip: int = 3) -> dict[str, Any]:
    """Measures gain over the input in dB, and relative flicker. The gain is given as mean, worst, by kind, and for
    first frames; only the latter includes the first ``skip`` frames of a clip."""
    rows: list[tuple[int, float, float, float]] = []
    for i in range(min(limit, len(clips.index))):
        b = clips.get(i)
        if b.clean.item():
            continue
        outputs = [loss(b.seen[:, t], output.residual, b.truth[:, t])[2] for t, output in enumerate(unroll(net, b))]
        errors = (torch.stack(outputs, 1) - b.truth)[0]
        base = (b.seen - b.truth)[0]
        mask = loss.mask
        gains = 10 * torch.log10((base**2 * mask).mean((1, 2, 3)) / (errors**2 * mask).mean((1, 2, 3)).clamp_min(1e-9))  # pyright: ignore
        flick = [float((e[skip + 1 :] - e[skip:-1]).abs().mul(mask).mean()) for e in (errors, base)]  # pyright: ignore
        rows.append((int(clips.kinds[i]), float(gains[skip:].mean()), float(gains[0]), flick[0] / max(flick[1], 1e-6)))
    table = np.array(rows)
    kinds = {KINDS[int(k)]: round(float(table[table[:, 0] == k, 1].mean()), 2) for k in np.unique(table[:, 0])}
    return {"valid_gain_db": round(float(table[:, 1].mean()), 3), "valid_first_db": round(float(table[:, 2].mean()), 3),
            "valid_worst_db": round(float(table[:, 1].min()), 2), "flicker": round(float(table[:, 3].mean()), 3),
            "kinds": kinds}  # fmt: skip
