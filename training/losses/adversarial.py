"""The adversarial loss of the vivid networks: sharp where the faithful ones, unsure, average.

A conditional patch critic (Isola et al. 2017, "Image-to-image translation with conditional adversarial networks") with
spectral normalisation (Miyato et al. 2018) and the hinge loss (Lim and Ye 2017). It sees random windows, a quarter of
the face each: skin, an eye, a corner of the mouth, never who somebody is. It comes late and light: how hard it pulls is
a share of how hard the other losses do (Esser et al. 2021, "Taming transformers").
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from training.crop_space import roi


class Critic(nn.Module):
    """N×6×n×n, a window of the input and of a picture of 0..1 → N×1×n/8×n/8: high where that looks like the truth."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        widths = (6, width, 2 * width, 4 * width)
        self.down = nn.ModuleList(
            spectral_norm(nn.Conv2d(a, b, 4, stride=2, padding=1)) for a, b in pairwise(widths)
        )
        self.last = spectral_norm(nn.Conv2d(widths[-1], 1, 3, padding=1))

    def forward(self, seen: Tensor, picture: Tensor) -> Tensor:
        # The difference says at once what was changed.
        x = torch.cat([2 * seen - 1, 8 * (picture - seen)], 1)
        for conv in self.down:
            x = F.leaky_relu(conv(x), 0.2)
        return self.last(x)


class Adversary:
    """Critic and its optimiser. ``pull`` may be called from several threads; ``learn`` from one, between the steps."""

    def __init__(self, size: int, share: float, seed: int, lr: float = 4e-4) -> None:
        _, _, w, h = roi(size)
        self.side, self.share = (min(w, h) * 4 // 11) // 8 * 8, share
        self.critic = Critic()
        self.copy = Critic().eval().requires_grad_(False)  # spectral normalisation keeps its vectors
        self.renew()
        self.opt = torch.optim.Adam(self.critic.parameters(), lr, betas=(0.5, 0.99))
        self.dice = torch.Generator().manual_seed(seed)
        self.heap: list[tuple[Tensor, Tensor, Tensor]] = []
        self.shown = 0

    def windows(self, *pictures: Tensor) -> list[Tensor]:
        """The same random window of every picture N×3×h×w."""
        h, w = pictures[0].shape[2:]
        y, x = (int(torch.randint(n // 12, n - n // 12 - self.side, (), generator=self.dice)) for n in (h, w))
        return [p[..., y : y + self.side, x : x + self.side] for p in pictures]

    def pull(self, seen: Tensor, shown: Tensor, truth: Tensor, loss: Tensor) -> Tensor:
        """What the critic adds to ``loss``, of what is shown, as a scalar; 0 in its first 200 steps."""
        a, b, c = self.windows(seen, shown, truth)
        self.heap.append((a.detach(), b.detach().clamp(0, 1), c.detach()))
        if self.shown < 200:
            return loss.new_zeros(())
        wanted = -self.judge(a, b).mean()
        theirs = torch.autograd.grad(loss, shown, retain_graph=True)[0]
        ours = torch.autograd.grad(wanted, b, retain_graph=True)[0]
        weight = self.share * self.windows_norm(theirs) / ours.norm().clamp_min(1e-8)
        return wanted * weight.clamp(max=1e3).detach()

    def windows_norm(self, gradient: Tensor) -> Tensor:
        """The norm that a gradient over whole pictures has, on average, in a window."""
        share = self.side**2 / (gradient.shape[2] * gradient.shape[3])
        return gradient.norm() * share**0.5

    def judge(self, seen: Tensor, picture: Tensor) -> Tensor:
        """The critic's opinion, by a copy whose weights take no gradient: several threads ask at once."""
        return self.copy(seen, picture)

    def renew(self) -> None:
        """Brings the copy up to date."""
        self.copy.load_state_dict(self.critic.state_dict())

    def learn(self) -> float:
        """One step of the critic on the windows since the last; its loss."""
        if not self.heap:
            return 0.0
        seen, shown, truth = (torch.cat(parts) for parts in zip(*self.heap, strict=True))
        self.heap.clear()
        self.shown += 1
        self.opt.zero_grad(set_to_none=True)
        loss = F.relu(1 - self.critic(seen, truth)).mean() + F.relu(1 + self.critic(seen, shown)).mean()
        loss.backward()
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
