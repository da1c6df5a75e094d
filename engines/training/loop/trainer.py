"""A training run: network, losses, optimiser, and checkpoints."""

from __future__ import annotations

import argparse
import math
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training.data.film_pairs import KINDS
from training.data.shards import Pairs
from training.loop.checkpoints import Ema, resume, save
from training.loop.dead_channels import dead_channels, revive
from training.loop.initial_weights import weights
from training.loop.muon import Muon
from training.loop.parallel_gradients import Crew
from training.loop.sequences import MAX_AHEAD, Batch, Clips, clip_figures, clip_loss, weight_of
from training.losses.adversarial import Adversary
from training.losses.restoration import UNEVEN_WEIGHT, Loss, uneven
from training.model.networks import Medium, Small, build
from training.model.recurrence import Past, empty_past

AVERAGE_DECAY, MAX_NORM, MAX_VALIDATION = 0.999, 20.0, 256
"""Decay of averaged weights; gradient clipping norm; maximum number of validation items."""
PAST_SHARE = 0.75
"""Share of single pictures with a simulated past in the training of ``rtface-m``."""


def window_distance(distance: Any, mask: Tensor, rng: np.random.Generator, output: Tensor, truth: Tensor) -> Tensor:
    """Computes perceptual distances of pictures N×3×h×w within a random window: N values. Entire pictures would cost as
    much as four training images; over many steps, the gradient from windows is as good."""
    _, _, h, w = output.shape
    side = min(h, w) * 4 // 11
    y, x = int(rng.integers(h // 12, h - h // 12 - side)), int(rng.integers(w // 12, w - w // 12 - side))
    window = (..., slice(y, y + side), slice(x, x + side))
    weight = mask[window] / mask.max() + 1e-3
    with torch.autocast(output.device.type, torch.bfloat16):
        return distance(output[window].clamp(0, 1), truth[window], weight) * weight.mean()


def psnr(square: Tensor) -> Tensor:
    """Converts a mean squared error of values 0..1 to PSNR in dB."""
    return -10 * torch.log10(square.clamp_min(1e-10))


class Trainer:
    """Network, losses, optimiser and checkpoints of a training run."""

    def __init__(self, a: argparse.Namespace) -> None:
        self.a = a
        torch.manual_seed(a.seed)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.set_num_threads(1)
        initial = [weights(path) for path in a.core]
        memory = bool(a.clips) or any(name.startswith("core.trust.") for state in initial for name in state)
        net = build(a.engine, memory=memory, like={k: v for state in initial for k, v in state.items()})
        self.net: Small | Medium = net.to(self.device, memory_format=torch.channels_last)
        for state in initial:
            current = self.net.state_dict()
            matching = {k: v for k, v in state.items() if k in current and v.shape == current[k].shape}
            self.net.load_state_dict({**current, **matching})
        self.loss = Loss(self.net.size).to(self.device)
        self.loss_s = Loss(256).to(self.device)
        for name, p in self.net.named_parameters():
            frozen = bool(a.freeze) and any(part in name for part in a.freeze.split(","))
            p.requires_grad_(not frozen and (not a.only or any(part in name for part in a.only.split(","))))
        self.opt = Muon(self.net, a.lr, threads=a.threads)
        self.ema = Ema(self.net, AVERAGE_DECAY)
        self.images, self.path = 0, a.run / "last.pt"
        saved = resume(self.path, self.net, self.opt, self.ema)
        self.step, self.used = int(saved.get("step", 0)), float(saved.get("used", 0.0))
        self.lpips, self.dice = None, np.random.default_rng(a.seed)
        if a.perceptual:
            from training.losses.perceptual import StLpips

            self.lpips = partial(window_distance, StLpips().to(self.device), self.loss.mask, self.dice)  # pyright: ignore
        self.identity = None
        if a.identity:
            from training.losses.identity import Identity

            self.identity = Identity(device=self.device.type)
        self.adversary = Adversary(self.net.size, a.vivid, a.seed) if a.vivid else None
        if self.adversary is not None and "adversary" in saved:
            self.adversary.load_state_dict(saved["adversary"])
        self.crew = Crew(self.net, 1 if self.device.type == "cuda" else a.threads, self.work)

    def save(self) -> None:
        extra = {} if self.adversary is None else {"adversary": self.adversary.state_dict()}
        save(self.path, self.net, self.opt, self.ema, engine=self.a.engine, step=self.step, used=self.used, **extra)

    def recalled(self, truth: Tensor, seen: Tensor) -> Past | None:
        """Simulates a past for ``rtface-m`` on single pictures. The past is between input and truth, as after several
        frames, so that ``rtface-m`` learns to add detail that the past lacks."""
        if not isinstance(self.net, Medium) or self.net.core.trust is None:
            return None
        half, target = F.avg_pool2d(seen, 2), F.avg_pool2d(truth, 2)
        share, chance = torch.rand(2, len(seen), 1, 1, 1, device=seen.device)
        return Past(half.lerp(target, MAX_AHEAD * share), (chance < PAST_SHARE).float(), empty_past(half).state)

    def run_net(
        self, net: torch.nn.Module, truth: Tensor, seen: Tensor, past: Past | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
        """Runs a network. Returns (loss, squared error, gate logits, output, core's squared error or None)."""
        with torch.autocast(self.device.type, torch.bfloat16):
            results = net(seen.contiguous(memory_format=torch.channels_last), past)
        loss, square, output = self.loss(seen, results[0].float(), truth)
        if len(results) == 5:
            return loss, square, results[1].float(), output, None
        loss_s, square_s, _ = self.loss_s(results[6], results[5].float(), F.avg_pool2d(truth, 2))
        if any(p.requires_grad for p in self.net.core.parameters()):
            loss = loss + 0.7 * loss_s
        return loss, square, results[1].float(), output, square_s

    def work(self, net: Any, piece: Any) -> tuple[Tensor, tuple[float, Tensor]]:
        """Computes the loss of a piece of the batch, times 100. The factor makes the epsilon of Adam negligible."""
        if isinstance(piece, Batch):
            distance = None
            if (self.lpips or self.identity) and piece.truth.shape[1] > 1:  # one random frame represents all
                distance = (self.picture_distances, piece.truth.shape[1] - piece.warm)
            total, squares, input_squares = clip_loss(self.loss, net, piece, self.a.clean_weight, distance)
            total = total / self.images
            return 100 * total, (float(total.detach()), (psnr(squares) - psnr(input_squares))[~piece.clean].flatten())
        truth, seen, clean = (t.to(self.device, non_blocking=True) for t in piece)
        loss, square, logit, output, _ = self.run_net(net, truth, seen, self.recalled(truth, seen))
        gate = F.binary_cross_entropy_with_logits(logit.mean((1, 2, 3)), (~clean).float(), reduction="none")
        weight = weight_of(self.loss.charbonnier(seen - truth), clean, self.a.clean_weight)
        total = (loss * weight + 0.002 * gate).sum() / self.a.batch
        total = total + self.sampled_distances(output, truth) * len(seen) / self.a.batch
        if self.adversary is not None:
            total = total + UNEVEN_WEIGHT * uneven(output) * len(seen) / self.a.batch
            total = total + self.adversary.pull(seen, output, truth, total)
        with torch.no_grad():
            before = ((seen - truth) ** 2 * self.loss.mask).mean((1, 2, 3))  # pyright: ignore
            gain = (psnr(square) - psnr(before))[~clean]
        return 100 * total, (float(total.detach()), gain.cpu())

    def picture_distances(self, output: Tensor, truth: Tensor) -> Tensor:
        """Computes weighted sums of perceptual and identity distances of N×3×h×w: N values."""
        total = output.new_zeros(len(output))
        if self.lpips is not None:
            total = total + self.a.perceptual * self.lpips(output, truth)
        if self.identity is not None:
            with torch.autocast(output.device.type, torch.bfloat16):
                total = total + self.a.identity * self.identity.unlike(output, truth, self.net.size)
        return total

    def sampled_distances(self, output: Tensor, truth: Tensor) -> Tensor:
        """Computes perceptual and identity losses of a piece. Because they cost as much as several pictures, only half
        of the pieces compute them, and only for one picture, which represents all."""
        if self.dice.random() < 0.5:
            return output.new_zeros(())
        i = int(self.dice.integers(len(output)))
        output, truth = output[i : i + 1], truth[i : i + 1]
        return 2 * self.picture_distances(output, truth).sum()

    def rate(self) -> float:
        """Returns the learning rate. It rises during 100 steps, and falls (cosine) during the time of the run."""
        progress = min(1.0, self.used / 60 / self.a.minutes)
        lr = self.a.lr_end + 0.5 * (self.a.lr - self.a.lr_end) * (1 + math.cos(math.pi * progress))
        return lr * min(1.0, (self.step + 1) / 100)

    def pieces(self, batch: Any) -> list[Any]:
        """Splits a batch into pieces for the crew."""
        if isinstance(batch, list):  # clips
            self.images = sum(len(b) for b in batch)
            return batch
        self.images = len(batch[0])
        size = self.images if self.device.type == "cuda" else self.a.piece
        return list(zip(*(part.split(size) for part in batch), strict=True))

    def train_step(self, batch: Any) -> tuple[float, float]:
        for g in self.opt.param_groups:
            g["lr"] = self.rate()
        results = self.crew.run(self.pieces(batch))
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), MAX_NORM)
        self.opt.step()
        if self.adversary is not None:
            self.adversary.learn()
        self.step += 1
        self.ema.update(self.net)
        gain = torch.cat([r[1] for r in results])
        return sum(r[0] for r in results), float(gain.mean()) if len(gain) else 0.0

    def wake(self, pairs: Pairs) -> int:
        """Resets dead channels, see ``revive``. Returns their number."""
        numbers = torch.randint(len(pairs.index), (48,)).tolist()
        seen = pairs.batch(numbers)[1].to(self.device)
        dead = dead_channels(self.net, lambda: [self.net(part) for part in seen.split(8)])
        return revive(self.net, self.opt, self.ema.weights, dead)

    @torch.no_grad()
    def validate(self, data: Pairs | Clips) -> dict[str, Any]:
        """Measures the averaged weights on held-out people. Nothing may be tuned on these figures."""
        with self.ema.used(self.net):
            if isinstance(data, Pairs):
                return self.pair_figures(data)
            assert isinstance(self.net, Small)
            return clip_figures(self.loss, self.net, data, MAX_VALIDATION)

    def pair_figures(self, pairs: Pairs) -> dict[str, Any]:
        """Measures gains (dB) by kind, and the PSNR of restored clean faces."""
        gains, clean, small = np.zeros(0), [], []
        count = min(MAX_VALIDATION, len(pairs.index))
        kinds = pairs.kinds[:count]
        for i in range(0, count, 16):
            truth, seen = (t.to(self.device) for t in pairs.batch(list(range(i, min(i + 16, count)))))
            _, square, *_, square_s = self.run_net(self.net, truth, seen)
            before = ((seen - truth) ** 2 * self.loss.mask).mean((1, 2, 3))  # pyright: ignore
            gains = np.append(gains, (psnr(square) - psnr(before)).cpu().numpy())
            if square_s is not None:
                half = F.avg_pool2d((seen), 2) - F.avg_pool2d(truth, 2)
                small.append((psnr(square_s) - psnr((half**2 * self.loss_s.mask).mean((1, 2, 3)))).cpu().numpy())  # pyright: ignore
            if i < 64:
                clean.append(float(psnr(self.run_net(self.net, truth, truth)[1]).mean()))
        real = kinds != KINDS.index("clean")
        by_kind = {
            k: round(float(gains[kinds == j].mean()), 2)
            for j, k in enumerate(KINDS)
            if (kinds == j).any() and k != "clean"
        }
        is_call = np.isin(kinds, [KINDS.index("call"), KINDS.index("heavy")])
        return {
            "valid_gain_db": round(float(gains[real].mean()), 3), "valid_clean_db": round(float(np.mean(clean)), 2),
            "valid_worst_db": round(float(gains[is_call].min()), 2), "kinds": by_kind,
            "valid_s_gain_db": round(float(np.concatenate(small)[real].mean()), 3) if small else "",
        }  # fmt: skip
