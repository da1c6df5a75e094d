"""The denoising network of Stable Diffusion 2.1, asked at one time step."""

from __future__ import annotations

from collections.abc import Sequence
from math import log

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engines.published.osediff.blocks import Attention, Conv, Down, Linear, Middle, Resnet, Stage, Up, norm


class Gate(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.proj = Linear(width, 2 * inner)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class Feed(nn.Module):
    """Gated feed-forward, four times as wide within."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.ModuleList([Gate(width, 4 * width), nn.Identity(), Linear(4 * width, width)])

    def forward(self, x: Tensor) -> Tensor:
        return self.net[2](self.net[0](x))


class Transformer(nn.Module):
    """Self-attention, attention to the description, feed-forward; each added to its input."""

    def __init__(self, width: int, told: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn1 = Attention(width, width, heads, bias=False)
        self.norm2 = nn.LayerNorm(width)
        self.attn2 = Attention(width, told, heads, bias=False)
        self.norm3 = nn.LayerNorm(width)
        self.ff = Feed(width)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        x = x + self.attn1(self.norm1(x))
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class Spatial(nn.Module):
    """A transformer over the places of a map N×width×h×w."""

    def __init__(self, width: int, told: int, heads: int) -> None:
        super().__init__()
        self.norm = norm(width, 1e-6)
        self.proj_in = Linear(width, width)
        self.transformer_blocks = nn.ModuleList([Transformer(width, told, heads)])
        self.proj_out = Linear(width, width)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        c, h, w = (int(n) for n in x.shape[1:])
        y = self.norm(x).reshape(-1, c, h * w).transpose(1, 2)
        y = self.proj_out(self.transformer_blocks[0](self.proj_in(y), context))
        return x + y.transpose(1, 2).reshape(-1, c, h, w)


class Time(nn.Module):
    def __init__(self, width: int, wide: int) -> None:
        super().__init__()
        self.linear_1 = Linear(width, wide)
        self.linear_2 = Linear(wide, wide)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_2(F.silu(self.linear_1(x)))


class UNet(nn.Module):
    """The denoising network at one time ``step``: latents N×4×h×w and a description N×77×told (or 1×77×told for all) to
    the noise in the latents, N×4×h×w. Attention everywhere but at the smallest size, heads of ``head`` channels."""

    wave: Tensor

    def __init__(self, widths: Sequence[int], told: int, head: int, step: int) -> None:
        super().__init__()
        time, last = 4 * widths[0], len(widths) - 1

        def look(width: int, count: int, *, here: bool) -> list[Spatial]:
            return [Spatial(width, told, width // head) for _ in range(count if here else 0)]

        half = widths[0] // 2
        turns = step * torch.exp(-log(10000) * torch.arange(half, device="cpu") / half)
        self.register_buffer("wave", torch.cat([turns.cos(), turns.sin()])[None], persistent=False)
        self.conv_in = Conv(4, widths[0], 3, padding=1)
        self.time_embedding = Time(widths[0], time)
        self.down_blocks = nn.ModuleList()
        for i, (before, after) in enumerate(zip((widths[0], *widths), widths, strict=False)):
            blocks = [Resnet(before, after, time, 1e-5), Resnet(after, after, time, 1e-5)]
            down = Down(after, even=True) if i < last else None
            self.down_blocks.append(Stage(blocks, look(after, 2, here=i < last), down=down))
        self.mid_block = Middle(widths[-1], time, 1e-5, look(widths[-1], 1, here=True)[0])
        self.up_blocks = nn.ModuleList()
        before = widths[-1]
        for i in reversed(range(last + 1)):
            width = widths[i]
            beside = [width, width, widths[max(i - 1, 0)]]
            blocks = [Resnet((before if j == 0 else width) + s, width, time, 1e-5) for j, s in enumerate(beside)]
            self.up_blocks.append(Stage(blocks, look(width, 3, here=i < last), up=Up(width) if i else None))
            before = width
        self.conv_norm_out = norm(widths[0], 1e-5)
        self.conv_out = Conv(widths[0], 4, 3, padding=1)

    def forward(self, latent: Tensor, context: Tensor) -> Tensor:
        time = self.time_embedding(self.wave)
        x = self.conv_in(latent)
        skips = [x]
        for stage in self.down_blocks:
            x, given = stage(x, time, context)
            skips += given
        x = self.mid_block(x, time, context)
        for stage in self.up_blocks:
            x, _ = stage(x, time, context, skips)
        return self.conv_out(F.silu(self.conv_norm_out(x)))
