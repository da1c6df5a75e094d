"""The adversarial loss that makes vivid networks sharp where other networks average.

A patch critic (Isola et al. 2017, "Image-to-image translation with conditional adversarial networks") reads only two
octaves of an image, the finest ones. So it can enforce texture and sharp edges, but not another face. It learns from
relativistic pairs with zero-centred gradient penalties on both sides (Huang et al. 2024, "The GAN is dead; long live
the GAN!", R3GAN). Its inputs are random windows, each a quarter of the face. The loss starts late, and its gradient is
a fixed share of the gradient of all other losses (Esser et al. 2021, "Taming transformers").
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.crop_space import roi
from training.losses.restoration import highpass
from training.model.layers import fresh

PENALTY = 0.5
"""Weight of the penalty: the squared gradient of the critic at true and restored windows."""


def octaves(image: Tensor) -> Tensor:
    """Extracts the two finest octaves of images N×3×h×w, 0..1, times eight: N×6×h×w. Coarser structures do not affect
    the result."""
    half = F.interpolate(highpass(F.avg_pool2d(image, 2)), scale_factor=2.0, mode="nearest")
    return 8 * torch.cat([highpass(image), half], 1)


class Critic(nn.Module):
    """Scores how real an image looks. High is real. Maps octaves of input and image N×12×n×n to N×1×n/8×n/8."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        widths = (12, width, 2 * width, 4 * width)
        self.down = nn.ModuleList(fresh(nn.Conv2d(a, b, 4, stride=2, padding=1), 2**0.5) for a, b in pairwise(widths))
        self.last = fresh(nn.Conv2d(widths[-1], 1, 3, padding=1), 0.3)

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.down:
            x = F.leaky_relu(conv(x), 0.2)
        return self.last(x)


class Adversary:
    """A critic and its optimiser. ``pull`` is thread-safe; ``learn`` must be called from one thread, between steps."""

    def __init__(self, size: int, share: float, seed: int, lr: float = 4e-4) -> None:
        _, _, w, h = roi(size)
        self.side, self.share = (min(w, h) * 4 // 11) // 8 * 8, share
        self.critic = Critic()
        self.copy = Critic().requires_grad_(False)  # for `pull`, which several threads call
        self.renew()
        self.opt = torch.optim.Adam(self.critic.parameters(), lr, betas=(0.5, 0.99))
        self.dice = torch.Generator().manual_seed(seed)
        self.pending: list[tuple[Tensor, Tensor]] = []
        self.shown = 0

    def windows(self, *pictures: Tensor) -> list[Tensor]:
        """Cuts the same random window out of each picture N×3×h×w."""
        h, w = pictures[0].shape[2:]
        y, x = (int(torch.randint(n // 12, n - n // 12 - self.side, (), generator=self.dice)) for n in (h, w))
        return [p[..., y : y + self.side, x : x + self.side] for p in pictures]

    def pull(self, crop: Tensor, output: Tensor, truth: Tensor, loss: Tensor) -> Tensor:
        """Computes the adversarial loss of ``output``, scaled relative to ``loss``. 0 in the first 200 steps."""
        a, b, c = self.windows(crop, output, truth)
        crop_octaves = octaves(a)
        fake, real = (torch.cat([crop_octaves, octaves(z)], 1) for z in (b, c))
        self.pending.append((fake.detach(), real.detach()))
        if self.shown < 200:
            return loss.new_zeros(())
        term = F.softplus(self.copy(real) - self.copy(fake)).mean()
        loss_gradient = torch.autograd.grad(loss, output, retain_graph=True)[0]
        critic_gradient = torch.autograd.grad(term, b, retain_graph=True)[0]
        weight = self.share * self.windows_norm(loss_gradient) / critic_gradient.norm().clamp_min(1e-8)
        return term * weight.clamp(max=1e3).detach()

    def windows_norm(self, gradient: Tensor) -> Tensor:
        """Estimates a gradient's norm inside a window from the entire pictures."""
        share = self.side**2 / (gradient.shape[2] * gradient.shape[3])
        return gradient.norm() * share**0.5

    def renew(self) -> None:
        """Updates the copy of the critic that ``pull`` uses."""
        self.copy.load_state_dict(self.critic.state_dict())

    def learn(self) -> float:
        """Trains the critic on the windows since the last call. Returns its loss, about log 2 before training."""
        if not self.pending:
            return 0.0
        fake, real = (torch.cat(parts).requires_grad_() for parts in zip(*self.pending, strict=True))
        self.pending.clear()
        self.shown += 1
        self.opt.zero_grad(set_to_none=True)
        true, restored = self.critic(real), self.critic(fake)
        loss = F.softplus(restored - true).mean()
        slopes = torch.autograd.grad(true.mean((1, 2, 3)).sum() + restored.mean((1, 2, 3)).sum(), (real, fake),
                                     create_graph=True)  # fmt: skip
        penalty = sum((s * s).sum((1, 2, 3)).mean() for s in slopes)
        (loss + PENALTY * penalty).backward()
        self.opt.step()
        self.renew()
        return float(loss.detach())

    def state_dict(self) -> dict[str, Any]:
        return {"critic": self.critic.state_dict(), "opt": self.opt.state_dict(), "shown": self.shown}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.critic.load_state_dict(state["critic"])
        self.opt.load_state_dict(state["opt"])
        self.shown = state["shown"]
        self.renew()
