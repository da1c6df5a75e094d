"""The network for coded pictures at their own size: `CodedNet`."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.model.layers import Block, Up, fresh

WIDTHS = (24, 40, 64, 80)
BLOCKS = (1, 2, 2, 2)
SMALL_WIDTHS = (16, 32, 48, 64)
SMALL_BLOCKS = (1, 1, 1, 2)
MULTIPLE = 16
"""Height and width of pictures must be multiples of this."""
CELL = 8
"""Side in pixels of the cells for which quantiser steps and predicted errors are given."""
MIDDLE, REACH = -7.5, 6.0
"""Predicted logarithms of squared errors (of values 0..1) are in MIDDLE ± REACH."""


def step_planes(steps: Tensor) -> Tensor:
    """Converts log2 of quantiser steps to inputs: N×h×w to N×2×h×w. The second channel is 1, or 0 for unknown (NaN)."""
    finite = torch.isfinite(steps)
    return torch.stack([torch.nan_to_num((steps - 2) / 4), finite.to(steps.dtype)], 1)


class CodedNet(nn.Module):
    """Removes coding artefacts and noise from a picture at its encoded resolution.

    Input: ``image`` N×3×H×W RGB 0..1 and ``steps`` N×2×H/8×W/8 (`step_planes`). Output: the correction N×3×H×W; and the
    natural logarithm of the expected squared error (mean over colours) before and after the correction, N×2×H/8×W/8.
    The network is a U-Net (Ronneberger et al. 2015) on the pixel-unshuffled picture.
    """

    def __init__(self, widths: tuple[int, ...] = WIDTHS, blocks: tuple[int, ...] = BLOCKS) -> None:
        super().__init__()
        w = widths
        self.stem = fresh(nn.Conv2d(14, w[0], 3, padding=1), 1.4)
        self.enc = nn.ModuleList(
            nn.Sequential(*(Block(c, 0) for _ in range(n))) for c, n in zip(w, blocks, strict=True)
        )
        self.down = nn.ModuleList(fresh(nn.Conv2d(a, b, 2, stride=2)) for a, b in pairwise(w))
        self.up = nn.ModuleList(Up(b, a) for a, b in pairwise(w))
        self.join = nn.ModuleList(fresh(nn.Conv2d(2 * a, a, 1)) for a in w[:-1])
        self.dec = nn.ModuleList(Block(a, 0) for a in w[:-1])
        self.head = fresh(nn.Conv2d(w[0], 12, 3, padding=1), 0.02)
        self.error_a = fresh(nn.Conv2d(w[1], 32, 2, stride=2), 1.4)
        self.error_b = fresh(nn.Conv2d(34, 32, 3, padding=1), 1.4)
        self.error_head = fresh(nn.Conv2d(32, 2, 1), 0.3)

    def forward(self, image: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        folded = F.pixel_unshuffle(image - 0.5, 2)
        x = self.stem(torch.cat([folded, F.interpolate(steps, scale_factor=4.0, mode="nearest").to(folded.dtype)], 1))
        skips: list[Tensor] = []
        for level, down in enumerate(self.down):
            x = self.enc[level](x)
            skips.append(x)
            x = F.relu(down(x))
        x = self.enc[-1](x)
        errors = x
        for level in reversed(range(len(skips))):
            x = F.relu(self.join[level](torch.cat([skips[level], self.up[level](x)], 1)))
            x = self.dec[level](x)
            if level == 1:
                errors = torch.cat([F.relu(self.error_a(x)), steps.to(x.dtype)], 1)
                errors = self.error_head(F.relu(self.error_b(errors)))
        return F.pixel_shuffle(self.head(x), 2), MIDDLE + REACH * torch.tanh(errors / REACH)


NETWORKS = {"coded": (WIDTHS, BLOCKS), "light": (SMALL_WIDTHS, SMALL_BLOCKS)}
"""Arguments of `CodedNet` by network name."""
