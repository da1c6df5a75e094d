"""Metrics of a restored face without torch: PSNR, an affine RGB map that removes differences in tone, and what is found
of the finest octaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from training.crop_space import F32, F64, U8

LUMA = np.array([0.299, 0.587, 0.114])


def weighted(z: F32, mask: F32) -> float:
    """Mean of an S×S×3 picture, weighted with the mask."""
    return float((z * mask[..., None]).mean() / mask.mean())


def psnr(a: F32, b: F32, mask: F32) -> float:
    """dB between two S×S×3 pictures of 0..1, weighted with the mask."""
    return float(-10 * np.log10(max(weighted((a - b) ** 2, mask), 1e-10)))


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
    nothing to it. *Energy* is ⟨shown, shown⟩ / ⟨truth, truth⟩: noise and blocks add to it.
    """

    mask: F32
    count: int = 2

    def __post_init__(self) -> None:
        self._sums = np.zeros((self.count, 3))

    def add(self, shown: F32, truth: F32) -> None:
        """One frame: float H×W×3 each."""
        weight = self.mask
        pairs = zip(octaves(shown, self.count), octaves(truth, self.count), strict=True)
        for k, (a, b) in enumerate(pairs):
            if k:
                weight = cv2.pyrDown(weight)
            self._sums[k] += [float((p * q * weight).sum()) for p, q in ((a, b), (a, a), (b, b))]

    def summary(self) -> dict[str, float]:
        """``found0``, ``energy0`` of the finest octave, ``found1`` …"""
        out: dict[str, float] = {}
        for k, (both, shown, truth) in enumerate(self._sums):
            out |= {f"found{k}": both / max(truth, 1e-12), f"energy{k}": shown / max(truth, 1e-12)}
        return out


# --- tables ----------------------------------------------------------------------------------------------------------

Column = tuple[str, int, *tuple[tuple[str, str], ...]]
"""Its head, its width, and pairs of a figure's name and form."""


def table_lines(corner: str, columns: Sequence[Column], rows: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Markdown, one line for each of ``rows``; columns without any figure are left out."""
    shown = [c for c in columns if any(c[2][0] in row for row in rows.values())]
    first = max(len(corner), *map(len, rows))
    lines = [f"| {corner:<{first}} | " + " | ".join(f"{c[0]:>{c[1]}}" for c in shown) + " |"]
    lines.append(f"| {'-' * first} | " + " | ".join("-" * (c[1] - 1) + ":" for c in shown) + " |")
    for name, row in rows.items():
        cells = ["".join(form.format(row[key]) for key, form in parts if key in row) for _, _, *parts in shown]
        texts = (f"{cell:>{column[1]}}" for cell, column in zip(cells, shown, strict=True))
        lines.append(f"| {name:<{first}} | " + " | ".join(texts) + " |")
    return lines
