"""RestoreFormer (Wang et al. 2022, Blind Face Restoration from Undegraded Key-Value Pairs) and RestoreFormer++
(Wang et al. 2023, Towards Real-World Blind Face Restoration from Undegraded Key-Value Pairs).

An encoder reduces the face to a map of vectors at 1/32 of its size. Each vector is replaced by the nearest entry of a
learnt dictionary of good faces, and a decoder builds the image from these entries. The replacement loses identity.
Cross-attention restores it: queries come from the encoder's maps, keys and values from the dictionary. RestoreFormer
uses it only at 1/32, RestoreFormer++ also at 1/16. Blocks and dictionary are those of VQGAN (Esser et al. 2021).

Parameters have the published names, including unused parameters (``norm2`` of the attention in the encoder).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

WIDTHS = (1, 2, 2, 4, 4, 8)
"""Channels of the levels, finest first, as multiples of the first level's channels."""


def norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, width, eps=1e-6)


class Block(nn.Module):
    """Norm, swish and 3×3 convolution, twice, added to the input. N×inputs×h×w → N×outputs×h×w."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm1 = norm(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2 = norm(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        if inputs != outputs:
            self.nin_shortcut = nn.Conv2d(inputs, outputs, 1)
        self.widens = inputs != outputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.silu(self.norm1(x)))
        y = self.conv2(F.silu(self.norm2(y)))
        return (self.nin_shortcut(x) if self.widens else x) + y


class Attention(nn.Module):
    """Residual multi-head attention over the positions of a map.

    Queries come from ``queries`` (default: ``x``), keys and values from ``x``. Maps are N×width×side×side.
    """

    def __init__(self, width: int, heads: int, side: int) -> None:
        super().__init__()
        # The shapes are fixed, so that the exported graph does not compute them.
        self.split = (-1, heads, width // heads, side * side)
        self.whole = (-1, width, side, side)
        self.scale = (width // heads) ** -0.5
        self.norm1 = norm(width)
        self.norm2 = norm(width)
        self.q = nn.Conv2d(width, width, 1)
        self.k = nn.Conv2d(width, width, 1)
        self.v = nn.Conv2d(width, width, 1)
        self.proj_out = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor, queries: Tensor | None = None) -> Tensor:
        normed = self.norm1(x)
        q = self.q(normed if queries is None else self.norm2(queries)).reshape(self.split) * self.scale
        k = self.k(normed).reshape(self.split)
        v = self.v(normed).reshape(self.split)
        shares = F.softmax(q.transpose(2, 3) @ k, dim=3)  # N×heads×queries×keys
        return x + self.proj_out((v @ shares.transpose(2, 3)).reshape(self.whole))


class Down(nn.Module):
    """Halves height and width by a 3×3 convolution. Pads only at the bottom and right."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Up(nn.Module):
    """Doubles height and width by repeating pixels, then applies a 3×3 convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Level(nn.Module):
    """Residual blocks at one size. Attention follows each unless ``heads`` is 0."""

    def __init__(self, inputs: int, outputs: int, blocks: int, heads: int, side: int) -> None:
        super().__init__()
        self.block = nn.ModuleList(Block(inputs if i == 0 else outputs, outputs) for i in range(blocks))
        self.attn = nn.ModuleList(Attention(outputs, heads, side) for _ in range(blocks if heads else 0))

    def forward(self, x: Tensor, queries: Tensor | None = None) -> Tensor:
        for i, block in enumerate(self.block):
            x = block(x)
            if len(self.attn):
                x = self.attn[i](x, queries)
        return x


class Middle(nn.Module):
    """A block, attention and another block, at the smallest size."""

    def __init__(self, width: int, heads: int, side: int) -> None:
        super().__init__()
        self.block_1 = Block(width, width)
        self.attn_1 = Attention(width, heads, side)
        self.block_2 = Block(width, width)


class Encoder(nn.Module):
    """Maps crops N×3×S×S to vectors to look up, N×code×S/32×S/32. Also returns maps for queries: the map of the
    middle, and a list with one map per level, finest first."""

    def __init__(self, widths: Sequence[int], code: int, heads: int, size: int) -> None:
        super().__init__()
        last = len(widths) - 1
        self.conv_in = nn.Conv2d(3, widths[0], 3, padding=1)
        self.down = nn.ModuleList()
        for i, (inputs, outputs) in enumerate(zip((widths[0], *widths), widths, strict=False)):
            level = Level(inputs, outputs, 2, heads if i == last else 0, size >> i)
            if i < last:
                level.downsample = Down(outputs)
            self.down.append(level)
        self.mid = Middle(widths[-1], heads, size >> last)
        self.norm_out = norm(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], code, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        x = self.conv_in(x)
        queries: list[Tensor] = []
        for level in self.down[:-1]:
            x = level(x)
            queries.append(x)
            x = level.downsample(x)
        x = self.mid.block_1(self.down[-1](x))
        queries.append(x)
        x = self.mid.block_2(self.mid.attn_1(x))
        return self.conv_out(F.silu(self.norm_out(x))), x, queries


class Decoder(nn.Module):
    """Maps dictionary entries N×code×S/32×S/32 to pictures N×3×S×S. The ``asked`` smallest levels have cross-attention
    with the encoder's maps."""

    def __init__(self, widths: Sequence[int], code: int, heads: int, asked: int, size: int) -> None:
        super().__init__()
        last = len(widths) - 1
        self.conv_in = nn.Conv2d(code, widths[-1], 3, padding=1)
        self.mid = Middle(widths[-1], heads, size >> last)
        self.up = nn.ModuleList()
        for i, (outputs, inputs) in enumerate(zip(widths, (*widths[1:], widths[-1]), strict=True)):
            level = Level(inputs, outputs, 3, heads if i > last - asked else 0, size >> i)
            if i > 0:
                level.upsample = Up(outputs)
            self.up.append(level)
        self.norm_out = norm(widths[0])
        self.conv_out = nn.Conv2d(widths[0], 3, 3, padding=1)

    def forward(self, x: Tensor, middle: Tensor, queries: Sequence[Tensor]) -> Tensor:
        x = self.mid.block_1(self.conv_in(x))
        x = self.mid.block_2(self.mid.attn_1(x, middle))
        for level, query in zip(reversed(self.up[1:]), reversed(queries[1:]), strict=True):
            x = level.upsample(level(x, query))
        return self.conv_out(F.silu(self.norm_out(self.up[0](x, queries[0]))))


