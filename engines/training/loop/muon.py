"""Muon (Jordan et al. 2024): orthogonalised momentum for convolutions. Adam trains all other parameters."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn


def orthogonal(g: Tensor, steps: int = 5) -> Tensor:
    """Approximates the nearest (semi-)orthogonal matrix of m×n (or each of N×m×n).

    The quintic Newton-Schulz iteration runs on the small Gram matrix, so that only two products involve the long side.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    is_tall = g.shape[-2] > g.shape[-1]
    x = g.mT if is_tall else g
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    gram = x @ x.mT
    eye = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    total = eye
    for _ in range(steps):
        q = a * eye + b * gram + c * (gram @ gram)
        total = q @ total
        gram = q @ gram @ q
    x = total @ x
    return x.mT if is_tall else x


class Muon(torch.optim.Optimizer):
    """Muon for hidden convolutions, Adam for other parameters. Both use one learning rate, as in Liu et al. 2025."""

    def __init__(
        self, net: nn.Module, lr: float, momentum: float = 0.95, decay: float = 1e-4, threads: int = 1
    ) -> None:
        hidden: list[Tensor] = []
        others: list[Tensor] = []
        for name, p in net.named_parameters():
            (hidden if p.ndim == 4 and "head" not in name and "place" not in name else others).append(p)
        groups: Iterable[dict[str, Any]] = [{"params": hidden, "muon": True}, {"params": others, "muon": False}]
        super().__init__(groups, {"lr": lr, "momentum": momentum, "decay": decay})

        self.pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        hidden, others = self.param_groups
        trained = sorted((p for p in hidden["params"] if p.grad is not None), key=lambda p: -p.numel())
        jobs = [self.pool.submit(self._muon, p, hidden) for p in trained]
        for p in others["params"]:
            if p.grad is not None:
                self._adam(p, others)
        for job in jobs:
            job.result()

    @torch.no_grad()
    def _muon(self, p: Tensor, group: dict[str, Any]) -> None:
        s, mu, lr = self.state[p], group["momentum"], group["lr"]
        if not s:
            s["m"] = torch.zeros_like(p)
        s["m"].lerp_(p.grad, 1 - mu)  # pyright: ignore
        g = p.grad.lerp(s["m"], mu).flatten(1)  # pyright: ignore
        p.mul_(1 - lr * group["decay"])
        p.add_(orthogonal(g).view(p.shape), alpha=-lr * 0.2 * max(g.shape) ** 0.5)

    @torch.no_grad()
    def _adam(self, p: Tensor, group: dict[str, Any]) -> None:
        s = self.state[p]
        if not s:
            s["m"], s["v"], s["t"] = torch.zeros_like(p), torch.zeros_like(p), 0
        s["t"] += 1
        s["m"].lerp_(p.grad, 0.1)  # pyright: ignore
        s["v"].lerp_(p.grad * p.grad, 0.01)  # pyright: ignore
        m, v = s["m"] / (1 - 0.9 ** s["t"]), s["v"] / (1 - 0.99 ** s["t"])
        p.add_(m / (v.sqrt() + 1e-8), alpha=-0.4 * group["lr"])
