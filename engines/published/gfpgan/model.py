"""GFPGAN, versions 1.2 to 1.4 ("clean"). A U-Net removes degradations and predicts style vectors for a
StyleGAN2 generator. The U-Net's features also scale and shift half of the generator's channels.

Wang et al. 2021, "Towards Real-World Blind Face Restoration with Generative Facial Prior"; for the generator, Karras et
al. 2020, "Analyzing and Improving the Image Quality of StyleGAN". The "clean" versions resample bilinearly, unlike
StyleGAN2. Parameters and buffers have the published names; ``toRGB`` and ``style_mlp`` are used only in training.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.2
"""Negative slope of leaky ReLUs."""

EPSILON = 1e-8
"""Constant added in the demodulation."""

GAIN = math.sqrt(2)
"""Factor of StyleGAN2's activation, applied in the demodulation."""


def build(size: int = 512, narrow: float = 1.0, channel_multiplier: int = 2, styles: int = 512) -> Gfpgan:
    """Builds a network, by default like the published ones. ``size``: the crop's side in pixels, a power of two from 16
    to 1024. ``narrow``: factor for all numbers of channels. ``styles``: length of a style vector."""
    return Gfpgan(size, widths(narrow, channel_multiplier), widths(narrow / 2, channel_multiplier), styles).eval()


def widths(narrow: float, multiplier: int) -> dict[int, int]:
    """Returns the number of channels for each side of a feature map."""
    shrinking = {64: 256, 128: 128, 256: 64, 512: 32, 1024: 16}
    return {s: int(512 * narrow) for s in (4, 8, 16, 32)} | {s: int(c * multiplier * narrow)
                                                             for s, c in shrinking.items()}  # fmt: skip


def larger(x: Tensor) -> Tensor:
    """Doubles height and width by bilinear interpolation."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, SLOPE)


class Block(nn.Module):
    """A residual block of the U-Net. It halves or doubles height and width."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, inputs, 3, padding=1)
        self.conv2 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1, bias=False)


class Down(Block):
    def forward(self, x: Tensor) -> Tensor:
        # This pooling is the same as bilinear halving.
        y = F.avg_pool2d(leaky(self.conv1(x)), 2)
        return leaky(self.conv2(y)) + self.skip(F.avg_pool2d(x, 2))


class Up(Block):
    def forward(self, x: Tensor) -> Tensor:
        y = larger(leaky(self.conv1(x)))
        # A 1×1 convolution commutes with resampling. Before the resampling, it costs a quarter.
        return leaky(self.conv2(y)) + larger(self.skip(x))


class Modulated(nn.Module):
    """A convolution modulated by a style (Karras et al. 2020, section 2.2).

    The style scales the weights of each input channel. ``demodulate`` normalises the result to length 1 per output
    channel. The published code builds weights for each crop, which is slow and needs memory. This code scales inputs
    and divides outputs by ``sqrt(s² · ΣW² + ε)``, with the same result. The style is divided by its largest value
    before squaring: a square above 65,504, the largest number in fp16, would make all outputs 0.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, styles: int, demodulate: bool) -> None:
        super().__init__()
        self.modulation = nn.Linear(styles, inputs)
        self.weight = nn.Parameter(torch.randn(1, outputs, inputs, kernel, kernel) / math.sqrt(inputs * kernel**2))
        self.demodulate, self.padding = demodulate, kernel // 2
        nn.init.ones_(self.modulation.bias)

    def forward(self, x: Tensor, style: Tensor, double: bool = False) -> Tensor:
        """Convolves ``x`` N×inputs×H×W (or 1×…, for all crops) with ``style`` N×styles. ``double`` doubles the size."""
        scale = self.modulation(style)
        divisor = scale.abs().amax(1, keepdim=True)
        scale = scale / divisor
        weight = self.weight[0]
        x = x * scale[:, :, None, None]
        y = F.conv2d(larger(x) if double else x, weight, padding=self.padding)
        if self.demodulate:
            # ε applies to the styles before their division, so it is divided by the square of ``divisor``.
            squares = F.linear(scale.square(), weight.square().sum((2, 3))) + (math.sqrt(EPSILON) / divisor).square()
            divisor = GAIN * squares.rsqrt()
        return y * divisor[:, :, None, None]


class StyleConv(nn.Module):
    """A modulated convolution, followed by scaled noise, bias and activation."""

    def __init__(self, inputs: int, outputs: int, styles: int) -> None:
        super().__init__()
        self.modulated_conv = Modulated(inputs, outputs, 3, styles, demodulate=True)
        self.weight = nn.Parameter(torch.zeros(1))
        self.bias = nn.Parameter(torch.zeros(1, outputs, 1, 1))

    def forward(self, x: Tensor, style: Tensor, noise: Tensor, double: bool = False) -> Tensor:
        return leaky(self.modulated_conv(x, style, double) + self.weight * noise + self.bias)


class ToRgb(nn.Module):
    def __init__(self, inputs: int, styles: int) -> None:
        super().__init__()
        self.modulated_conv = Modulated(inputs, 3, 1, styles, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        return self.modulated_conv(x, style) + self.bias


class Constant(nn.Module):
    """The generator's constant input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, channels, 4, 4))


