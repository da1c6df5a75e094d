"""Weights and crops that depend on names, shapes and a seed only, so that two implementations can be given the same."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np


def drawn(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A parameter, float32. Of matrices and convolutions: normal, so that they keep a signal's variance; of a
    dictionary (``embedding``): unit normal; of norms: about 1; of biases: about 0."""
    values = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape, dtype=np.float32)
    if len(shape) < 2:
        return values * np.float32(0.1) + np.float32(name.endswith("weight"))
    if "embedding" in name:
        return values
    return values / np.float32(np.prod(shape[1:]) ** 0.5)


def drawn_state(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """``drawn`` for every name."""
    return {name: drawn(name, shape) for name, shape in shapes.items()}


def drawn_crops(count: int, size: int) -> np.ndarray:
    """Noise over a gradient, float32 N×3×size×size, -1…1; the first crop does not depend on the count."""
    rise = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    noise = np.random.default_rng(size).uniform(-0.5, 0.5, (count, 3, size, size)).astype(np.float32)
    return noise + rise[None, None, :, None] * np.array([1, 0, -1], np.float32)[None, :, None, None]
