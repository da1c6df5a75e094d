"""A network of the shape of GFPGAN v1.4, with random weights: a U-Net whose features steer a StyleGAN2 decoder.

Written from the papers (Wang et al., CVPR 2021, "Towards Real-World Blind Face Restoration with Generative Facial
Prior"; Karras et al., CVPR 2020), in the plain form that the published v1.3 and v1.4 weights have: bilinear resampling,
leaky ReLU, no noise. Modulated convolutions scale their input and their output instead of their weights, which is the
same and lets a batch share them.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

STYLE = 512


def decoder_channels(side: int, share: float) -> int:
    """Channels of the decoder where it is `side` pixels wide."""
    return max(8, int({4: 512, 8: 512, 16: 512, 32: 512, 64: 512, 128: 256, 256: 128, 512: 64}[side] * share))


def _conv(a: int, b: int, kernel: int = 3) -> nn.Conv2d:
    return nn.Conv2d(a, b, kernel, padding=kernel // 2)


def _resized(x: Any, scale: float) -> Any:
    return F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)


def _lrelu(x: Any) -> Any:
    return F.leaky_relu(x, 0.2)


class Residual(nn.Module):
    """Two convolutions, the second at another size, beside a 1×1 one."""

    def __init__(self, a: int, b: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.first, self.second, self.skip = _conv(a, a), _conv(a, b), nn.Conv2d(a, b, 1, bias=False)

    def forward(self, x: Any) -> Any:
        y = _lrelu(self.first(x))
        y = _lrelu(self.second(_resized(y, self.scale)))
        return y + self.skip(_resized(x, self.scale))


class Modulated(nn.Module):
    """A convolution whose weights a style scales, each output channel then brought back to unit length."""

    def __init__(self, a: int, b: int, kernel: int, *, upsample: bool = False, normalise: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(b, a, kernel, kernel) / (a * kernel * kernel) ** 0.5)
        self.affine = nn.Linear(STYLE, a)
        nn.init.ones_(self.affine.bias)
        self.upsample, self.normalise, self.pad = upsample, normalise, kernel // 2

    def forward(self, x: Any, style: Any) -> Any:
        scale = self.affine(style)
        if self.upsample:
            x = _resized(x, 2.0)
        x = F.conv2d(x * scale[:, :, None, None], self.weight, padding=self.pad)
        if self.normalise:
            energy = torch.matmul(scale * scale, (self.weight * self.weight).sum((2, 3)).T)
            x = x * torch.rsqrt(energy + 1e-8)[:, :, None, None]
        return x


class Styled(nn.Module):
    """A modulated convolution, a bias, and the activation."""

    def __init__(self, a: int, b: int, *, upsample: bool = False) -> None:
        super().__init__()
        self.conv, self.bias = Modulated(a, b, 3, upsample=upsample), nn.Parameter(torch.zeros(1, b, 1, 1))

    def forward(self, x: Any, style: Any) -> Any:
        return _lrelu(self.conv(x, style) * 2**0.5 + self.bias)


class ToRgb(nn.Module):
    """The decoder's picture so far."""

    def __init__(self, a: int) -> None:
        super().__init__()
        self.conv, self.bias = Modulated(a, 3, 1, normalise=False), nn.Parameter(torch.zeros(1, 3, 1, 1))

    def forward(self, x: Any, style: Any, skip: Any = None) -> Any:
        out = self.conv(x, style) + self.bias
        return out if skip is None else out + _resized(skip, 2.0)


class PortraitNetwork(nn.Module):
    """N×3×side×side, −1…1, to the same.

    Args:
        side: of the picture; 512 for the published one.
        share: of its channels; 1.0 likewise.
    """

    def __init__(self, side: int = 512, share: float = 1.0) -> None:
        super().__init__()
        sides = [2**n for n in range(2, side.bit_length())]  # 4 … side
        wide = {s: decoder_channels(s, share) for s in sides}
        thin = {s: max(8, c // 2) for s, c in wide.items()}  # of the U-Net
        self.styles = 2 * len(sides)
        self.body = _conv(3, thin[side], 1)
        down = sides[::-1]
        self.down = nn.ModuleList(Residual(thin[a], thin[b], 0.5) for a, b in pairwise(down))
        self.middle = _conv(thin[4], thin[4])
        self.latent = nn.Linear(thin[4] * 16, self.styles * STYLE)
        self.up = nn.ModuleList(Residual(thin[a], thin[b], 2.0) for a, b in pairwise(sides))
        self.scales, self.shifts = (nn.ModuleList(nn.Sequential(
            _conv(thin[s], thin[s]), nn.LeakyReLU(0.2), _conv(thin[s], wide[s] // 2)) for s in sides[1:])
            for _ in range(2))
        self.constant = nn.Parameter(torch.randn(1, wide[4], 4, 4))
        self.first, self.first_rgb = Styled(wide[4], wide[4]), ToRgb(wide[4])
        self.bigger = nn.ModuleList(Styled(wide[a], wide[b], upsample=True)
                                    for a, b in pairwise(sides))
        self.same = nn.ModuleList(Styled(wide[s], wide[s]) for s in sides[1:])
        self.rgb = nn.ModuleList(ToRgb(wide[s]) for s in sides[1:])

    def forward(self, picture: Any) -> Any:
        x = _lrelu(self.body(picture))
        seen = []
        for block in self.down:
            x = block(x)
            seen.append(x)
        x = _lrelu(self.middle(x))
        styles = self.latent(x.flatten(1)).reshape(-1, self.styles, STYLE)
        steer = []
        # The features of the way down are added on the way up, where they are as large.
        for block, scale, shift, skip in zip(self.up, self.scales, self.shifts, reversed(seen), strict=True):
            x = block(x + skip)
            steer.append((scale(x), shift(x)))
        y = self.first(self.constant.expand(picture.shape[0], -1, -1, -1), styles[:, 0])
        out = self.first_rgb(y, styles[:, 1])
        for n, (bigger, same, rgb) in enumerate(zip(self.bigger, self.same, self.rgb, strict=True)):
            y = bigger(y, styles[:, 2 * n + 1])
            scale, shift = steer[n]
            kept, steered = y.chunk(2, 1)
            y = torch.cat([kept, steered * scale + shift], 1)
            y = same(y, styles[:, 2 * n + 2])
            out = rgb(y, styles[:, 2 * n + 3], out)
        return out
