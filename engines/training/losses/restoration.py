"""The restoration loss, with the pipeline's colour lock inside: training on what the pipeline shows.

Everything works on the region of interest (N×3×h×w float32 RGB 0..1); the region lies on the cells of the lock's
32×32 grid, and the mask is 0 before the region ends, so the lock is the run time's own, exactly, where it counts.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rtface.correct.colour import CHROMA_LIMIT, COLOURLESS, GRID, LUMA_LIMIT
from training.crop_space import F32, oval_mask, roi

RAW = 0.15
"""Weight of the unlocked colour's error on the lock's grid: it keeps the answer itself near the face's colours."""
FEATURES = 3.0
"""Weight of eyes and mouth, relative to the rest of the face: they are a twentieth of the oval, and most of who it
is."""
EYES_AND_MOUTH = ((0.377, 0.468, 0.075, 0.045), (0.623, 0.469, 0.075, 0.045), (0.502, 0.725, 0.125, 0.07))
"""Where they lie in the canonical crop: centre and half axes (x, y) of an ellipse each, fractions of its side."""
EPSILON = 0.02
"""Error, of 0..1, below which Charbonnier's loss is nearly quadratic. Smaller ones make it a sum of magnitudes, whose
best answer is the median: next to none where a network is unsure."""
FLOOR = 0.2
"""Weight of the region outside the oval: other masks (the mesh's forehead) may show what is there."""


def luma(z: Tensor) -> Tensor:
    """0.299 R + 0.587 G + 0.114 B, N×3×h×w → N×1×h×w."""
    return (z * z.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)


def lowpass(z: Tensor, cell: int) -> Tensor:
    """Area to the 32×32 grid (``cell`` px a cell), then a 5-tap Gaussian of σ 1."""
    k = torch.exp(-0.5 * torch.arange(-2, 3, device=z.device, dtype=z.dtype) ** 2)
    k = k / k.sum()
    n, c, h, w = z.shape
    g = F.avg_pool2d(z, cell).reshape(n * c, 1, h // cell, w // cell)
    g = F.conv2d(F.pad(g, (2, 2, 0, 0)), k[None, None, None, :])
    g = F.conv2d(F.pad(g, (0, 0, 2, 2)), k[None, None, :, None])
    return g.reshape(n, c, h // cell, w // cell)


def shape(d: Tensor, cell: int, chroma: Tensor) -> Tensor:
    """The colour lock of a correction: its low frequencies are limited, in ``chroma`` (N×1×1×1) more than in luma."""
    low = lowpass(d, cell)
    light = luma(low)
    colour = low - light
    most = colour.abs().amax(1, keepdim=True).clamp_min(1e-9)
    kept = LUMA_LIMIT * torch.tanh(light / LUMA_LIMIT) + colour * (chroma * torch.tanh(most / chroma) / most)
    return d - F.interpolate(low - kept, size=d.shape[-2:], mode="bilinear", align_corners=False)


def chroma_limit(crop: Tensor, cell: int) -> Tensor:
    """How far the low frequencies of the chroma of crops may be moved, N×1×1×1."""
    sample = crop[..., ::cell, ::cell]
    mean = (sample - luma(sample)).abs().mean((1, 2, 3), keepdim=True)
    return (COLOURLESS * mean).clamp(1e-6, CHROMA_LIMIT)


def highpass(x: Tensor) -> Tensor:
    """x minus its own half-resolution version."""
    return x - F.interpolate(F.avg_pool2d(x, 2), scale_factor=2.0, mode="nearest")


def features(size: int) -> F32:
    """Where eyes and mouth are in a crop: float32 ``size``×``size``, 0..1, with soft edges."""
    at = (np.arange(size, dtype=np.float32) + 0.5) / size
    found = np.zeros((size, size), np.float32)
    for x, y, a, b in EYES_AND_MOUTH:
        radius = np.hypot((at[None, :] - x) / a, (at[:, None] - y) / b)
        found = np.maximum(found, np.clip(1.5 - radius, 0, 1))
    return found


UNEVEN = 1.0
"""Weight of `uneven` in the loss of a vivid network."""


def uneven(shown: Tensor) -> Tensor:
    """How unevenly the finest band of images N×3×h×w is spread over the 64 places of 8×8 cells: the mean square of each
    place's mean magnitude, as a share of the mean of all, less 1; scalar, 0.0001 in photographs. A network that draws
    in folded images prefers some places, and a critic is slow to see these regular dots. 32 pixels at each side do
    not count."""
    fine = (shown - F.avg_pool2d(F.pad(shown, (1, 1, 1, 1), mode="replicate"), 3, 1))[:, :, 32:-32, 32:-32]
    size = (fine.mean(1, keepdim=True).square() + 1e-8).sqrt()
    size = (size / size.mean((1, 2, 3), keepdim=True).detach()).clamp(max=4)
    places = F.pixel_unshuffle(size, 8).mean((0, 2, 3))
    return (places / places.mean() - 1).square().mean()


class Loss(nn.Module):
    """Charbonnier (Lai et al. 2017) on the picture and on the bands of a small Laplacian pyramid, inside the oval."""

    def __init__(self, size: int, bands: tuple[float, ...] = (0.5, 0.5, 0.5, 0.5)) -> None:
        super().__init__()
        x, y, w, h = roi(size)
        self.cell, self.bands = size // GRID, bands
        mask = torch.from_numpy(oval_mask(size)[y : y + h, x : x + w].copy())[None, None]
        self.register_buffer("mask", mask / mask.mean(), persistent=False)
        wide = FLOOR + (1 - FLOOR) * mask
        wide = wide * (1 + (FEATURES - 1) * torch.from_numpy(features(size)[y : y + h, x : x + w].copy()))
        self.register_buffer("weight", wide / wide.mean(), persistent=False)

    def charbonnier(self, e: Tensor) -> Tensor:
        """Per sample, weighted by the oval: N×C×h×w → N."""
        m = self.weight
        while m.shape[-1] > e.shape[-1]:  # pyright: ignore
            m = F.avg_pool2d(m, 2)  # pyright: ignore
        return (torch.sqrt(e * e + EPSILON**2) * m).mean((1, 2, 3)) - EPSILON

    def forward(self, crop: Tensor, residual: Tensor, truth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(loss per sample N, squared error per sample N, what the run time would show N×3×h×w, which both are of)."""
        raw = F.avg_pool2d(crop + residual - truth, self.cell)
        shown = crop + shape(residual, self.cell, chroma_limit(crop, self.cell))
        e = shown - truth
        square = ((e.detach() ** 2) * self.mask).mean((1, 2, 3))  # pyright: ignore
        total = self.charbonnier(e) + RAW * self.charbonnier(raw)
        for weight in self.bands:
            total = total + weight * self.charbonnier(highpass(e))
            e = F.avg_pool2d(e, 2)
        return total, square, shown
