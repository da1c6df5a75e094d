"""One function per degradation, each with levels that rise, for pictures of uint8 H×W×3."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from rtface.frame import Bytes
from tests.analysis.conftest import CORE


def noise(picture: Bytes, sigma: float) -> Bytes:
    grain = np.random.default_rng(3).normal(0, sigma, picture.shape)
    return np.clip(np.rint(picture + grain), 0, 255).astype(np.uint8)


def defocus(picture: Bytes, sigma: float) -> Bytes:
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma), np.uint8)


def upscale(picture: Bytes, factor: float) -> Bytes:
    h, w = picture.shape[:2]
    small = cv2.resize(picture, (round(w / factor), round(h / factor)), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (w, h), interpolation=cv2.INTER_CUBIC), np.uint8)


def motion(picture: Bytes, length: float, angle: float = 30.0) -> Bytes:
    side = 41
    kernel = np.zeros((side, side), np.float32)
    for t in np.linspace(-length / 2, length / 2, 400):
        x, y = side // 2 + t * np.cos(np.radians(angle)), side // 2 + t * np.sin(np.radians(angle))
        i, j, a, b = int(y), int(x), y % 1, x % 1
        kernel[i : i + 2, j : j + 2] += np.outer([1 - a, a], [1 - b, b])
    return np.asarray(cv2.filter2D(picture, -1, kernel / kernel.sum()), np.uint8)


def jpeg(picture: Bytes, badness: float) -> Bytes:
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, round(100 - badness)])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)


def mosaic(picture: Bytes, factor: float) -> Bytes:
    h, w = picture.shape[:2]
    small = cv2.resize(picture, (round(w / factor), round(h / factor)), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (w, h), interpolation=cv2.INTER_NEAREST), np.uint8)


def hole(picture: Bytes, share: float) -> Bytes:
    out = picture.copy()
    core = out[CORE]
    side = round(np.sqrt(share * core.shape[0] * core.shape[1]))
    y, x = (core.shape[0] - side) // 2, (core.shape[1] - side) // 2
    core[y : y + side, x : x + side] = (20, 200, 40)
    return out


def gain(picture: Bytes, factor: float) -> Bytes:
    return np.clip(np.rint(picture * factor), 0, 255).astype(np.uint8)


def fade(picture: Bytes, black: float) -> Bytes:
    """Blacks lifted to this share of white."""
    return np.clip(np.rint(255 * black + picture * (0.9 - black)), 0, 255).astype(np.uint8)


Levels = tuple[Callable[[Bytes, float], Bytes], tuple[float, ...]]

DEGRADATIONS: dict[str, Levels] = {
    "noise": (noise, (3, 6, 12, 24)),
    "low_resolution": (upscale, (1.5, 2, 3, 5)),
    "motion_blur": (motion, (5, 8, 13, 20)),
    "compression": (jpeg, (60, 75, 85, 92)),
    "pixelation": (mosaic, (2, 3, 4, 8)),
    "missing": (hole, (0.03, 0.08, 0.2)),
    "under_exposure": (gain, (0.55, 0.4, 0.3, 0.2)),
    "over_exposure": (gain, (1.2, 1.5, 2.0)),
    "low_contrast": (fade, (0.2, 0.3, 0.4)),
}
