"""Networks for damaged prints: one fills holes of face crops, one finds damage in whole photographs.

Both are U-shaped and residual, on pictures folded by 4.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.model.layers import FOLD, Block, Up, fresh, unfold

SIDE = 512  # of the crops that `FillNet` fills, in pixels
UNIT = 2 * FOLD / SIDE  # from one folded pixel to the next, if the crop reaches from -1 to 1


class Unet(nn.Module):
    """A U-shaped network on folded maps N×C×h×w.

    It has ``widths[k]`` channels at 1/2^k of their size. h and w are multiples of 8. Maps ``beside`` join at
    half the size.
    """

    def __init__(self, inputs: int, outputs: int, beside: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.place = fresh(nn.Conv2d(inputs, widths[0], 3, padding=1))
        self.beside = fresh(nn.Conv2d(4 * beside, widths[1], 1), 0.5) if beside else None
        self.down = nn.ModuleList(fresh(nn.Conv2d(4 * a, b, 1)) for a, b in itertools.pairwise(widths))
        self.up = nn.ModuleList(Up(b, a) for a, b in itertools.pairwise(widths))
        self.left = nn.ModuleList(nn.Sequential(Block(w, 0)) for w in widths)
        self.right = nn.ModuleList(nn.Sequential(Block(w, 0)) for w in widths)
        self.head = nn.Conv2d(widths[0], outputs, 1)
        nn.init.zeros_(self.head.weight)

    def forward(self, x: Tensor, beside: Tensor | None = None) -> Tensor:
        x = self.place(x)
        levels: list[Tensor] = []
        for left, down in zip(self.left, self.down, strict=False):
            x = left(x)
            levels.append(x)
            x = down(F.pixel_unshuffle(x, 2))
            if len(levels) == 1 and self.beside is not None and beside is not None:
                x = x + self.beside(F.pixel_unshuffle(beside, 2))
        x = self.right[-1](self.left[-1](x))
        for level, up, right in zip(levels[::-1], list(self.up)[::-1], list(self.right)[-2::-1], strict=True):
            x = right(level + up(x))
        return self.head(x)


class FillNet(nn.Module):
    """Corrects a smooth fill of holes. It also sees the mirrored crop.

    Pictures are N×3×h×w, 0..1, and show the middle columns of a 512-px crop, from row ``row``. Without it, the answers
    to a whole crop and to the mirrored crop are averaged.
    """

    def __init__(self) -> None:
        super().__init__()
        self.body = Unet(4 * FOLD**2 + 2, 3 * FOLD**2, 4 * FOLD**2, (64, 88, 104, 104))

    def forward(self, fill: Tensor, hole: Tensor, row: Tensor | None = None) -> Tensor:
        if row is None:
            both = self(torch.cat([fill, fill.flip(-1)]), torch.cat([hole, hole.flip(-1)]), torch.zeros(2))
            return (both[:1] + both[1:].flip(-1)) / 2
        folded = F.pixel_unshuffle(torch.cat([2 * fill - 1, hole], 1), FOLD)
        n, _, h, w = folded.shape
        # no Abs in the graph: OpenVINO 2026.4 omits it behind a constant that is stored as fp16
        across = torch.tensor([UNIT * abs(k - (int(w) - 1) / 2) for k in range(int(w))], device=fill.device)
        down = row.view(n, 1, 1, 1) * (2 / SIDE) + UNIT * torch.arange(h, device=fill.device).view(1, 1, h, 1) - 1
        places = torch.cat([folded, across.expand(n, 1, h, w), down.expand(n, 1, h, w)], 1)
        return fill + hole * unfold(self.body(places, folded.flip(-1)))


class DamageNet(nn.Module):
    """Scores the damage of pixels: photograph N×3×h×w, 0..1, to logits N×1×h×w. h and w are multiples of 32."""

    def __init__(self) -> None:
        super().__init__()
        self.body = Unet(3 * FOLD**2, FOLD**2, 0, (36, 52, 56, 56))

    def forward(self, picture: Tensor) -> Tensor:
        return F.pixel_shuffle(self.body(F.pixel_unshuffle(2 * picture - 1, FOLD)), FOLD)


def load(net: nn.Module, checkpoint: Path) -> nn.Module:
    """Loads a checkpoint's averaged weights, rounded as in exported files."""
    state = torch.load(checkpoint, map_location="cpu")["ema"]
    net.load_state_dict({k: v.half().float() if v.numel() > 16 else v.float() for k, v in state.items()})
    return net.eval()
