"""Fills holes smoothly, from coarse to fine, so that the Laplacian of the filled picture is small (biharmonic)."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from training.crop_space import F32

STEPS = 64
"""Conjugate-gradient steps per size."""
CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)


class Laplacian:
    """The five-point Laplacian at the holes of a mirrored picture and next to them, and its square at the holes."""

    def __init__(self, hole: npt.NDArray[np.bool_]) -> None:
        wide = np.pad(hole, 2)
        near = cv2.dilate(wide.astype(np.uint8), CROSS) > 0
        near &= np.pad(np.ones_like(hole), 2)
        mirror = np.pad(np.arange(hole.size, dtype=np.int32).reshape(hole.shape), 2, mode="symmetric").ravel()
        flat, stride = np.flatnonzero(near), wide.shape[1]
        self.near = mirror[flat]
        self.around = mirror[flat[:, None] + np.array([-stride, -1, 1, stride])].T.copy()
        self.holes = np.flatnonzero(hole)
        place = np.full(hole.size, len(self.near), np.int32)
        place[self.near] = np.arange(len(self.near))
        self.centre = place[self.holes]
        row, column = np.divmod(self.holes, hole.shape[1])
        beside = 2 + row[:, None] + np.array([-1, 0, 0, 1]), 2 + column[:, None] + np.array([0, -1, 1, 0])
        self.beside = place[mirror.reshape(wide.shape)[beside]].T.copy()

    def square(self, x: F32) -> F32:
        """Applies the Laplacian twice to pixels N×3. Returns values of the holes."""
        y = -4 * x.take(self.near, 0)
        for k in self.around:
            y += x.take(k, 0)
        z = -4 * y.take(self.centre, 0)
        for k in self.beside:
            z += y.take(k, 0)
        return z


def smooth_fill(picture: F32, hole: npt.NDArray[np.bool_], steps: int = STEPS) -> F32:
    """Fills the holes of a float32 picture H×W×3. Outside the holes, nothing changes."""
    height, width = hole.shape
    if not hole.any() or hole.all():
        return picture
    seen = (~hole).astype(np.float32)
    half = ((width + 1) // 2, (height + 1) // 2)
    share = cv2.resize(seen, half, interpolation=cv2.INTER_AREA)[..., None]
    mean = cv2.resize(picture * seen[..., None], half, interpolation=cv2.INTER_AREA) / np.maximum(share, 1e-3)
    coarse = smooth_fill(np.asarray(mean, np.float32), share[..., 0] < 0.2, steps)
    larger = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    twice = Laplacian(hole)
    x = np.where(hole[..., None], larger, picture).reshape(-1, 3)
    residual = -twice.square(x)
    change, direction, power = np.zeros_like(residual), residual, np.einsum("nc,nc->c", residual, residual)
    pixels = np.zeros_like(x)
    for _ in range(steps):
        pixels[twice.holes] = direction
        image = twice.square(pixels)
        step = power / (np.einsum("nc,nc->c", direction, image) + 1e-12)
        change += step * direction
        residual = residual - step * image
        before, power = power, np.einsum("nc,nc->c", residual, residual)
        direction = residual + power / (before + 1e-12) * direction
    x[twice.holes] += change
    return x.reshape(picture.shape)
