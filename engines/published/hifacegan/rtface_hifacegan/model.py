"""HiFaceGAN (Yang et al. 2020, HiFaceGAN: Face Renovation via Collaborative Suppression and Replenishment).

An encoder computes features at six sizes. Starting from the smallest size, a generator builds the face. Each block
normalises its features; the encoder's features determine scale and shift at every position (SPADE, Park et al. 2019).
The encoder halves maps by local importance pooling, a mean with learned weights (LIP, Gao et al. 2019).

In an older version, for which weights are published, the downscaled crop guides the generator instead of the features.

Parameters have the published names, but `restate` folds spectral norms into the weights and drops unused parameters.
The published code runs in training mode on one image, so its batch norms use the statistics of that image. This code
uses instance norms, which are equivalent.
"""
# torch is not installed where pyright runs.
# pyright: reportMissingImports=false, reportUntypedBaseClass=false, reportUnknownParameterType=false

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STEPS = 5
"""Number of times that the encoder halves height and width."""


def build(*, width: int = 64, nested: bool = True) -> HiFaceGAN:
    """Builds a network with random weights, in evaluation mode. `width`: channels at full size. `nested`: whether
    encoder features guide the generator; otherwise, the crop does."""
    return HiFaceGAN(width, nested).eval()


def restate(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Converts the published state for this network. Divides each ``weight_orig`` by its largest singular value, found
    with the vectors ``weight_u`` and ``weight_v``. Drops statistics of batch norms, outputs at smaller sizes and, if
    there is a LIP encoder, ``fc``."""
    unused = ("to_rgbs.0.", "to_rgbs.1.", "to_rgbs.2.") + (("fc.",) if "lip_encoder.model.0.weight" in state else ())
    ends = ("running_mean", "running_var", "num_batches_tracked", "weight_u", "weight_v")
    converted: dict[str, Tensor] = {}
    for name, value in state.items():
        if name.startswith(unused) or name.endswith(ends):
            continue
        if (module := name.removesuffix("_orig")) != name:
            u, v = state.get(f"{module}_u"), state.get(f"{module}_v")
            if u is not None and v is not None and (len(u), len(v)) == (len(value), value[0].numel()):
                name, value = module, value / torch.dot(u, value.flatten(1) @ v)
        converted[name] = value
    return converted


class HiFaceGAN(nn.Module):
    """Restores crops N×3×S×S, RGB. S is a multiple of 32. Inputs and outputs are −1…1."""

    def __init__(self, width: int, nested: bool) -> None:
        super().__init__()
        channels = [16 * width, 16 * width, 16 * width, 8 * width, 4 * width, 2 * width, width]
        if nested:
            self.encoder = Encoder(width)
            self.fc = nn.Conv2d(3, channels[0], 3, padding=1)
        else:
            self.lip_encoder = LipEncoder(width)
        # Number of channels of each block's guide. Features have as many as the block's output.
        guides = channels[1:] if nested else [3] * 6
        self.head_0, self.G_middle_0, self.G_middle_1 = (Block(channels[0], channels[0], guides[0]) for _ in range(3))
        self.ups = nn.ModuleList(Block(channels[i], channels[i + 1], guides[i]) for i in range(2, 6))
        self.to_rgbs = nn.ModuleDict({"3": nn.Conv2d(width, 3, 3, padding=1)})
        self.nested = nested

    def forward(self, crop: Tensor) -> Tensor:
        if self.nested:
            guides = self.encoder(crop)
            x = self.fc(subsampled(crop, 2**STEPS))
        else:
            guides = [subsampled(crop, 2**n) for n in range(STEPS, -1, -1)]
            x = self.lip_encoder(crop)
        x = doubled(self.head_0(x, guides[0]))
        x = self.G_middle_1(self.G_middle_0(x, guides[1]), guides[1])
        for block, guide in zip(self.ups, guides[2:], strict=True):
            x = block(doubled(x), guide)
        return torch.tanh(self.to_rgbs["3"](F.leaky_relu(x, 0.2)))


class Encoder(nn.Module):
    """Maps crops to features at all sizes, smallest first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.head = nn.Sequential(*first(width))
        for i, step in enumerate(steps(width)):
            setattr(self, f"encoder_{i}", nn.Sequential(*step))

    def forward(self, crop: Tensor) -> list[Tensor]:
        features = [self.head(crop)]
        for i in range(STEPS):
            features.append(getattr(self, f"encoder_{i}")(features[-1]))
        return features[::-1]


class LipEncoder(nn.Module):
    """Maps crops to features at the smallest size only."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.model = nn.Sequential(*first(width), *(layer for step in steps(width) for layer in step))

    def forward(self, crop: Tensor) -> Tensor:
        return self.model(crop)


def first(width: int) -> list[nn.Module]:
    return [nn.Conv2d(3, width, 3, padding=1, bias=False), nn.InstanceNorm2d(width), nn.ReLU()]


def steps(width: int) -> list[list[nn.Module]]:
    """Returns the layers of each step. A step halves the side and doubles channels, up to 16 times the width."""
    channels = [width * min(2**n, 16) for n in range(STEPS + 1)]
    layers: list[list[nn.Module]] = []
    for i in range(STEPS):
        inputs, outputs = channels[i : i + 2]
        layers.append([Lip(inputs), nn.Conv2d(inputs, outputs, 3, padding=1), nn.InstanceNorm2d(outputs)])
        if i < STEPS - 1:
            layers[-1].append(nn.ReLU())
    return layers


class Lip(nn.Module):
    """Halves height and width of N×C×H×W by local importance."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.logit = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.InstanceNorm2d(channels, affine=True)
        )
        self.pool = Pool()

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(x, self.logit(x))


