"""Saves and restores checkpoints, with averaged weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn


class Ema:
    """An exponential moving average of a network's weights. At the start, it averages over fewer steps."""

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.decay, self.n = decay, 0
        self.weights = {k: v.detach().clone() for k, v in net.state_dict().items()}

    def update(self, net: nn.Module) -> None:
        self.n += 1
        d = min(self.decay, (1 + self.n) / (10 + self.n))
        live = [v.detach() for v in net.state_dict().values()]
        torch._foreach_lerp_(list(self.weights.values()), live, 1 - d)  # pyright: ignore

    @contextmanager
    def used(self, net: nn.Module) -> Iterator[None]:
        """Loads the averaged weights into ``net`` within the context. Restores the original weights afterwards."""
        live = {k: v.clone() for k, v in net.state_dict().items()}
        net.load_state_dict(self.weights)
        try:
            yield
        finally:
            net.load_state_dict(live)


def save(path: Path, net: nn.Module, opt: Any, ema: Ema, **more: Any) -> None:
    """Writes a checkpoint atomically. ``more``: additional values, which ``resume`` returns."""
    temp = path.with_suffix(".tmp")
    torch.save({"net": net.state_dict(), "opt": opt.state_dict(), "ema": ema.weights, "ema_n": ema.n, **more}, temp)
    temp.replace(path)


def resume(path: Path, net: nn.Module, opt: Any, ema: Ema) -> dict[str, Any]:
    """Restores network, optimiser and average from a checkpoint. Returns the additional values, or {} if there is no
    checkpoint."""
    if not path.exists():
        return {}
    checkpoint: dict[str, Any] = torch.load(path, map_location="cpu")
    net.load_state_dict(checkpoint.pop("net"))
    opt.load_state_dict(checkpoint.pop("opt"))
    ema.n = checkpoint.pop("ema_n")
    ema.weights = {k: v.to(ema.weights[k].device) for k, v in checkpoint.pop("ema").items()}
    return checkpoint
