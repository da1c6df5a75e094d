"""Canonical face space: template, region of interest, oval, and cutting of crops.

Unless stated otherwise, constants are fractions of the crop's side ``S``, so that they apply at 256 and 512 px.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from rtface.correct.mask import face_mask
from rtface.frame import Face
from rtface.geometry.alignment import crop_matrix

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

TEMPLATE_512 = np.array(
    [
        [192.98138, 239.94708],
        [318.90277, 240.1936],
        [256.63416, 314.01935],
        [201.26117, 371.41043],
        [313.08905, 371.15118],
    ],
    np.float64,
)
"""FFHQ template at 512 px: left eye, right eye, nose, left and right mouth corner; 5×2, pixels (x, y)."""

ROI_256 = (40, 56, 176, 192)
"""x, y, width, height of the region that networks process, at 256 px. The region contains the feathered oval and is
aligned to the 8-px cells of the colour lock's 32×32 grid. Outside the region, ``restored`` equals the crop."""


def roi(size: int) -> tuple[int, int, int, int]:
    """Returns the region of interest in a ``size``-px crop: x, y, width, height. ``size`` is a multiple of 256."""
    k = size // 256
    if k * 256 != size:
        raise ValueError(f"crop size {size} is not a multiple of 256")
    x, y, w, h = ROI_256
    return x * k, y * k, w * k, h * k


def oval_mask(size: int) -> F32:
    """Returns the feathered face oval of runs: float32 ``size``×``size``, 0..1."""
    return face_mask(size).copy()


def before_ground(picture: U8, ground: U8, centre: tuple[float, float], axes: tuple[float, float],
                  edge: tuple[float, float]) -> U8:  # fmt: skip
    """Replaces the background of a head in a canonical picture, uint8 S×S×3.

    Args:
        centre: centre of an ellipse around the head, in fractions of the picture's side.
        axes: half axes of the ellipse, in the same unit.
        edge: inner and outer radius, relative to the ellipse, between which the picture fades into the background.
    """
    y, x = (np.mgrid[: len(picture), : len(picture)] + 0.5) / len(picture)
    radius = np.hypot((x - centre[0]) / axes[0], (y - centre[1]) / axes[1])
    alpha = np.clip((edge[1] - radius) / (edge[1] - edge[0]), 0, 1)[..., None]
    return np.asarray(np.rint(picture * alpha + ground * (1 - alpha)), np.uint8)


def frame_matrix(face: Face) -> F64:
    """Returns the 2×3 matrix from the 512-px canonical crop to the frame. Pixel centres are at integers."""
    m = np.asarray(cv2.invertAffineTransform(np.asarray(crop_matrix(face, 512), np.float64)), np.float64)
    m[:, 2] += (m[:, 0] + m[:, 1]) / 2 - 0.5
    return m


def similarity(scale: float, angle: float, centre: tuple[float, float], size: int) -> F64:
    """Returns a 2×3 matrix from a ``size``-px canonical crop to the picture.

    The crop's centre maps to ``centre``. ``scale``: picture pixels per canonical pixel. ``angle``: in radians.
    """
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    h = (size - 1) / 2.0
    return np.array([[c, -s, centre[0] - c * h + s * h], [s, c, centre[1] - s * h - c * h]], np.float64)


def at(matrix: F64, size: int) -> F64:
    """Converts a 512-px crop's matrix to the matrix of a ``size``-px crop."""
    k = 512 / size
    m = matrix.copy()
    m[:, :2] *= k
    m[:, 2] += (matrix[:, 0] + matrix[:, 1]) * (k - 1) / 2
    return m


def cut(image: U8, matrix: F64, size: int, window: tuple[int, int, int, int] | None = None) -> U8:
    """Cuts a canonical crop, or a window of it, out of ``image``.

    ``image``: uint8 H×W×3. ``window``: x, y, w, h. ``matrix``: 2×3, from canonical to picture pixels. Returns uint8
    h×w×3. Before downscaling, a Gaussian blurs the picture, because ``warpAffine`` has no area filter.
    """
    x, y, w, h = window or (0, 0, size, size)
    m = matrix.copy()
    m[:, 2] += m[:, 0] * x + m[:, 1] * y
    scale = float(np.hypot(m[0, 0], m[1, 0]))
    corners = m[:, :2] @ np.array([[0, w, 0, w], [0, 0, h, h]], np.float64) + m[:, 2:]
    pad = 8 + int(scale * 4)
    x0, y0 = (int(max(0, v)) for v in np.floor(corners.min(1)) - pad)
    x1, y1 = (int(v) for v in np.ceil(corners.max(1)) + pad)
    part = image[y0:y1, x0:x1]
    if part.size == 0:
        return np.zeros((h, w, 3), np.uint8)
    m[0, 2] -= x0
    m[1, 2] -= y0
    if scale > 1.05:
        part = cv2.GaussianBlur(part, (0, 0), 0.42 * float(np.sqrt(scale * scale - 1.0)))
    flags = cv2.WARP_INVERSE_MAP | (cv2.INTER_LINEAR if scale > 1.05 else cv2.INTER_CUBIC)
    out = cv2.warpAffine(part, m, (w, h), flags=flags, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(out, np.uint8)


def whole(part: U8, size: int) -> U8:
    """Inserts the region of interest (uint8 h×w×3) into a black crop. Networks only read the region."""
    x, y, w, h = roi(size)
    crop = np.zeros((size, size, 3), np.uint8)
    crop[y : y + h, x : x + w] = part
    return crop


def planes(crop: U8) -> F32:
    """Converts uint8 S×S×3 to float32 3×S×S, 0..1."""
    return np.ascontiguousarray(crop.transpose(2, 0, 1)).astype(np.float32) / 255
