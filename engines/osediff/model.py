"""OSEDiff (Wu et al. 2024, One-Step Effective Diffusion Network for Real-World Image Super-Resolution), its face model.

Stable Diffusion 2.1 (Rombach et al. 2022) with small changes of its weights: the autoencoder's encoder makes a latent
of the damaged face, the denoising network is asked once, at the last time step, what of it is noise, and the decoder
makes a picture of the rest. The published code draws the latent from the encoder's distribution and lets a tagging
network describe each picture; here the latent is the distribution's mean and the description is one for all (`merge`),
so that the same crop always gives the same answer.

Parameters carry the names of the diffusers library, in which Stable Diffusion is published.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LATENT = 0.18215
"""Scale of the latents that the denoising network knows."""
WORDS = 77
"""Places of a description."""


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


def kept(step: int) -> float:
    """What part of a picture's variance the noise of ``step`` (0…999) leaves: Stable Diffusion's schedule."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64, device="cpu").square()
    return float((1 - betas).cumprod(0)[step])


class OneStep(nn.Module):
    """The whole network: RGB crops N×3×S×S, -1…1, to as much. ``prompt``: the description, 1×77×told."""

    prompt: Tensor

    def __init__(self, widths: Sequence[int], pictures: Sequence[int], told: int, head: int, step: int) -> None:
        super().__init__()
        self.unet = UNet(widths, told, head, step)
        self.vae = Autoencoder(pictures)
        self.register_buffer("prompt", torch.zeros(1, WORDS, told))
        self.kept = kept(step)

    def forward(self, crop: Tensor) -> Tensor:
        latent = self.vae.encode(crop)
        noise = self.unet(latent, self.prompt)
        return self.vae.decode((latent - (1 - self.kept) ** 0.5 * noise) * self.kept**-0.5).clamp(-1, 1)


def build(
    *,
    widths: Sequence[int] = (320, 640, 1280, 1280),
    pictures: Sequence[int] = (128, 256, 512, 512),
    told: int = 1024,
    head: int = 64,
    step: int = 999,
    half: bool = False,
) -> OneStep:
    """A network with random weights, in evaluation mode: Stable Diffusion 2.1's sizes.

    ``widths`` and ``pictures``: channels of the denoising network and the autoencoder, largest size first, multiples
    of 32; ``told`` channels of the description; ``head`` of an attention head. ``half``: weights of convolutions and
    matrices are stored as fp16 and computed with in fp32, so that an ONNX file of them stays below 2 GiB.
    """
    net = OneStep(widths, pictures, told, head, step).eval()
    if half:
        for module in net.modules():
            if isinstance(module, (Conv, Linear)):
                module.weight.data = module.weight.data.half()
    return net
