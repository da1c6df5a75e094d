"""Pictures with a known face at a known place, and a view of an RGB array, without the code under test."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from skimage import data

FACE_WIDTH = 90.0
"""Width of the astronaut's mesh in her own picture, and the middle of her face there."""
FACE_CENTRE = (225.5, 124.8)


@cache
def astronaut() -> np.ndarray:
    return np.ascontiguousarray(data.astronaut())


class ArrayView:
    """`rtface.protocols.View` of uint8 RGB h×w×3; counts its crops and large thumbnails as `looks`."""

    def __init__(self, rgb: np.ndarray) -> None:
        self.rgb = rgb
        self.height, self.width = (float(n) for n in rgb.shape[:2])
        self.looks = 0

    def thumbnail(self, max_side: int) -> tuple[np.ndarray, float, float]:
        self.looks += max_side > 100
        h, w = self.rgb.shape[:2]
        scale = min(1.0, max_side / max(h, w))
        small = cv2.resize(self.rgb, (max(1, round(w * scale)), max(1, round(h * scale))), interpolation=cv2.INTER_AREA)
        return small, w / small.shape[1], h / small.shape[0]

    def crop(self, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        self.looks += 1
        return warp(self.rgb, matrix, size)

    def luma(self, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        return cv2.cvtColor(self.crop(matrix, size), cv2.COLOR_RGB2GRAY)


def warp(rgb: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`matrix` in the corner convention; shrinks by area first."""
    m = np.asarray(matrix, float).copy()
    scale = np.sqrt(abs(np.linalg.det(m[:, :2])))
    if scale < 0.7:
        h, w = rgb.shape[:2]
        w2, h2 = max(1, round(w * scale)), max(1, round(h * scale))
        rgb = cv2.resize(rgb, (w2, h2), interpolation=cv2.INTER_AREA)
        m[:, 0] *= w / w2
        m[:, 1] *= h / h2
    m[:, 2] += m[:, :2] @ (0.5, 0.5) - 0.5
    return cv2.warpAffine(rgb, m, size, flags=cv2.INTER_LINEAR)


@cache
def background(width: int, height: int, seed: int = 0) -> np.ndarray:
    """Coloured clouds; uint8."""
    rng = np.random.default_rng(seed)
    out = np.full((height, width, 3), 20, np.float32)
    for cell in (8, 32, 128):
        grid = rng.random((max(2, height // cell), max(2, width // cell), 3)).astype(np.float32)
        out += 60 * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    picture = np.clip(out, 0, 255).astype(np.uint8)
    picture.flags.writeable = False  # all get the same
    return picture


def paste(
    under: np.ndarray,
    face_width: float,
    x: float,
    y: float,
    *,
    tilt: float = 0.0,
    mirror: bool = False,
    tint: tuple[float, float, float] = (1, 1, 1),
) -> np.ndarray:
    """The astronaut's head on a picture: face `face_width` pixels wide, its middle at (x, y), turned by degrees."""
    picture = astronaut()[:, ::-1] if mirror else astronaut()
    cx, cy = (512 - FACE_CENTRE[0] if mirror else FACE_CENTRE[0]), FACE_CENTRE[1]
    a, s = np.radians(tilt), face_width / FACE_WIDTH
    c, n = np.cos(a) * s, np.sin(a) * s
    matrix = np.array([[c, -n, x - c * cx + n * cy], [n, c, y - n * cx - c * cy]])
    oval = np.zeros((512, 512), np.float32)
    cv2.ellipse(oval, (int(cx), int(cy) - 14), (70, 88), 0, 0, 360, 1.0, -1)
    oval = cv2.GaussianBlur(oval, (0, 0), 4)
    size = (under.shape[1], under.shape[0])
    mask = warp(oval, matrix, size)[..., None]
    head = warp(np.ascontiguousarray(picture), matrix, size)
    left, top, w, h = cv2.boundingRect((mask > 0).astype(np.uint8))
    part, out = np.s_[top : top + h, left : left + w], under.copy()
    tinted = np.clip(head[part] * np.array(tint, np.float32), 0, 255)
    out[part] = (under[part] * (1 - mask[part]) + tinted * mask[part]).astype(np.uint8)
    return out


def middle(box: np.ndarray) -> np.ndarray:
    return (box[:2] + box[2:]) / 2