class Dictionary(nn.Module):
    """Replaces each vector of N×code×h×w by the nearest entry (Euclidean distance)."""

    def __init__(self, entries: int, code: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(entries, code)

    def distances(self, vectors: Tensor) -> Tensor:
        """Computes squared distances N×h×w×entries. Omits the term that is equal for all entries."""
        entries = self.embedding.weight
        return entries.square().sum(1) - 2 * (vectors.permute(0, 2, 3, 1) @ entries.t())

    def forward(self, vectors: Tensor) -> Tensor:
        return self.embedding(self.distances(vectors).argmin(3)).permute(0, 3, 1, 2)


class RestoreFormer(nn.Module):
    """Restores RGB crops N×3×S×S, -1…1. Outputs can slightly exceed -1…1."""

    def __init__(self, heads: int, asked: int, width: int, entries: int, code: int, size: int) -> None:
        super().__init__()
        widths = [width * w for w in WIDTHS]
        self.encoder = Encoder(widths, code, heads, size)
        self.quant_conv = nn.Conv2d(code, code, 1)
        self.quantize = Dictionary(entries, code)
        self.post_quant_conv = nn.Conv2d(code, code, 1)
        self.decoder = Decoder(widths, code, heads, asked, size)

    def forward(self, crop: Tensor) -> Tensor:
        vectors, middle, queries = self.encoder(crop)
        entries = self.quantize(self.quant_conv(vectors))
        return self.decoder(self.post_quant_conv(entries), middle, queries)


def build(
    *, heads: int = 8, asked: int = 1, width: int = 64, entries: int = 1024, code: int = 256, size: int = 512
) -> RestoreFormer:
    """Builds a network with random weights, in evaluation mode.

    ``heads=8, asked=1`` is RestoreFormer, ``heads=4, asked=2`` is RestoreFormer++. ``asked``: number of levels with
    cross-attention. ``entries``×``code``: size of the dictionary. ``width`` and ``size`` (pixels) are multiples of 32.
    """
    return RestoreFormer(heads, asked, width, entries, code, size).eval()
