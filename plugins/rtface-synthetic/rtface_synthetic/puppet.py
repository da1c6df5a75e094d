"""One face's skin on another face's shape: a warp, triangle by triangle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from rtface.frame import Bytes, Float, Float32
from rtface_synthetic.topology import Triangles


@dataclass(frozen=True, slots=True)
class Skin:
    """An image, and where the mesh lies on it.

    Attributes:
        pixels: uint8 h×w×3.
        mesh: (478, 2 or more), its pixels.
    """

    pixels: Bytes
    mesh: Float


def draw(onto: Float, size: int, parts: tuple[tuple[Skin, Triangles], ...]) -> tuple[Bytes, Bytes]:
    """Skins drawn on a mesh; of parts that hide each other the nearest is seen.

    Args:
        onto: (478, 3), pixels of the result, z away from the camera.
        size: S.
        parts: which triangles are covered with which skin.

    Returns:
        uint8 S×S×3, and where anything was drawn: uint8 S×S, 0 or 255.
    """
    triangles = np.concatenate([t for _, t in parts])
    coefficients = np.concatenate([_maps(onto, skin.mesh, t) for skin, t in parts])
    owner = _rasterise(onto, triangles, size)
    drawn = owner >= 0
    y, x = np.nonzero(drawn)
    of = owner[drawn]
    a = coefficients[of]
    where_x, where_y = (a[:, k] * x + a[:, k + 1] * y + a[:, k + 2] for k in (0, 3))
    out = np.zeros((size, size, 3), np.uint8)
    first = 0
    for skin, own in parts:
        mine = (of >= first) & (of < first + len(own))
        first += len(own)
        map_x, map_y = np.full((size, size), -1, np.float32), np.full((size, size), -1, np.float32)
        map_x[y[mine], x[mine]], map_y[y[mine], x[mine]] = where_x[mine], where_y[mine]
        if mine.any():
            warped: Any = cv2.remap(skin.pixels, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            out[y[mine], x[mine]] = warped[y[mine], x[mine]]
    return out, drawn.view(np.uint8) * np.uint8(255)


def _rasterise(onto: Float, triangles: Triangles, size: int) -> Any:
    """Which triangle is seen at each pixel, int32 S×S; -1 for none."""
    owner = np.full((size, size), -1, np.int32)
    corners = np.rint(onto[triangles][:, :, :2] * 16.0).astype(np.int32)
    for k in np.argsort(-onto[triangles][:, :, 2].mean(1)):  # the farthest first
        cv2.fillConvexPoly(owner, corners[k], int(k), shift=4)
    return owner


def _maps(onto: Float, mesh: Float, triangles: Triangles) -> Float32:
    """For each triangle the affine map from the result's pixels to the skin's, (T, 6)."""
    to = np.concatenate([onto[triangles][:, :, :2], np.ones((len(triangles), 3, 1))], 2)
    # A triangle seen from the edge has no map; it covers no pixel either, but its matrix must be solvable.
    flat = np.abs(np.linalg.det(to)) < 1e-6
    to[flat] = np.array([[0.0, 0, 1], [1, 0, 1], [0, 1, 1]])
    return np.linalg.solve(to, mesh[triangles][:, :, :2]).transpose(0, 2, 1).reshape(-1, 6).astype(np.float32)
