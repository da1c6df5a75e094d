"""Warps one face's skin to another face's shape, triangle by triangle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from rtface.frame import Bytes, Float, Float32
from rtface_synthetic.topology import Triangles


@dataclass(frozen=True, slots=True)
class Skin:
    """An image with its mesh.

    Attributes:
        pixels: image, uint8 h×w×3.
        mesh: points of the face, (478, 2 or more), in pixels of the image.
    """

    pixels: Bytes
    mesh: Float


def draw(onto: Float, size: int, parts: tuple[tuple[Skin, Triangles], ...]) -> tuple[Bytes, Bytes]:
    """Draws skins on a mesh; nearer triangles hide farther ones.

    Args:
        onto: mesh in pixels of the result, (478, 3); z points away from the camera.
        size: side S of the result.
        parts: skins with the triangles that they cover.

    Returns:
        uint8 S×S×3, and the drawn area: uint8 S×S, 0 or 255.
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
    for skin, covered in parts:
        here = (of >= first) & (of < first + len(covered))
        first += len(covered)
        map_x, map_y = np.full((size, size), -1, np.float32), np.full((size, size), -1, np.float32)
        map_x[y[here], x[here]], map_y[y[here], x[here]] = where_x[here], where_y[here]
        if here.any():
            warped: Any = cv2.remap(skin.pixels, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            out[y[here], x[here]] = warped[y[here], x[here]]
    return out, drawn.view(np.uint8) * np.uint8(255)


def _rasterise(onto: Float, triangles: Triangles, size: int) -> Any:
    """Returns the visible triangle of each pixel, int32 S×S; -1 for none."""
    owner = np.full((size, size), -1, np.int32)
    corners = np.rint(onto[triangles][:, :, :2] * 16.0).astype(np.int32)
    for k in np.argsort(-onto[triangles][:, :, 2].mean(1)):  # the farthest first
        cv2.fillConvexPoly(owner, corners[k], int(k), shift=4)
    return owner


def _maps(onto: Float, mesh: Float, triangles: Triangles) -> Float32:
    """Returns each triangle's affine map from result to skin pixels, (T, 6)."""
    to = np.concatenate([onto[triangles][:, :, :2], np.ones((len(triangles), 3, 1))], 2)
    # A triangle seen edge-on has no map and covers no pixel, but its matrix must be solvable.
    flat = np.abs(np.linalg.det(to)) < 1e-6
    to[flat] = np.array([[0.0, 0, 1], [1, 0, 1], [0, 1, 1]])
    return np.linalg.solve(to, mesh[triangles][:, :, :2]).transpose(0, 2, 1).reshape(-1, 6).astype(np.float32)
