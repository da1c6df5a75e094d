"""The restoration loss on a run's output, after the colour lock.

All functions work on the region of interest (N×3×h×w float32 RGB 0..1). The region is aligned to the lock's 32×32 grid,
and the mask is 0 at its border. So the lock gives the same result as in a run wherever the loss counts.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rtface.correct.colour import CHROMA_LIMIT, COLOURLESS, GRID, LUMA_LIMIT
from training.crop_space import F32, oval_mask, roi

RAW_WEIGHT = 0.15
"""Weight of the unlocked colour's error on the lock's grid: keeps the raw answer near the face's colours."""
FEATURE_WEIGHT = 3.0
"""Weight of eyes and mouth relative to the rest: a twentieth of the oval, but most of the identity."""
EYES_AND_MOUTH = ((0.377, 0.468, 0.075, 0.045), (0.623, 0.469, 0.075, 0.045), (0.502, 0.725, 0.125, 0.07))
"""Ellipses in the canonical crop: centre and half axes (x, y), fractions of its side."""
EPSILON = 0.02
"""Error, of 0..1, below which Charbonnier's loss is nearly quadratic. A smaller value approaches a sum of magnitudes,
whose optimum is the median: almost no correction where a network is unsure."""
OUTSIDE_WEIGHT = 0.2
"""Weight of the region outside the oval, which other masks (the mesh's forehead) may show."""


def luma(z: Tensor) -> Tensor:
    """Computes 0.299 R + 0.587 G + 0.114 B, N×3×h×w → N×1×h×w."""
    return (z * z.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)


def lowpass(z: Tensor, cell: int) -> Tensor:
    """Averages the ``cell``-px cells of the 32×32 grid. Blurs the result by a 5-tap Gaussian of σ 1."""
    k = torch.exp(-0.5 * torch.arange(-2, 3, device=z.device, dtype=z.dtype) ** 2)
    k = k / k.sum()
    n, c, h, w = z.shape
    g = F.avg_pool2d(z, cell).reshape(n * c, 1, h // cell, w // cell)
    g = F.conv2d(F.pad(g, (2, 2, 0, 0)), k[None, None, None, :])
    g = F.conv2d(F.pad(g, (0, 0, 2, 2)), k[None, None, :, None])
    return g.reshape(n, c, h // cell, w // cell)


def shape(d: Tensor, cell: int, chroma: Tensor) -> Tensor:
    """Applies the colour lock: limits the low frequencies of a correction. ``chroma``: limit for chroma, N×1×1×1."""
    low = lowpass(d, cell)
    light = luma(low)
    colour = low - light
    strongest = colour.abs().amax(1, keepdim=True).clamp_min(1e-9)
    kept = LUMA_LIMIT * torch.tanh(light / LUMA_LIMIT) + colour * (chroma * torch.tanh(strongest / chroma) / strongest)
    return d - F.interpolate(low - kept, size=d.shape[-2:], mode="bilinear", align_corners=False)


def chroma_limit(crop: Tensor, cell: int) -> Tensor:
    """Returns each crop's limit for low frequencies of chroma, N×1×1×1."""
    sample = crop[..., ::cell, ::cell]
    mean = (sample - luma(sample)).abs().mean((1, 2, 3), keepdim=True)
    return (COLOURLESS * mean).clamp(1e-6, CHROMA_LIMIT)


def highpass(x: Tensor) -> Tensor:
    """Subtracts the half-resolution version of ``x``."""
    return x - F.interpolate(F.avg_pool2d(x, 2), scale_factor=2.0, mode="nearest")


def features(size: int) -> F32:
    """Draws soft masks of eyes and mouth: float32 ``size``×``size``, 0..1."""
    at = (np.arange(size, dtype=np.float32) + 0.5) / size
    mask = np.zeros((size, size), np.float32)
    for x, y, a, b in EYES_AND_MOUTH:
        radius = np.hypot((at[None, :] - x) / a, (at[:, None] - y) / b)
        mask = np.maximum(mask, np.clip(1.5 - radius, 0, 1))
    return mask


UNEVEN_WEIGHT = 1.0
"""Weight of `uneven` in the loss of a vivid network."""


def uneven(shown: Tensor) -> Tensor:
    """Measures how unevenly fine detail is spread over 8×8 cells. Images are N×3×h×w.

    Takes each place's mean magnitude of the finest band, relative to the mean of all places. The scalar result is the
    mean squared deviation from 1: 0.0001 in photographs. Networks on folded images prefer some places: they draw
    regular dots, which a critic learns to see only slowly. A border of 32 pixels does not count."""
    fine = (shown - F.avg_pool2d(F.pad(shown, (1, 1, 1, 1), mode="replicate"), 3, 1))[:, :, 32:-32, 32:-32]
    size = (fine.mean(1, keepdim=True).square() + 1e-8).sqrt()
    size = (size / size.mean((1, 2, 3), keepdim=True).detach()).clamp(max=4)
    places = F.pixel_unshuffle(size, 8).mean((0, 2, 3))
    return (places / places.mean() - 1).square().mean()


class Loss(nn.Module):
    """The Charbonnier loss (Lai et al. 2017) on pictures and their Laplacian bands, within the oval."""

    def __init__(self, size: int, bands: tuple[float, ...] = (0.5, 0.5, 0.5, 0.5)) -> None:
        super().__init__()
        x, y, w, h = roi(size)
        self.cell, self.bands = size // GRID, bands
        mask = torch.from_numpy(oval_mask(size)[y : y + h, x : x + w].copy())[None, None]
        self.register_buffer("mask", mask / mask.mean(), persistent=False)
        wide = OUTSIDE_WEIGHT + (1 - OUTSIDE_WEIGHT) * mask
        wide = wide * (1 + (FEATURE_WEIGHT - 1) * torch.from_numpy(features(size)[y : y + h, x : x + w].copy()))
        self.register_buffer("weight", wide / wide.mean(), persistent=False)

    def charbonnier(self, e: Tensor) -> Tensor:
        """Computes the loss per sample, weighted by the oval: N×C×h×w → N."""
        m = self.weight
        while m.shape[-1] > e.shape[-1]:  # pyright: ignore
            m = F.avg_pool2d(m, 2)  # pyright: ignore
        return (torch.sqrt(e * e + EPSILON**2) * m).mean((1, 2, 3)) - EPSILON

    def forward(self, crop: Tensor, residual: Tensor, truth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns (loss N, squared error N, shown N×3×h×w). ``shown`` is the output as in a run, which both judge."""
        raw = F.avg_pool2d(crop + residual - truth, self.cell)
        shown = crop + shape(residual, self.cell, chroma_limit(crop, self.cell))
        e = shown - truth
        square = ((e.detach() ** 2) * self.mask).mean((1, 2, 3))  # pyright: ignore
        total = self.charbonnier(e) + RAW_WEIGHT * self.charbonnier(raw)
        for weight in self.bands:
            total = total + weight * self.charbonnier(highpass(e))
            e = F.avg_pool2d(e, 2)
        return total, square, shown
