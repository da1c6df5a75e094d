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


def draw(target: Float, size: int, parts: tuple[tuple[Skin, Triangles], ...]) -> tuple[Bytes, Bytes]:
    """Draws skins on a mesh. Nearer triangles hide farther ones.

    Args:
        target: mesh in pixels of the result, (478, 3); z points away from the camera.
        size: side S of the result.
        parts: each skin, with the triangles that it covers.

    Returns:
        Image, uint8 S×S×3, and mask of the drawn area, uint8 S×S, 0 or 255.
    """
    triangles = np.concatenate([t for _, t in parts])
    coefficients = np.concatenate([_affine_maps(target, skin.mesh, t) for skin, t in parts])
    visible = _rasterise(target, triangles, size)
    drawn = visible >= 0
    y, x = np.nonzero(drawn)
    visible_at = visible[drawn]
    a = coefficients[visible_at]
    source_x, source_y = (a[:, k] * x + a[:, k + 1] * y + a[:, k + 2] for k in (0, 3))
    out = np.zeros((size, size, 3), np.uint8)
    first_triangle = 0
    for skin, skin_triangles in parts:
        from_skin = (visible_at >= first_triangle) & (visible_at < first_triangle + len(skin_triangles))
        first_triangle += len(skin_triangles)
        map_x, map_y = np.full((size, size), -1, np.float32), np.full((size, size), -1, np.float32)
        map_x[y[from_skin], x[from_skin]], map_y[y[from_skin], x[from_skin]] = source_x[from_skin], source_y[from_skin]
        if from_skin.any():
            warped: Any = cv2.remap(skin.pixels, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            out[y[from_skin], x[from_skin]] = warped[y[from_skin], x[from_skin]]
    return out, drawn.view(np.uint8) * np.uint8(255)


def _rasterise(target: Float, triangles: Triangles, size: int) -> Any:
    """Returns an index map (int32 S×S): the visible triangle at each pixel, or -1 if no triangle covers it."""
    visible = np.full((size, size), -1, np.int32)
    corners = np.rint(target[triangles][:, :, :2] * 16.0).astype(np.int32)
    for k in np.argsort(-target[triangles][:, :, 2].mean(1)):  # the farthest first
        cv2.fillConvexPoly(visible, corners[k], int(k), shift=4)
    return visible


def _affine_maps(target: Float, mesh: Float, triangles: Triangles) -> Float32:
    """Returns each triangle's affine map from result to skin pixels, (T, 6)."""
    corners = np.concatenate([target[triangles][:, :, :2], np.ones((len(triangles), 3, 1))], 2)
    # A triangle that is seen edge-on has no map. It covers no pixel, so any solvable matrix will do.
    edge_on = np.abs(np.linalg.det(corners)) < 1e-6
    corners[edge_on] = np.array([[0.0, 0, 1], [1, 0, 1], [0, 1, 1]])
    return np.linalg.solve(corners, mesh[triangles][:, :, :2]).transpose(0, 2, 1).reshape(-1, 6).astype(np.float32)
