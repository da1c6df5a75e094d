"""CodeFormer (Zhou et al. 2022, Towards Robust Blind Face Restoration with Codebook Lookup Transformer).

An encoder reduces a 512-px face to 16×16 features. A transformer processes these as 256 tokens, and predicts for each
one of the 1024 entries of a learned codebook. A face that the generator draws from these entries alone is clean, but
not always the same person. Therefore encoder features also enter the generator, at four sizes, weighted by fidelity w.

Parameters have the published names. The graph is static: sizes are fixed when the network is built. The fidelity w is a
tensor, so that each face of a batch can have its own value.
"""
# torch is not installed where pyright runs.
# pyright: reportMissingImports=false, reportUntypedBaseClass=false, reportUnknownParameterType=false

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def build(*, size: int = 512, width: int = 64, layers: int = 9) -> CodeFormer:
    """Builds a network with random weights, in evaluation mode. `size`: side of the crop in pixels, a multiple of 32.
    `width`: channels at full size, a multiple of 32. `layers`: transformer layers. Tests use smaller values."""
    return CodeFormer(size, width, layers).eval()


class CodeFormer(nn.Module):
    """Restores crops N×3×S×S (RGB, −1…1; outputs about −1…1). Fidelity N×1: 0 looks best, 1 is closest to the crop."""

    multipliers = (1, 2, 2, 4, 4, 8)
    """Channels per size, from the largest size, as multiples of the width."""
    fused = (4, 3, 2, 1)
    """Levels (0: full size) at which encoder features enter the generator, in its order."""
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
        features, maps = self.encoder(crop)
        codes = self.logits(features).argmax(dim=2)
        entries = self.adain(self.quantize(codes, self.side), features)
        w = fidelity.reshape(-1, 1, 1, 1)
        fusions = dict(zip(self.fused, self.fuse_convs_dict.values(), strict=True))
        return self.generator(entries, {level: partial(fuse, maps[level], w=w) for level, fuse in fusions.items()})

    def logits(self, features: Tensor) -> Tensor:
        """Scores every codebook entry for each token: N×256×h×h to N×h²×1024. The entry with the highest score wins."""
        tokens = self.feat_emb(features.reshape(-1, self.code_dim, self.side**2).transpose(1, 2))
        for layer in self.ft_layers:
            tokens = layer(tokens, self.position_emb)
        return self.idx_pred_layer(tokens)


