"""CodeFormer (Zhou et al. 2022, Towards Robust Blind Face Restoration with Codebook Lookup Transformer).

An encoder makes 16×16 features of a 512-px face. A transformer reads them as 256 tokens and says for each which entry
of a learned book of 1024 codes it stands for; the generator paints the face from these codes alone. So what it paints
is always a clean face, if not always this one: the encoder's own features, let into the generator at four sizes by the
fidelity w, bring it back to what was seen.

Parameters carry the published names. The graph is static: sizes are those that the network is built for, and w is a
tensor, so that every face of a batch may have its own.
"""
# torch is not there where pyright runs.
# pyright: reportMissingImports=false, reportUntypedBaseClass=false, reportUnknownParameterType=false

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def build(*, size: int = 512, width: int = 64, layers: int = 9) -> CodeFormer:
    """With random weights, in evaluation mode. `size`: side of the crop in pixels, a multiple of 32; `width`: channels
    at full size, a multiple of 32; `layers`: of the transformer. Published: as they are; smaller ones are for tests."""
    return CodeFormer(size, width, layers).eval()


class CodeFormer(nn.Module):
    """crop N×3×S×S (RGB, −1…1) and fidelity N×1 (0…1: best looking … truest to the crop) → restored N×3×S×S, about
    −1…1."""

    multipliers = (1, 2, 2, 4, 4, 8)
    """Channels at each size, from the largest, in widths."""
    fused = (4, 3, 2, 1)
    """Levels (0: full size) at which the encoder's features are let in, in the generator's order."""
    codes, code_dim = 1024, 256
    token_dim, heads = 512, 8

    def __init__(self, size: int, width: int, layers: int) -> None:
        super().__init__()
        channels = [width * m for m in self.multipliers]
        self.side = size // 2 ** (len(channels) - 1)
        self.encoder = Encoder(channels, self.code_dim, self.side)
        self.quantize = Codebook(self.codes, self.code_dim)
        self.generator = Generator(channels, self.code_dim, self.side)
        self.position_emb = nn.Parameter(torch.randn(self.side**2, self.token_dim) * 0.02)
        self.feat_emb = nn.Linear(self.code_dim, self.token_dim)
        self.ft_layers = nn.Sequential(*(Layer(self.token_dim, self.heads, self.side**2) for _ in range(layers)))
        self.idx_pred_layer = nn.Sequential(
            nn.LayerNorm(self.token_dim), nn.Linear(self.token_dim, self.codes, bias=False)
        )
        self.fuse_convs_dict = nn.ModuleDict({str(size >> n): Fusion(channels[n]) for n in self.fused})
        self.adain = AdaIN(self.side**2)

    def forward(self, crop: Tensor, fidelity: Tensor) -> Tensor:
        features, seen = self.encoder(crop)
        codes = self.logits(features).argmax(dim=2)
        painted = self.adain(self.quantize(codes, self.side), features)
        w = fidelity.reshape(-1, 1, 1, 1)
        fusions = dict(zip(self.fused, self.fuse_convs_dict.values(), strict=True))
        return self.generator(painted, {level: partial(fuse, seen[level], w=w) for level, fuse in fusions.items()})

    def logits(self, features: Tensor) -> Tensor:
        """features N×256×h×h → N×h²×1024: how much each token looks like each code. The largest counts."""
        tokens = self.feat_emb(features.reshape(-1, self.code_dim, self.side**2).transpose(1, 2))
        for layer in self.ft_layers:
            tokens = layer(tokens, self.position_emb)
        return self.idx_pred_layer(tokens)


