"""What the denoising network and the autoencoder are built of, as the diffusers library names and nests it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Conv(nn.Conv2d):
    """Computes in the picture's precision, whatever the weights are stored in."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight.to(x.dtype), self.bias, self.stride, self.padding)


class Linear(nn.Linear):
    """As ``Conv``."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype), self.bias)


def norm(width: int, eps: float) -> nn.GroupNorm:
    return nn.GroupNorm(32, width, eps=eps)


class Resnet(nn.Module):
    """Norm, swish and a 3×3 convolution, twice, added to the input; where ``time`` is not 0, the time's vector of that
    length is added between. N×before×h×w → N×after×h×w."""

    def __init__(self, before: int, after: int, time: int, eps: float) -> None:
        super().__init__()
        self.norm1 = norm(before, eps)
        self.conv1 = Conv(before, after, 3, padding=1)
        self.time_emb_proj = Linear(time, after) if time else None
        self.norm2 = norm(after, eps)
        self.conv2 = Conv(after, after, 3, padding=1)
        self.conv_shortcut = Conv(before, after, 1) if before != after else None

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        y = self.conv1(F.silu(self.norm1(x)))
        if self.time_emb_proj is not None and time is not None:
            y = y + self.time_emb_proj(F.silu(time))[:, :, None, None]
        y = self.conv2(F.silu(self.norm2(y)))
        return (x if self.conv_shortcut is None else self.conv_shortcut(x)) + y


class Attention(nn.Module):
    """Multi-head attention. ``x`` N×places×width asks ``context`` N×words×told, or itself."""

    def __init__(self, width: int, told: int, heads: int, *, bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = Linear(width, width, bias=bias)
        self.to_k = Linear(told, width, bias=bias)
        self.to_v = Linear(told, width, bias=bias)
        self.to_out = nn.ModuleList([Linear(width, width)])

    def split(self, x: Tensor, places: int) -> Tensor:
        return x.reshape(-1, places, self.heads, x.shape[-1] // self.heads).transpose(1, 2)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        asked = x if context is None else context
        places, width = int(x.shape[1]), int(x.shape[2])
        q = self.split(self.to_q(x), places) * (width // self.heads) ** -0.5
        k, v = (self.split(to(asked), int(asked.shape[1])) for to in (self.to_k, self.to_v))
        found = F.softmax(q @ k.transpose(2, 3), dim=3) @ v
        return self.to_out[0](found.transpose(1, 2).reshape(-1, places, width))


class Down(nn.Module):
    """Halves height and width; ``even``: padded on all sides, else below and to the right only."""

    def __init__(self, width: int, *, even: bool) -> None:
        super().__init__()
        self.conv = Conv(width, width, 3, stride=2, padding=int(even))
        self.even = even

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x if self.even else F.pad(x, (0, 1, 0, 1)))


class Up(nn.Module):
    """Doubles height and width by repeating, then convolves 3×3."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = Conv(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Stage(nn.Module):
    """All at one size, as the library nests it: ``resnets``, after each of them one of ``attentions`` (a stage has as
    many, or none), then one of ``downsamplers`` or ``upsamplers``, or none. A list that would be empty is left out."""

    def __init__(self, resnets: Sequence[Resnet], attentions: Sequence[nn.Module] = (), *, down: Down | None = None,
                 up: Up | None = None) -> None:  # fmt: skip
        super().__init__()
        self.attentions = nn.ModuleList(attentions)
        self.resnets = nn.ModuleList(resnets)
        self.downsamplers = nn.ModuleList([down] if down else [])
        self.upsamplers = nn.ModuleList([up] if up else [])

    def forward(self, x: Tensor, time: Tensor | None = None, context: Tensor | None = None,
                skips: list[Tensor] | None = None) -> tuple[Tensor, list[Tensor]]:  # fmt: skip
        """``skips``: maps to put beside the input of each block, the last one first. Gives the answer, and what each
        block and the shrinking gave."""
        given: list[Tensor] = []
        for i, resnet in enumerate(self.resnets):
            x = resnet(x if skips is None else torch.cat([x, skips.pop()], 1), time)
            if len(self.attentions):
                x = self.attentions[i](x, context)
            given.append(x)
        for shrink in self.downsamplers:
            x = shrink(x)
            given.append(x)
        for grow in self.upsamplers:
            x = grow(x)
        return x, given


class Middle(nn.Module):
    """Block, attention, block at the smallest size."""

    def __init__(self, width: int, time: int, eps: float, attention: nn.Module) -> None:
        super().__init__()
        self.attentions = nn.ModuleList([attention])
        self.resnets = nn.ModuleList(Resnet(width, width, time, eps) for _ in range(2))

    def forward(self, x: Tensor, time: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        x = self.resnets[0](x, time)
        x = self.attentions[0](x) if context is None else self.attentions[0](x, context)
        return self.resnets[1](x, time)