class Pool(nn.Module):
    """Averages 3×3 positions with weights exp(12 σ(logit)), at every second position."""

    def forward(self, x: Tensor, logit: Tensor) -> Tensor:
        # Subtracting 6 does not change the quotient, but keeps the weights, up to e¹² otherwise, in the range of fp16.
        weight = (torch.sigmoid(logit) * 12 - 6).exp()
        return F.avg_pool2d(x * weight, 3, 2, 1) / F.avg_pool2d(weight, 3, 2, 1)


class Block(nn.Module):
    """A residual block of two convolutions, each after SPADE. The guide has the same height and width as the input. If
    the number of channels changes, a third convolution adapts the input."""

    def __init__(self, inputs: int, outputs: int, guide: int) -> None:
        super().__init__()
        middle = min(inputs, outputs)
        self.conv_0 = nn.Conv2d(inputs, middle, 3, padding=1)
        self.conv_1 = nn.Conv2d(middle, outputs, 3, padding=1)
        self.norm_0, self.norm_1 = Spade(inputs, guide), Spade(middle, guide)
        self.changes = inputs != outputs
        if self.changes:
            self.conv_s = nn.Conv2d(inputs, outputs, 1, bias=False)
            self.norm_s = Spade(inputs, guide)

    def forward(self, x: Tensor, guide: Tensor) -> Tensor:
        y = self.conv_0(F.leaky_relu(self.norm_0(x, guide), 0.2))
        y = self.conv_1(F.leaky_relu(self.norm_1(y, guide), 0.2))
        return (self.conv_s(self.norm_s(x, guide)) if self.changes else x) + y


class Spade(nn.Module):
    """Normalises channels per image. The guide determines scale and shift at each position."""

    def __init__(self, channels: int, guide: int) -> None:
        super().__init__()
        hidden = min(channels, 128)
        self.norm = nn.InstanceNorm2d(channels)
        self.mlp_shared = nn.Sequential(nn.Conv2d(guide, hidden, 3, padding=1), nn.ReLU())
        self.mlp_gamma, self.mlp_beta = (nn.Conv2d(hidden, channels, 3, padding=1, bias=False) for _ in range(2))

    def forward(self, x: Tensor, guide: Tensor) -> Tensor:
        shared = self.mlp_shared(guide)
        return self.norm(x) * self.mlp_gamma(shared) + self.mlp_beta(shared)


def doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def subsampled(x: Tensor, step: int) -> Tensor:
    """Keeps every `step`-th pixel, starting with the first."""
    return x[:, :, ::step, ::step]