class Codebook(nn.Module):
    """Codes N×h² (whole numbers) → their entries, N×C×h×h."""

    def __init__(self, codes: int, dim: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(codes, dim)

    def forward(self, codes: Tensor, side: int) -> Tensor:
        found: Tensor = self.embedding(codes)
        return found.transpose(1, 2).reshape(-1, self.embedding.embedding_dim, side, side)


class AdaIN(nn.Module):
    """`x` with mean and deviation of `like`, per picture and channel (adaptive instance normalisation, Huang and
    Belongie 2017): here the colours and the light that the encoder saw. Both N×C×H×W of `places` places."""

    def __init__(self, places: int) -> None:
        super().__init__()
        self.unbiased = places / (places - 1)

    def forward(self, x: Tensor, like: Tensor) -> Tensor:
        mean, deviation = self.statistics(x)
        wanted_mean, wanted_deviation = self.statistics(like)
        return (x - mean) / deviation * wanted_deviation + wanted_mean

    def statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean = x.mean(dim=(2, 3), keepdim=True)
        variance = (x - mean).square().mean(dim=(2, 3), keepdim=True) * self.unbiased
        return mean, (variance + 1e-5).sqrt()


class Layer(nn.Module):
    """One of the transformer's: attention, then two linear layers, each on normalised tokens and added to them
    (N×T×C). The position is added where tokens are compared, not to what they give."""

    def __init__(self, dim: int, heads: int, tokens: int) -> None:
        super().__init__()
        self.self_attn = Attention(dim, heads, tokens)
        self.linear1 = nn.Linear(dim, 2 * dim)
        self.linear2 = nn.Linear(2 * dim, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        given = self.norm1(x)
        x = x + self.self_attn(given + position, given)
        return x + self.linear2(F.gelu(self.linear1(self.norm2(x))))


class Attention(nn.Module):
    """Of `places` to `places`, giving what is in `values`; both N×T×C."""

    def __init__(self, dim: int, heads: int, tokens: int) -> None:
        super().__init__()
        self.split = (-1, tokens, heads, dim // heads)
        self.joined = (-1, tokens, dim)
        self.in_proj_weight = nn.Parameter(torch.randn(3 * dim, dim) * dim**-0.5)
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)
        self.softmax = nn.Softmax(dim=-1)

    def forward(self, places: Tensor, values: Tensor) -> Tensor:
        q, k, v = (
            F.linear(x, w, b).reshape(self.split).transpose(1, 2)
            for x, w, b in zip((places, places, values), self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3),
                               strict=True)
        )  # fmt: skip
        # Scaled before the product: in fp16 the product could overflow.
        near = self.softmax((q * self.split[3] ** -0.5) @ k.transpose(2, 3))
        return self.out_proj((near @ v).transpose(1, 2).reshape(self.joined))


class Fusion(nn.Module):
    """Lets what the encoder saw into what the generator paints, by an affine map of the latter."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.encode_enc = ResBlock(2 * channels, channels)
        self.scale, self.shift = (
            nn.Sequential(conv3(channels, channels), nn.LeakyReLU(0.2), conv3(channels, channels)) for _ in range(2)
        )

    def forward(self, seen: Tensor, painted: Tensor, w: Tensor) -> Tensor:
        both = self.encode_enc(torch.cat([seen, painted], dim=1))
        return painted + w * (painted * self.scale(both) + self.shift(both))


class Encoder(nn.Module):
    """crop N×3×S×S → features N×`out`×S/32×S/32, and those on the way, by level: what each level ends with."""

    def __init__(self, channels: Sequence[int], out: int, side: int) -> None:
        super().__init__()
        deepest, c = len(channels) - 1, channels[-1]
        blocks: list[nn.Module] = [conv3(3, channels[0])]
        self.ends: dict[int, int] = {}
        for level, (before, after) in enumerate(pairwise([channels[0], *channels])):
            for first in (before, after):
                blocks.append(ResBlock(first, after))
                if level == deepest:
                    blocks.append(SelfAttention(after, side))
            if level < deepest:
                self.ends[len(blocks) - 1] = level
                blocks.append(Downsample(after))
        blocks += [ResBlock(c, c), SelfAttention(c, side), ResBlock(c, c), norm(c), conv3(c, out)]
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
        seen: dict[int, Tensor] = {}
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in self.ends:
                seen[self.ends[i]] = x
        return x, seen


class Generator(nn.Module):
    """features N×C×S/32×S/32 → N×3×S×S; what the first block of a level gives goes through that level's change."""

    def __init__(self, channels: Sequence[int], given: int, side: int) -> None:
        super().__init__()
        deepest, before = len(channels) - 1, channels[-1]
        blocks = [conv3(given, before), ResBlock(before, before), SelfAttention(before, side), ResBlock(before, before)]
        self.starts: dict[int, int] = {}
        for level in range(deepest, -1, -1):
            after = channels[level]
            made: list[nn.Module] = []
            for first in (before, after):
                made.append(ResBlock(first, after))
                if level == deepest:
                    made.append(SelfAttention(after, side))
            if level > 0:
                made.append(Upsample(after))
            self.starts[len(blocks)] = level
            blocks += made
            before = after
        self.blocks = nn.ModuleList([*blocks, norm(before), conv3(before, 3)])

    def forward(self, x: Tensor, changes: Mapping[int, Callable[[Tensor], Tensor]]) -> Tensor:
        for i, block in enumerate(self.blocks):
            x = block(x)
            if (change := changes.get(self.starts.get(i, -1))) is not None:
                x = change(x)
        return x


class ResBlock(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.norm1 = norm(before)
        self.conv1 = conv3(before, after)
        self.norm2 = norm(after)
        self.conv2 = conv3(after, after)
        self.conv_out = nn.Conv2d(before, after, 1) if before != after else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.silu(self.norm1(x)))
        return self.conv_out(x) + self.conv2(F.silu(self.norm2(y)))


class SelfAttention(nn.Module):
    """Every place of N×C×h×h looks at all others, with one head as wide as the features."""

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.flat, self.square = (-1, channels, side**2), (-1, channels, side, side)
        self.norm = norm(channels)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))
        self.softmax = nn.Softmax(dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        q, k, v = (project(y).reshape(self.flat) for project in (self.q, self.k, self.v))
        near = self.softmax((q * self.flat[1] ** -0.5).transpose(1, 2) @ k)  # N×(asks)×(is asked)
        return x + self.proj_out((v @ near.transpose(1, 2)).reshape(self.square))


class Downsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = conv3(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


def conv3(before: int, after: int) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, padding=1)


def norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, channels, eps=1e-6)