class Codebook(nn.Module):
    """Maps codes N×h² (integers) to their codebook entries N×C×h×h."""

    def __init__(self, codes: int, dim: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(codes, dim)

    def forward(self, codes: Tensor, side: int) -> Tensor:
        entries: Tensor = self.embedding(codes)
        return entries.transpose(1, 2).reshape(-1, self.embedding.embedding_dim, side, side)


class AdaIN(nn.Module):
    """Gives `x` the mean and standard deviation of `like`. This transfers colours and light, per image and channel
    (adaptive instance normalisation, Huang and Belongie 2017). Both are N×C×H×W with `places` = H·W."""

    def __init__(self, places: int) -> None:
        super().__init__()
        self.unbiased = places / (places - 1)

    def forward(self, x: Tensor, like: Tensor) -> Tensor:
        mean, deviation = self.statistics(x)
        like_mean, like_deviation = self.statistics(like)
        return (x - mean) / deviation * like_deviation + like_mean

    def statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean = x.mean(dim=(2, 3), keepdim=True)
        variance = (x - mean).square().mean(dim=(2, 3), keepdim=True) * self.unbiased
        return mean, (variance + 1e-5).sqrt()


class Layer(nn.Module):
    """A transformer layer on N×T×C: attention, followed by two linear layers, both residual and pre-normalised. Queries
    and keys include the position, values do not."""

    def __init__(self, dim: int, heads: int, tokens: int) -> None:
        super().__init__()
        self.self_attn = Attention(dim, heads, tokens)
        self.linear1 = nn.Linear(dim, 2 * dim)
        self.linear2 = nn.Linear(2 * dim, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        normed = self.norm1(x)
        x = x + self.self_attn(normed + position, normed)
        return x + self.linear2(F.gelu(self.linear1(self.norm2(x))))


class Attention(nn.Module):
    """Multi-head self-attention. Queries and keys come from `places`, values from the other input; both N×T×C."""

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
        # Queries are scaled before the product, because the unscaled product could overflow in fp16.
        shares = self.softmax((q * self.split[3] ** -0.5) @ k.transpose(2, 3))
        return self.out_proj((shares @ v).transpose(1, 2).reshape(self.joined))


class Fusion(nn.Module):
    """Scales and shifts generator features. Scale and shift are predicted from encoder and generator features."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.encode_enc = ResBlock(2 * channels, channels)
        self.scale, self.shift = (
            nn.Sequential(conv3(channels, channels), nn.LeakyReLU(0.2), conv3(channels, channels)) for _ in range(2)
        )

    def forward(self, encoded: Tensor, generated: Tensor, w: Tensor) -> Tensor:
        joined = self.encode_enc(torch.cat([encoded, generated], dim=1))
        return generated + w * (generated * self.scale(joined) + self.shift(joined))


class Encoder(nn.Module):
    """Maps crops N×3×S×S to features N×`out`×S/32×S/32. Also returns each level's last features."""

    def __init__(self, channels: Sequence[int], out: int, side: int) -> None:
        super().__init__()
        deepest, c = len(channels) - 1, channels[-1]
        blocks: list[nn.Module] = [conv3(3, channels[0])]
        self.ends: dict[int, int] = {}
        for level, (inputs, outputs) in enumerate(pairwise([channels[0], *channels])):
            for block_inputs in (inputs, outputs):
                blocks.append(ResBlock(block_inputs, outputs))
                if level == deepest:
                    blocks.append(SelfAttention(outputs, side))
            if level < deepest:
                self.ends[len(blocks) - 1] = level
                blocks.append(Downsample(outputs))
        blocks += [ResBlock(c, c), SelfAttention(c, side), ResBlock(c, c), norm(c), conv3(c, out)]
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
        level_features: dict[int, Tensor] = {}
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in self.ends:
                level_features[self.ends[i]] = x
        return x, level_features


class Generator(nn.Module):
    """Maps features N×C×S/32×S/32 to pictures N×3×S×S. Encoder features enter a level after its first block."""

    def __init__(self, channels: Sequence[int], features: int, side: int) -> None:
        super().__init__()
        deepest, width = len(channels) - 1, channels[-1]
        blocks = [conv3(features, width), ResBlock(width, width), SelfAttention(width, side), ResBlock(width, width)]
        self.starts: dict[int, int] = {}
        for level in range(deepest, -1, -1):
            outputs = channels[level]
            level_blocks: list[nn.Module] = []
            for block_inputs in (width, outputs):
                level_blocks.append(ResBlock(block_inputs, outputs))
                if level == deepest:
                    level_blocks.append(SelfAttention(outputs, side))
            if level > 0:
                level_blocks.append(Upsample(outputs))
            self.starts[len(blocks)] = level
            blocks += level_blocks
            width = outputs
        self.blocks = nn.ModuleList([*blocks, norm(width), conv3(width, 3)])

    def forward(self, x: Tensor, changes: Mapping[int, Callable[[Tensor], Tensor]]) -> Tensor:
        for i, block in enumerate(self.blocks):
            x = block(x)
            if (change := changes.get(self.starts.get(i, -1))) is not None:
                x = change(x)
        return x


class ResBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm1 = norm(inputs)
        self.conv1 = conv3(inputs, outputs)
        self.norm2 = norm(outputs)
        self.conv2 = conv3(outputs, outputs)
        self.conv_out = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.silu(self.norm1(x)))
        return self.conv_out(x) + self.conv2(F.silu(self.norm2(y)))


class SelfAttention(nn.Module):
    """Single-head self-attention over all places of a map N×C×h×h."""

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.flat, self.square = (-1, channels, side**2), (-1, channels, side, side)
        self.norm = norm(channels)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))
        self.softmax = nn.Softmax(dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        q, k, v = (project(y).reshape(self.flat) for project in (self.q, self.k, self.v))
        shares = self.softmax((q * self.flat[1] ** -0.5).transpose(1, 2) @ k)  # N×queries×keys
        return x + self.proj_out((v @ shares.transpose(1, 2)).reshape(self.square))


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


def conv3(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, channels, eps=1e-6)
