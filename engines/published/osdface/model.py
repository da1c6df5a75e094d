"""OSDFace (Wang et al. 2025, One-Step Diffusion Model for Face Restoration).

As OSEDiff, but what the denoising network is told comes from the face itself: an encoder and a dictionary learnt from
damaged faces (those of RestoreFormer, in other sizes) give the 77 entries that fit some place of it best. Its authors
give no licence, so that it cannot be added; it stands here as far as names and shapes can be held against the published
code. Unlike other folders' this module takes from two of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engines.published.osediff.model import WORDS, OneStep
from engines.published.restoreformer.model import Dictionary, Encoder

MULTIPLES = (1, 2, 2, 2, 4, 8)


class Prompter(nn.Module):
    """Crops N×3×S×S to 77 dictionary entries N×77×code: each entry counts by the place that it fits best among those
    to which it is the nearest, best ones first; zeros where fewer are nearest to any."""

    def __init__(self, width: int, entries: int, code: int, size: int) -> None:
        super().__init__()
        self.encoder = Encoder([width * m for m in MULTIPLES], code, 1, size)
        self.quantize = Dictionary(entries, code)
        self.quant_conv = nn.Conv2d(code, code, 1)

    def forward(self, crop: Tensor) -> Tensor:
        # The published code brings 0…1 to -1…1 here, though its crops are -1…1 already; it was trained so.
        vectors = self.quant_conv(self.encoder((crop - 0.5) / 0.5)[0])
        far = self.quantize.distances(vectors) + vectors.square().sum(1)[..., None]
        far = far.flatten(1, 2)
        nearest = far == far.amin(2, keepdim=True)
        best = torch.where(nearest, far, torch.inf).amin(1).topk(WORDS, dim=1, largest=False)
        return self.quantize.embedding(best.indices) * best.values.isfinite()[..., None]


class Widen(nn.Module):
    """N×77×code → N×77×told."""

    def __init__(self, code: int, told: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(code, code // 2, 1)
        self.conv2 = nn.Conv1d(code // 2, told, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.conv2(F.silu(self.conv1(x.transpose(1, 2))))).transpose(1, 2)


class OSDFace(OneStep):
    """The whole network, low-rank changes merged. RGB crops N×3×S×S, -1…1, to as much."""

    def __init__(self, widths: Sequence[int], pictures: Sequence[int], told: int, head: int, width: int, code: int,
                 size: int) -> None:  # fmt: skip
        super().__init__(widths, pictures, told, head, step=399)
        self.vqvae_LQ = Prompter(width, 1024, code, size)
        self.embedding_change = Widen(code, told)

    def describe(self, crop: Tensor) -> Tensor:
        return self.embedding_change(self.vqvae_LQ(crop))


def build(
    *,
    widths: Sequence[int] = (320, 640, 1280, 1280),
    pictures: Sequence[int] = (128, 256, 512, 512),
    told: int = 1024,
    head: int = 64,
    width: int = 64,
    code: int = 512,
    size: int = 512,
) -> OSDFace:
    """A network with random weights, in evaluation mode; sizes as in `osediff` and `restoreformer`."""
    return OSDFace(widths, pictures, told, head, width, code, size).eval()
