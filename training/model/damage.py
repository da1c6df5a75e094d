"""The network that finds damage on a face: `DamageNet`."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.model.layers import Block, Up, fresh

WIDTHS = (16, 40, 64, 72)
BLOCKS = (1, 1, 2, 2)


class DamageNet(nn.Module):
    """Input N×3×h×w RGB 0..1, h and w multiples of 16; answer N×1×h×w, the logits that a pixel is damaged.

    A U-Net (Ronneberger et al. 2015) on a pixel-unshuffled region of the crop, with the region's mirror image next to
    it, because a face is nearly symmetric and damage is not.
    """

    def __init__(self) -> None:
        super().__init__()
        w = WIDTHS
        self.stem = fresh(nn.Conv2d(24, w[0], 3, padding=1), 1.4)
        self.enc = nn.ModuleList(
            nn.Sequential(*(Block(c, 0) for _ in range(n))) for c, n in zip(w, BLOCKS, strict=True)
        )
        self.down = nn.ModuleList(fresh(nn.Conv2d(a, b, 2, stride=2)) for a, b in pairwise(w))
        self.up = nn.ModuleList(Up(b, a) for a, b in pairwise(w))
        self.join = nn.ModuleList(fresh(nn.Conv2d(2 * a, a, 1)) for a in w[:-1])
        self.dec = nn.ModuleList(Block(a, 0) for a in w[:-1])
        self.head = fresh(nn.Conv2d(w[0], 4, 3, padding=1), 0.3)

    def forward(self, image: Tensor) -> Tensor:
        x = image - 0.5
        x = self.stem(F.pixel_unshuffle(torch.cat([x, x.flip(3)], 1), 2))
        kept: list[Tensor] = []
        for level, down in enumerate(self.down):
            x = self.enc[level](x)
            kept.append(x)
            x = F.relu(down(x))
        x = self.enc[-1](x)
        for level in reversed(range(len(kept))):
            x = F.relu(self.join[level](torch.cat([kept[level], self.up[level](x)], 1)))
            x = self.dec[level](x)
        return F.pixel_shuffle(self.head(x), 2)
