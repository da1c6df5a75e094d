"""Glasses, make-up and hair over the forehead, drawn on the faces of a clip: what a person may wear on another day.

They are drawn once in canonical space (512×512) and laid over each frame by the face's similarity, so that they move
with the head. They turn with it only in the picture's plane, and cover what is before the face.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from training.crop_space import F64, TEMPLATE_512, U8

_K = 4
"""Samples of the drawing to a canonical pixel, in each direction."""
_EYES, _MOUTH = TEMPLATE_512[:2], TEMPLATE_512[3:].mean(0)
Drawing = tuple[Any, Any]
"""Float32 512×512×3, RGB of 0…1, and how much of it covers what is there, 512×512."""


def _flat(colour: tuple[int, int, int]) -> Any:
    return np.full((512, 512, 3), np.array(colour, np.float32) / 255, np.float32)


def _shrunk(mask: Any) -> Any:
    return cv2.resize(mask, (512, 512), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def _blob(x: float, y: float, a: float, b: float, soft: float) -> Any:
    """An ellipse of half axes a, b, with a soft edge."""
    mask = np.zeros((512 * _K, 512 * _K), np.uint8)
    centre, axes = (round(x * _K), round(y * _K)), (round(a * _K), round(b * _K))
    cv2.ellipse(mask, centre, axes, 0, 0, 360, 255, -1)
    return cv2.GaussianBlur(_shrunk(mask), (0, 0), soft)


def glasses() -> Drawing:
    """Dark rims, a bridge and temples."""
    mask = np.zeros((512 * _K, 512 * _K), np.uint8)

    def line(*points: tuple[float, float]) -> None:
        cv2.polylines(mask, [np.rint(np.array(points) * _K).astype(np.int32)], False, 255, 7 * _K, cv2.LINE_AA)

    for (x, y), side in zip(_EYES, (-1, 1), strict=True):
        cv2.ellipse(mask, (round(x * _K), round((y + 8) * _K)), (50 * _K, 40 * _K), 0, 0, 360, 255, 7 * _K, cv2.LINE_AA)
        line((x + side * 50, y), (x + side * 118, y - 8))
    (x0, y0), (x1, _) = _EYES
    line((x0 + 49, y0), ((x0 + x1) / 2, y0 - 10), (x1 - 49, y0))
    return _flat((28, 24, 22)), 0.95 * _shrunk(mask)


def make_up() -> Drawing:
    """Red lips, dark lids and some red on the cheeks."""
    x, y = _MOUTH
    parts = [
        (0.5 * _blob(x, y, 62, 20, 5), (150, 18, 40)),
        *((0.5 * _blob(x, y - 16, 42, 14, 6), (62, 36, 58)) for x, y in _EYES),
        *((0.25 * _blob(x, y + 95, 40, 28, 16), (190, 70, 70)) for x, y in _EYES + np.array([[-28, 0], [28, 0]])),
    ]
    masks = [mask for mask, _ in parts]
    colour = sum(mask[..., None] * _flat(c) for mask, c in parts)
    return colour / np.maximum(sum(masks), 1e-6)[..., None], np.maximum.reduce(masks)


def hair() -> Drawing:
    """A dark fringe of strands down to the brows."""
    r = np.random.default_rng(3)
    mask, colour = np.zeros((512 * _K, 512 * _K), np.uint8), np.zeros((512, 512, 3), np.float32)
    for x in np.sort(r.uniform(110, 402, 220)):
        out = abs(x - 256) / 146
        begin, end, bend = 30 + 70 * out**3, 165 + r.normal(0, 16) + 40 * out, r.normal(0, 8)
        path = [(x + bend * t * t, begin + (end - begin) * t) for t in np.linspace(0, 1, 9)]
        points = [np.rint(np.array(path) * _K).astype(np.int32)]
        cv2.polylines(mask, points, False, 255, 3 * _K, cv2.LINE_AA)
        shade = float(np.exp(r.normal(0, 0.35)))
        small = [np.rint(np.array(path)).astype(np.int32)]
        cv2.polylines(colour, small, False, tuple(shade * c / 255 for c in (60, 42, 32)), 4, cv2.LINE_AA)
    return colour, 0.97 * _shrunk(mask)


LOOKS: dict[str, Callable[[], Drawing]] = {"glasses": glasses, "make-up": make_up, "hair": hair}


def worn(frame: U8, matrix: F64, drawing: Drawing) -> U8:
    """The frame with a drawing on the face.

    Args:
        frame: uint8 H×W×3 RGB.
        matrix: canonical 512 → frame, 2×3, corner convention.
    """
    centred = matrix.copy()
    centred[:, 2] += (matrix[:, 0] + matrix[:, 1]) / 2 - 0.5
    size, scale = frame.shape[1::-1], float(np.hypot(*matrix[:, 0]))

    def laid(part: Any) -> Any:
        if scale < 0.95:
            part = cv2.GaussianBlur(part, (0, 0), 0.42 * float(np.sqrt(1 / scale**2 - 1)))
        return cv2.warpAffine(part, centred, size, flags=cv2.INTER_LINEAR)

    colour, cover = drawing
    over, cover = laid(colour * cover[..., None]), laid(cover)[..., None]
    return np.clip(np.rint(frame * (1 - cover) + 255 * over), 0, 255).astype(np.uint8)
