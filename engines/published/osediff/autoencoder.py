"""Stable Diffusion's autoencoder: pictures to latents and back."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from engines.published.osediff.blocks import Attention, Conv, Down, Middle, Resnet, Stage, Up, norm

LATENT = 0.18215
"""Scale of the latents that the denoising network knows."""


class Places(Attention):
    """Attention of a map's places to each other, one head, added to the map. N×width×h×w in and out."""

    def __init__(self, width: int) -> None:
        super().__init__(width, width, 1, bias=True)
        self.group_norm = norm(width, 1e-6)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        c, h, w = (int(n) for n in x.shape[1:])
        y = super().forward(self.group_norm(x).reshape(-1, c, h * w).transpose(1, 2), context)
        return x + y.transpose(1, 2).reshape(-1, c, h, w)


class Encoder(nn.Module):
    """N×3×S×S → mean and log-variance of latents, N×8×S/8×S/8."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        last = len(widths) - 1
        self.conv_in = Conv(3, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList()
        for i, (before, after) in enumerate(zip((widths[0], *widths), widths, strict=False)):
            blocks = [Resnet(before, after, 0, 1e-6), Resnet(after, after, 0, 1e-6)]
            self.down_blocks.append(Stage(blocks, down=Down(after, even=False) if i < last else None))
        self.mid_block = Middle(widths[-1], 0, 1e-6, Places(widths[-1]))
        self.conv_norm_out = norm(widths[-1], 1e-6)
        self.conv_out = Conv(widths[-1], 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for stage in self.down_blocks:
            x, _ = stage(x)
        return self.conv_out(F.silu(self.conv_norm_out(self.mid_block(x))))


class Decoder(nn.Module):
    """Latents N×4×S/8×S/8 → N×3×S×S."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.conv_in = Conv(4, widths[-1], 3, padding=1)
        self.mid_block = Middle(widths[-1], 0, 1e-6, Places(widths[-1]))
        self.up_blocks = nn.ModuleList()
        before = widths[-1]
        for i in reversed(range(len(widths))):
            blocks = [Resnet(before if j == 0 else widths[i], widths[i], 0, 1e-6) for j in range(3)]
            self.up_blocks.append(Stage(blocks, up=Up(widths[i]) if i else None))
            before = widths[i]
        self.conv_norm_out = norm(widths[0], 1e-6)
        self.conv_out = Conv(widths[0], 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mid_block(self.conv_in(x))
        for stage in self.up_blocks:
            x, _ = stage(x)
        return self.conv_out(F.silu(self.conv_norm_out(x)))


class Autoencoder(nn.Module):
    """Pictures N×3×S×S, -1…1, to latents N×4×S/8×S/8 and back."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.encoder = Encoder(widths)
        self.decoder = Decoder(widths)
        self.quant_conv = Conv(8, 8, 1)
        self.post_quant_conv = Conv(4, 4, 1)

    def encode(self, picture: Tensor) -> Tensor:
        return self.quant_conv(self.encoder(picture))[:, :4] * LATENT

    def decode(self, latent: Tensor) -> Tensor:
        return self.decoder(self.post_quant_conv(latent / LATENT))
