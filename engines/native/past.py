"""How a network takes in what it answered for the frame before, and what it keeps."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import Spread, fold, fresh

STATE = 64
"""Channels of what is remembered at 1/16 resolution."""


class Memory(nn.Module):
    """What a network keeps of a face: a convolutional GRU (Cho et al. 2014; Ballas et al. 2016) at 1/16 resolution.

    Features N×C×12×11 and state N×64×12×11 → features of the same shape, with what the state adds, and the new state.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.look = fresh(nn.Conv2d(width, STATE, 1))
        self.gates = fresh(nn.Conv2d(2 * STATE, 2 * STATE, 3, padding=1))
        self.new = fresh(nn.Conv2d(2 * STATE, STATE, 3, padding=1))
        self.tell = fresh(nn.Conv2d(STATE, width, 1), 0.0)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        seen = self.look(x)
        update, reset = torch.sigmoid(self.gates(torch.cat([seen, state], 1))).chunk(2, 1)
        state = state + update * (torch.tanh(self.new(torch.cat([seen, reset * state], 1))) - state)
        return x + self.tell(state), state


class Past(NamedTuple):
    """What a remembering network is told of the frame before, in this frame's canonical space.

    ``still`` N×3×192×176: the answer as it was; ``moved``: the same, carried to where optical flow says it is now;
    ``known`` N×2×48×44 (or N×1×1×1): how far ``still`` and ``moved`` may be trusted at all, 0..1; 0 everywhere on a
    face's first frame, then the others may be anything; ``state``: of ``Memory``, None for a network without one.
    """

    still: Tensor
    moved: Tensor
    known: Tensor
    state: Tensor | None = None

    def changes(self, crop: Tensor) -> Tensor:
        """By how much ``still`` and ``moved`` differ from the crop, folded: N×96×48×44."""
        return torch.cat([fold(self.still - crop), fold(self.moved - crop)], 1)


class Trust(nn.Module):
    """How far the frame before is to be trusted: N×2×48×44, of ``still`` and ``moved``; with what this frame's own
    restoration counts for, the two sum to 1.

    Sees the decoder's features N×C×48×44 and by how much the past differs from the crop.
    """

    def __init__(self, width: int, hidden: int = 24) -> None:
        super().__init__()
        self.here = fresh(nn.Conv2d(width, hidden, 1), 0.7)
        self.change = fresh(nn.Conv2d(96, hidden, 3, padding=1), 0.7)
        self.weigh = fresh(nn.Conv2d(hidden, 2, 3, padding=1), 0.0)
        nn.init.constant_(self.weigh.bias, -1.0)  # pyright: ignore[reportArgumentType]
        self.spread = Spread(2)

    def forward(self, features: Tensor, changes: Tensor, known: Tensor) -> Tensor:
        logits = self.weigh(F.relu(self.here(features) + self.change(8 * changes)))
        own = torch.zeros_like(logits[:, :1])
        return torch.softmax(torch.cat([own, logits], 1), 1)[:, 1:] * known

    def blended(self, residual: Tensor, changes: Tensor, trust: Tensor) -> Tensor:
        """A folded residual N×48×48×44, mixed with the way to the frame before by ``trust``."""
        weights = self.spread(trust)
        ways = (changes - residual.repeat(1, 2, 1, 1)) * weights
        return residual + ways[:, :48] + ways[:, 48:]
