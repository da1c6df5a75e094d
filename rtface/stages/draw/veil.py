"""Makes faces unrecognisable by a blur or mosaic under a soft ellipse."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from rtface.frame import Box, Face, Float, Float32
from rtface.geometry.alignment import TEMPLATE_SIZE, crop_matrix
from rtface.geometry.planes import Layout, Samples
from rtface.geometry.transforms import apply, bounds, clip_box, compose, invert, scaling, to_cv2, translation
from rtface.stages.draw.blend import blend, native

INNER = 0.85
"""Share of an ellipse's radius inside which the mask is 1; beyond it, the mask falls to 0."""
_SIDE = 256  # side of the square mask of the unit disc
_MESH_TOP = 0.22  # the forehead above the mesh, up to the hair, as a share of the mesh's height


def display_from_face(face: Face) -> Float:
    """Returns the 2×3 similarity from the 512×512 face template to display space. It follows position, size and roll.

    In the template, the eyes are near (193, 240) and (319, 240), the nose tip near (257, 314) and the mouth
    corners near (201, 371) and (313, 371).
    """
    return invert(crop_matrix(face, TEMPLATE_SIZE))


def covering(face: Face, margin: float = 0.2) -> Float:
    """Returns the 2×3 matrix from the unit disc to a covering ellipse. The ellipse is in display space; its inner part
    (`INNER`) covers the whole face.

    Args:
        face: face whose mesh is covered up to the hair and the ears; without a mesh, its box.
        margin: enlargement of the ellipse, as a share of its radius.
    """
    if face.mesh is not None:
        square = crop_matrix(face, TEMPLATE_SIZE)
        points, back = apply(square, face.mesh[:, :2]), invert(square)
    else:
        points, back = face.box.reshape(2, 2), translation(0.0, 0.0)
    (x0, y0), (x1, y1) = points.min(0), points.max(0)
    y0 -= _MESH_TOP * (y1 - y0) if face.mesh is not None else 0.1 * (y1 - y0)
    # An ellipse inscribed in the box would cut off brow and jaw, so it is enlarged by 10 %.
    factor = 1.1 * (1.0 + margin) / INNER
    return compose(
        back,
        translation((x0 + x1) / 2, (y0 + y1) / 2),
        scaling(max(factor * (x1 - x0) / 2, 1.0), max(factor * (y1 - y0) / 2, 1.0)),
    )


@lru_cache(maxsize=1)
def _disc() -> Float32:
    """Returns a mask of the unit disc. It is 1 inside `INNER`, and falls smoothly to 0 at the edge. Float32, `_SIDE`
    × `_SIDE`, 0 on its border."""
    axis = (np.arange(_SIDE) + 0.5) / (_SIDE / 2 - 1) - _SIDE / (_SIDE - 2)
    t = np.clip((1.0 - np.hypot(axis[:, None], axis[None])) / (1.0 - INNER), 0.0, 1.0)
    return (t * t * (3 - 2 * t)).astype(np.float32)


def veiled(disc: Float, shape: tuple[int, ...]) -> tuple[Box, Float32] | None:
    """Returns an ellipse's box in a plane, and its soft mask. `disc` maps the unit disc to the plane. None if the
    ellipse lies outside."""
    box = clip_box(bounds(disc, (-1.0, -1.0, 1.0, 1.0), margin=1.0), shape[1], shape[0])
    if box[2] <= box[0] or box[3] <= box[1]:
        return None
    half, w, h = _SIDE / 2, box[2] - box[0], box[3] - box[1]
    # The mask is smooth, so on large faces every fourth sample suffices, which takes a quarter of the time.
    step = 4 if min(w, h) > 128 else 1
    wide, high = -(-w // step), -(-h // step)
    to_box = compose(
        scaling(1 / step, 1 / step),
        translation(-box[0], -box[1]),
        disc,
        scaling(1 / (half - 1), 1 / (half - 1)),
        translation(-half, -half),
    )
    mask: Any = cv2.warpAffine(
        _disc(), to_cv2(to_box), (wide, high), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0.0
    )
    if step > 1:
        mask = np.ascontiguousarray(cv2.resize(mask, (wide * step, high * step))[:h, :w])
    return box, mask


def blur(view: Samples, layout: Layout, box: Box, mask: Float32, sigma: tuple[float, float]) -> None:
    """Applies a Gaussian blur under a mask, in place. `sigma`: standard deviation in samples (x, y)."""
    part = native(view, box, layout)
    h, w = part.shape
    # Blurs a reduced image (standard deviation of about two samples), which is faster and looks the same. Integer
    # factors are ten times as fast as others.
    nx, ny = (max(1, min(int(s / 2), side)) for s, side in zip(sigma, (w, h), strict=True))
    part = cv2.copyMakeBorder(part, 0, -h % ny, 0, -w % nx, cv2.BORDER_REPLICATE)
    high, wide = part.shape
    small: Any = cv2.resize(part, (wide // nx, high // ny), interpolation=cv2.INTER_AREA).astype(np.float32)
    small = cv2.GaussianBlur(
        small, (0, 0), max(sigma[0] / nx, 0.3), sigmaY=max(sigma[1] / ny, 0.3), borderType=cv2.BORDER_REPLICATE
    )
    _cover(view, layout, box, mask, cv2.resize(small, (wide, high), interpolation=cv2.INTER_LINEAR)[:h, :w])


def pixelate(view: Samples, layout: Layout, box: Box, mask: Float32, cell: tuple[int, int]) -> None:
    """Draws a mosaic under the mask of a box, in place. `cell`: size in samples (x, y); cells start at its
    multiples."""
    cx, cy = cell
    x0, y0 = box[0] // cx * cx, box[1] // cy * cy
    nx, ny = -(-(box[2] - x0) // cx), -(-(box[3] - y0) // cy)
    h, w = view.shape
    area = (x0, y0, min(x0 + nx * cx, w), min(y0 + ny * cy, h))
    part = native(view, area, layout)
    part = cv2.copyMakeBorder(part, 0, ny * cy - part.shape[0], 0, nx * cx - part.shape[1], cv2.BORDER_REPLICATE)
    small = cv2.resize(part, (nx, ny), interpolation=cv2.INTER_AREA).astype(np.float32)
    large: Any = cv2.resize(small, (nx * cx, ny * cy), interpolation=cv2.INTER_NEAREST)
    _cover(view, layout, box, mask, large[box[1] - y0 : box[3] - y0, box[0] - x0 : box[2] - x0])


def _cover(view: Samples, layout: Layout, box: Box, mask: Float32, veil: Any) -> None:
    value: Any = cv2.multiply(np.ascontiguousarray(veil), mask)
    blend(view, box, value, np.subtract(np.float32(1.0), mask, dtype=np.float32), layout)
