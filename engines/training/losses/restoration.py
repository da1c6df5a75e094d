"""The restoration loss, computed on a run's output after the colour lock.

All functions process the region of interest (N×3×h×w float32 RGB 0..1). The region is aligned to the lock's 32×32 grid,
and the mask is 0 at the region's border. So the lock has the same result as in a run wherever the loss is not zero.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rtface.correct.colour import CHROMA_LIMIT, COLOURLESS, GRID, LUMA_LIMIT
from training.crop_space import F32, oval_mask, roi

RAW_WEIGHT = 0.15
"""Weight of the error before the lock, on the lock's grid. It keeps the raw output close to the face's colours."""
FEATURE_WEIGHT = 3.0
"""Relative weight of eyes and mouth, which are a twentieth of the oval, but determine most of the identity."""
EYES_AND_MOUTH = ((0.377, 0.468, 0.075, 0.045), (0.623, 0.469, 0.075, 0.045), (0.502, 0.725, 0.125, 0.07))
"""Ellipses in the canonical crop: centre and half axes (x, y), fractions of its side."""
EPSILON = 0.02
"""Error (of values 0..1) below which Charbonnier's loss is nearly quadratic. With a smaller value, the loss is almost a
sum of absolute errors, whose optimum is the median: networks would correct almost nothing where they are unsure."""
OUTSIDE_WEIGHT = 0.2
"""Weight of the region outside the oval. Some of it is visible with other masks (the mesh's forehead)."""


def luma(z: Tensor) -> Tensor:
    """Computes 0.299 R + 0.587 G + 0.114 B, N×3×h×w → N×1×h×w."""
    return (z * z.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)


def lowpass(z: Tensor, cell: int) -> Tensor:
    """Averages the ``cell``-px cells of the 32×32 grid. Then blurs by a 5-tap Gaussian of σ 1 cell."""
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
    peak = colour.abs().amax(1, keepdim=True).clamp_min(1e-9)
    limited = LUMA_LIMIT * torch.tanh(light / LUMA_LIMIT) + colour * (chroma * torch.tanh(peak / chroma) / peak)
    return d - F.interpolate(low - limited, size=d.shape[-2:], mode="bilinear", align_corners=False)


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
"""Weight of `uneven` in the loss of vivid networks."""


def uneven(images: Tensor) -> Tensor:
    """Measures how unevenly fine detail is spread over 8×8 cells. Images are N×3×h×w.

    For each of the 64 positions in a cell, computes the mean magnitude of the finest band, relative to the mean of all
    positions. The scalar result is the mean squared deviation from 1: 0.0001 in photographs. Networks on folded images
    draw regular dots, which a critic detects only after long training. A border of 32 pixels is ignored."""
    fine = (images - F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1))[:, :, 32:-32, 32:-32]
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
        """Returns (loss N, squared error N, output N×3×h×w). ``output`` equals a run's, and both errors refer to it."""
        raw = F.avg_pool2d(crop + residual - truth, self.cell)
        output = crop + shape(residual, self.cell, chroma_limit(crop, self.cell))
        e = output - truth
        square = ((e.detach() ** 2) * self.mask).mean((1, 2, 3))  # pyright: ignore
        total = self.charbonnier(e) + RAW_WEIGHT * self.charbonnier(raw)
        for weight in self.bands:
            total = total + weight * self.charbonnier(highpass(e))
            e = F.avg_pool2d(e, 2)
        return total, square, output
