"""Metrics of a restored face without torch: PSNR, structural similarity, an affine RGB map that removes differences in
tone, and what is found of the finest octaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from training.crop_space import F32, F64, U8

LUMA = np.array([0.299, 0.587, 0.114])


def weighted(z: F32, mask: F32) -> float:
    """Mean of an S×S×3 picture, weighted with the mask."""
    return float((z * mask[..., None]).mean() / mask.mean())


def psnr(a: F32, b: F32, mask: F32) -> float:
    """dB between two S×S×3 pictures of 0..1, weighted with the mask."""
    return float(-10 * np.log10(max(weighted((a - b) ** 2, mask), 1e-10)))


# --- SSIM ------------------------------------------------------------------------------------------------------------

K1, K2 = 0.01, 0.03


def ssim_map(a: F32, b: F32) -> F64:
    """Structural similarity of every pixel, on luma (BT.601: 0.299 R + 0.587 G + 0.114 B).

    Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to structural similarity",
    IEEE TIP 2004: an 11-tap Gaussian window of σ 1.5, K₁ 0.01, K₂ 0.03, population covariances; the picture is
    mirrored at its border.

    Args:
        a: S×S×3 RGB, float, 0..1.
        b: the same.

    Returns:
        float64 S×S, −1..1.

    Raises:
        ValueError: the shapes differ, or are not H×W×3.
    """
    if a.shape != b.shape or a.ndim != 3 or a.shape[2] != 3:
        raise ValueError(f"SSIM compares two H×W×3 pictures of one size, got {a.shape} and {b.shape}")
    # float64: the variances are small differences of large numbers.
    x, y = (z.astype(np.float64) @ LUMA for z in (a, b))

    def mean(z: F64) -> F64:
        return np.asarray(cv2.GaussianBlur(z, (11, 11), 1.5, borderType=cv2.BORDER_REFLECT), np.float64)

    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    c1, c2 = K1**2, K2**2
    return (2 * mx * my + c1) * (2 * cov + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))


def ssim(a: F32, b: F32, mask: F32) -> float:
    """Mean of `ssim_map` weighted with ``mask`` (float S×S, 0..1: `crop_space.oval_mask`); 1 for equal pictures.

    Raises:
        ValueError: shapes that do not fit, or a mask that is 0 everywhere.
    """
    if mask.shape != a.shape[:2] or not mask.any():
        raise ValueError(f"the mask must be {a.shape[:2]} and not 0 everywhere, got {mask.shape}")
    return float(np.average(ssim_map(a, b), weights=mask))


# --- tone ------------------------------------------------------------------------------------------------------------

TONE_SIGMA = 8.0
"""Pixels of 512: the low-pass before the tone is fitted."""


def tone_map(images: Sequence[U8], truths: Sequence[U8], mask: F32) -> F64:
    """The affine RGB map that brings images nearest to their truths: one for all of them, such as a clip.

    Least squares on every fourth pixel of both after a Gaussian of `TONE_SIGMA`, where the mask is above one half. In
    directions in which the colours do not vary the map is the identity.

    Args:
        images, truths: uint8 H×W×3 RGB.
        mask: H×W, 0..1.

    Returns:
        3×4: ``mapped = image @ map[:, :3].T + map[:, 3]``, in units of 0..1.
    """
    inside = mask[::4, ::4] > 0.5

    def low(image: U8) -> F64:
        soft = cv2.GaussianBlur(image.astype(np.float32) / 255, (0, 0), TONE_SIGMA)
        return np.asarray(soft[::4, ::4][inside], np.float64)

    x = np.concatenate([low(image) for image in images])
    y = np.concatenate([low(truth) for truth in truths])
    mean = x.mean(0)
    change, *_ = np.linalg.lstsq(x - mean, (y - x) - (y - x).mean(0), rcond=1e-3)
    linear = np.eye(3) + change.T
    return np.column_stack([linear, y.mean(0) - linear @ mean])


def mapped(image: U8, tone: F64) -> F32:
    """uint8 H×W×3 → float32 H×W×3 of about 0..1 after `tone_map`'s map; not clipped."""
    x = image.reshape(-1, 3).astype(np.float32) / 255
    return (x @ tone[:, :3].T.astype(np.float32) + tone[:, 3].astype(np.float32)).reshape(image.shape)


# --- the finest octaves ----------------------------------------------------------------------------------------------


def octaves(image: F32, count: int = 2) -> list[F32]:
    """The finest octaves of the luma of a float H×W×3 image, the finest first: bands of a Laplacian pyramid.

    Burt and Adelson, "The Laplacian pyramid as a compact image code", 1983, with OpenCV's 5-tap filter. Each is half
    as large as the one before.
    """
    level, bands = image @ LUMA.astype(np.float32), list[F32]()
    for _ in range(count):
        small = cv2.pyrDown(level)
        bands.append(np.asarray(level - cv2.pyrUp(small, dstsize=level.shape[::-1]), np.float32))
        level = small
    return bands


@dataclass
class Octaves:
    """How much of the truth's finest octaves a film holds, summed over the frames that it was shown.

    *Found* is the projection on the truth, ⟨shown, truth⟩ / ⟨truth, truth⟩ in a band: 1 for the truth, and noise adds
    nothing to it. *Energy* is ⟨shown, shown⟩ / ⟨truth, truth⟩: noise and blocks add to it. *Lattice* is the highest
    peak of the finest octave's spectrum at periods of 2, 4 and 8 pixels, along rows, columns or both, divided by the
    median of its ring: networks that fold pixels into channels can answer with dots on such a lattice.
    """

    mask: F32
    count: int = 2

    def __post_init__(self) -> None:
        self._sums, self._power = np.zeros((self.count, 3)), np.zeros(0)

    def add(self, shown: F32, truth: F32) -> None:
        """One frame: float H×W×3 each."""
        weight = self.mask
        pairs = zip(octaves(shown, self.count), octaves(truth, self.count), strict=True)
        for k, (a, b) in enumerate(pairs):
            if k:
                weight = cv2.pyrDown(weight)
            self._sums[k] += [float((p * q * weight).sum()) for p, q in ((a, b), (a, a), (b, b))]
            if not k:
                power = np.abs(np.fft.fft2(a * weight)) ** 2
                self._power = self._power + power if self._power.size else power

    def summary(self) -> dict[str, float]:
        """``lattice``; ``found0``, ``energy0`` of the finest octave, ``found1`` …"""
        out = {"lattice": lattice(self._power)}
        for k, (both, shown, truth) in enumerate(self._sums):
            out |= {f"found{k}": both / max(truth, 1e-12), f"energy{k}": shown / max(truth, 1e-12)}
        return out


def lattice(power: npt.NDArray[np.floating[Any]]) -> float:
    """The highest of the peaks at multiples of 1/8 cycle/pixel in a power spectrum H×W (as ``np.fft.fft2`` orders it),
    by the median of all frequencies as far from 0."""
    height, width = power.shape
    y, x = np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None]
    radius = np.hypot(x, y)
    peaks: list[float] = []
    for j in range(-4, 4):
        for i in range(5):
            row, column = round(j * height / 8), round(i * width / 8)
            if (i, j) == (0, 0) or (i == 4 and j < 0):
                continue
            near = power[np.ix_(np.arange(row - 1, row + 2) % height, np.arange(column - 1, column + 2) % width)]
            ring = np.abs(radius - np.hypot(i, j) / 8) < 0.02
            peaks.append(float(near.max() / max(float(np.median(power[ring])), 1e-12)))
    return max(peaks)
