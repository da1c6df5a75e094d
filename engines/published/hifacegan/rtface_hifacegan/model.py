"""HiFaceGAN (Yang et al. 2020, HiFaceGAN: Face Renovation via Collaborative Suppression and Replenishment).

An encoder makes features at six sizes. From the smallest a generator paints the face upwards; in each block the painted
features are normalised and then scaled and shifted, at every place, by what the encoder has there (SPADE, Park et al.
2019). The encoder halves by local importance (LIP, Gao et al. 2019): a weighted mean, with weights that it learns.

The older form, whose weights are the published ones, guides the generator by the crop itself, made smaller.

Parameters carry the published names, but spectral norms are folded into their weights and what is not used is left out:
`restate` does both. The published code answers in training mode, one picture at a time, so that batch norms take their
statistics from that picture: here they are instance norms.
"""
# torch is not there where pyright runs.
# pyright: reportMissingImports=false, reportUntypedBaseClass=false, reportUnknownParameterType=false

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STEPS = 5
"""How often the encoder halves."""


def build(*, width: int = 64, nested: bool = True) -> HiFaceGAN:
    """With random weights, in evaluation mode. `width`: channels at full size; `nested`: guided by features, not by the
    crop."""
    return HiFaceGAN(width, nested).eval()


def restate(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The published state as this network has it: each ``weight_orig`` over its largest singular value, as the vectors
    ``weight_u`` and ``weight_v`` beside it say; without the statistics of batch norms, the outputs at smaller sizes
    and, where an encoder takes its place, ``fc``."""
    unused = ("to_rgbs.0.", "to_rgbs.1.", "to_rgbs.2.") + (("fc.",) if "lip_encoder.model.0.weight" in state else ())
    ends = ("running_mean", "running_var", "num_batches_tracked", "weight_u", "weight_v")
    kept: dict[str, Tensor] = {}
    for name, value in state.items():
        if name.startswith(unused) or name.endswith(ends):
            continue
        if (module := name.removesuffix("_orig")) != name:
            u, v = state.get(f"{module}_u"), state.get(f"{module}_v")
            if u is not None and v is not None and (len(u), len(v)) == (len(value), value[0].numel()):
                name, value = module, value / torch.dot(u, value.flatten(1) @ v)
        kept[name] = value
    return kept


class HiFaceGAN(nn.Module):
    """crop N×3×S×S (RGB, −1…1; S a multiple of 32) → restored N×3×S×S, −1…1."""

    def __init__(self, width: int, nested: bool) -> None:
        super().__init__()
        channels = [16 * width, 16 * width, 16 * width, 8 * width, 4 * width, 2 * width, width]
        if nested:
            self.encoder = Encoder(width)
            self.fc = nn.Conv2d(3, channels[0], 3, padding=1)
        else:
            self.lip_encoder = LipEncoder(width)
        # Of the features that guide each block; they are as many as it gives.
        guides = channels[1:] if nested else [3] * 6
        self.head_0, self.G_middle_0, self.G_middle_1 = (Block(channels[0], channels[0], guides[0]) for _ in range(3))
        self.ups = nn.ModuleList(Block(channels[i], channels[i + 1], guides[i]) for i in range(2, 6))
        self.to_rgbs = nn.ModuleDict({"3": nn.Conv2d(width, 3, 3, padding=1)})
        self.nested = nested

    def forward(self, crop: Tensor) -> Tensor:
        if self.nested:
            guides = self.encoder(crop)
            x = self.fc(every(crop, 2**STEPS))
        else:
            guides = [every(crop, 2**n) for n in range(STEPS, -1, -1)]
            x = self.lip_encoder(crop)
        x = doubled(self.head_0(x, guides[0]))
        x = self.G_middle_1(self.G_middle_0(x, guides[1]), guides[1])
        for block, guide in zip(self.ups, guides[2:], strict=True):
            x = block(doubled(x), guide)
        return torch.tanh(self.to_rgbs["3"](F.leaky_relu(x, 0.2)))


class Encoder(nn.Module):
    """crop → features, the smallest first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.head = nn.Sequential(*first(width))
        for i, step in enumerate(steps(width)):
            setattr(self, f"encoder_{i}", nn.Sequential(*step))

    def forward(self, crop: Tensor) -> list[Tensor]:
        found = [self.head(crop)]
        for i in range(STEPS):
            found.append(getattr(self, f"encoder_{i}")(found[-1]))
        return found[::-1]


class LipEncoder(nn.Module):
    """crop → the smallest features."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.model = nn.Sequential(*first(width), *(layer for step in steps(width) for layer in step))

    def forward(self, crop: Tensor) -> Tensor:
        return self.model(crop)


def first(width: int) -> list[nn.Module]:
    return [nn.Conv2d(3, width, 3, padding=1, bias=False), nn.InstanceNorm2d(width), nn.ReLU()]


def steps(width: int) -> list[list[nn.Module]]:
    """The layers of each step: halved and, up to sixteen times, doubled in channels."""
    channels = [width * min(2**n, 16) for n in range(STEPS + 1)]
    made: list[list[nn.Module]] = []
    for i in range(STEPS):
        before, after = channels[i : i + 2]
        made.append([Lip(before), nn.Conv2d(before, after, 3, padding=1), nn.InstanceNorm2d(after)])
        if i < STEPS - 1:
            made[-1].append(nn.ReLU())
    return made


class Lip(nn.Module):
    """Halves N×C×H×W by local importance."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.logit = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.InstanceNorm2d(channels, affine=True)
        )
        self.pool = Pool()

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(x, self.logit(x))


class Pool(nn.Module):
    """Means over 3×3 places, every second one, weighted by exp(12 σ(logit))."""

    def forward(self, x: Tensor, logit: Tensor) -> Tensor:
        # 6 less in every exponent leaves the quotient as it is: e¹² is more than fp16 holds, e⁻¹² it hardly resolves.
        weight = (torch.sigmoid(logit) * 12 - 6).exp()
        return F.avg_pool2d(x * weight, 3, 2, 1) / F.avg_pool2d(weight, 3, 2, 1)


class Block(nn.Module):
    """Two convolutions, each after a normalisation that the guide (of as many pixels) modulates, added to what came in,
    which goes the same way through one where the number of channels changes."""

    def __init__(self, before: int, after: int, guide: int) -> None:
        super().__init__()
        middle = min(before, after)
        self.conv_0 = nn.Conv2d(before, middle, 3, padding=1)
        self.conv_1 = nn.Conv2d(middle, after, 3, padding=1)
        self.norm_0, self.norm_1 = Spade(before, guide), Spade(middle, guide)
        self.changes = before != after
        if self.changes:
            self.conv_s = nn.Conv2d(before, after, 1, bias=False)
            self.norm_s = Spade(before, guide)

    def forward(self, x: Tensor, guide: Tensor) -> Tensor:
        y = self.conv_0(F.leaky_relu(self.norm_0(x, guide), 0.2))
        y = self.conv_1(F.leaky_relu(self.norm_1(y, guide), 0.2))
        return (self.conv_s(self.norm_s(x, guide)) if self.changes else x) + y


class Spade(nn.Module):
    """Normalises each channel of each picture, then scales and shifts it at every place as the guide says."""

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


def every(x: Tensor, step: int) -> Tensor:
    """Every `step`-th pixel, the first included."""
    return x[:, :, ::step, ::step]