class Generator(nn.Module):
    """The StyleGAN2 generator: two modulated convolutions per size, and a growing RGB image.

    The first convolution doubles height and width. The noise is fixed in the weights file, because new noise in each
    frame would flicker.
    """

    def __init__(self, size: int, channels: dict[int, int], styles: int) -> None:
        super().__init__()
        sides = _sides(size)
        self.halves = [channels[s] // 2 for s in sides]
        # Unused, because the style vectors come from the U-Net, but present in the weights file.
        layers = [m for _ in range(8) for m in (nn.Linear(styles, styles), nn.LeakyReLU(SLOPE))]
        self.style_mlp = nn.Sequential(nn.Identity(), *layers)
        self.constant_input = Constant(channels[4])
        self.style_conv1 = StyleConv(channels[4], channels[4], styles)
        self.to_rgb1 = ToRgb(channels[4], styles)
        self.style_convs, self.to_rgbs = nn.ModuleList(), nn.ModuleList()
        self.noises = nn.Module()
        self.noises.register_buffer("noise0", torch.randn(1, 1, 4, 4))
        for i, side in enumerate(sides):
            inputs, outputs = channels[side // 2], channels[side]
            self.style_convs += [StyleConv(inputs, outputs, styles), StyleConv(outputs, outputs, styles)]
            self.to_rgbs.append(ToRgb(outputs, styles))
            for k in (1, 2):
                self.noises.register_buffer(f"noise{2 * i + k}", torch.randn(1, 1, side, side))

    def forward(self, styles: Tensor, conditions: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Generates the image, N×3×S×S. ``styles``: N×(2·sides + 2)×length. ``conditions``: scale and shift for the
        upper half of the channels, one pair per size from 8 pixels."""
        noises = [self.noises.get_buffer(f"noise{i}") for i in range(2 * len(self.to_rgbs) + 1)]
        x = self.style_conv1(self.constant_input.weight, styles[:, 0], noises[0])
        picture = self.to_rgb1(x, styles[:, 1])
        for i, (to_rgb, (scale, shift)) in enumerate(zip(self.to_rgbs, conditions, strict=True)):
            k = 2 * i + 1
            x = self.style_convs[k - 1](x, styles[:, k], noises[k], double=True)
            half = self.halves[i]
            x = torch.cat([x[:, :half], x[:, half:] * scale + shift], 1)
            x = self.style_convs[k](x, styles[:, k + 1], noises[k + 1])
            picture = larger(picture) + to_rgb(x, styles[:, k + 2])
        return picture


class Gfpgan(nn.Module):
    """Restores crops N×3×S×S, RGB, -1…1. Outputs may exceed this range."""

    def __init__(self, size: int, channels: dict[int, int], features: dict[int, int], styles: int) -> None:
        super().__init__()
        sides = _sides(size)
        self.latents, self.styles = 2 * len(sides) + 2, styles
        self.conv_body_first = nn.Conv2d(3, features[size], 1)
        self.conv_body_down = nn.ModuleList(Down(features[s], features[s // 2]) for s in reversed(sides))
        self.final_conv = nn.Conv2d(features[4], features[4], 3, padding=1)
        self.conv_body_up = nn.ModuleList(Up(features[s // 2], features[s]) for s in sides)
        self.toRGB = nn.ModuleList(nn.Conv2d(features[s], 3, 1) for s in sides)
        self.final_linear = nn.Linear(features[4] * 16, self.latents * styles)
        self.stylegan_decoder = Generator(size, channels, styles)
        self.condition_scale = nn.ModuleList(_condition(features[s]) for s in sides)
        self.condition_shift = nn.ModuleList(_condition(features[s]) for s in sides)

    def forward(self, crop: Tensor) -> Tensor:
        x = leaky(self.conv_body_first(crop))
        skips: list[Tensor] = []
        for down in self.conv_body_down:
            x = down(x)
            skips.append(x)
        x = leaky(self.final_conv(x))
        styles = self.final_linear(x.flatten(1)).reshape(-1, self.latents, self.styles)
        conditions: list[tuple[Tensor, Tensor]] = []
        for up, skip, scale, shift in zip(self.conv_body_up, reversed(skips), self.condition_scale,
                                          self.condition_shift, strict=True):  # fmt: skip
            x = up(x + skip)
            conditions.append((scale(x), shift(x)))
        return self.stylegan_decoder(styles, conditions)


def _sides(size: int) -> list[int]:
    """Returns the sides of feature maps: 8, 16 … up to the crop's side."""
    return [2**i for i in range(3, size.bit_length())]


def _condition(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.LeakyReLU(SLOPE),
                         nn.Conv2d(channels, channels, 3, padding=1))  # fmt: skip
