"""BlazeFace, MediaPipe's face detector: anchors, decoding, non-maximum suppression.

Bazarevsky et al., "BlazeFace: Sub-millisecond Neural Face Detection on Mobile GPUs", 2019. The anchor layouts and
the blending of overlapping boxes follow MediaPipe's graphs ``face_detection_full_range`` and ``…_short_range``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from rtface.frame import Bytes, Float
from rtface.track.network import Network

Range = Literal["full", "short"]


@dataclass(frozen=True, slots=True)
class Detection:
    """One candidate, in the pixels of the picture that was searched.

    Attributes:
        box: x0, y0, x1, y1; forehead to chin, about as wide as the mesh's oval.
        points: eye left in the picture, eye right, nose tip, mouth centre, ear left, ear right; (6, 2).
        score: 0…1.
    """

    box: Float
    points: Float
    score: float

    @property
    def width(self) -> float:
        return float(self.box[2] - self.box[0])

    @property
    def centre(self) -> Float:
        return (self.box[:2] + self.box[2:]) / 2

    def moved(self, scale: float, x: float, y: float) -> Detection:
        """The same candidate in another picture: pixels times `scale`, then shifted."""
        return Detection(self.box * scale + (x, y, x, y), self.points * scale + (x, y), self.score)


def anchors(variant: Range) -> Float:
    """Anchor centres in 0…1, in the order of the network's rows: full (2304, 2), short (896, 2)."""
    grids = [(48, 1)] if variant == "full" else [(16, 2), (8, 6)]
    out: list[Float] = []
    for n, repeats in grids:
        x = (np.arange(n) + 0.5) / n
        grid = np.stack(np.meshgrid(x, x), -1).reshape(-1, 2)
        out.append(np.repeat(grid, repeats, axis=0))
    return np.concatenate(out)


def overlap(a: Float, b: Float) -> Float:
    """Intersection over union of one box (4,) with boxes (N, 4)."""
    lo, hi = np.maximum(a[:2], b[:, :2]), np.minimum(a[2:], b[:, 2:])
    common = np.prod(np.clip(hi - lo, 0, None), axis=1)
    union = np.prod(a[2:] - a[:2]) + np.prod(b[:, 2:] - b[:, :2], axis=1) - common
    return common / np.maximum(union, 1e-9)


def suppress(candidates: list[Detection], limit: float = 0.3) -> list[Detection]:
    """Merges candidates that overlap (IoU > `limit`) into their score-weighted mean; strongest first."""
    if not candidates:
        return []
    order = sorted(candidates, key=lambda d: -d.score)
    boxes = np.stack([d.box for d in order])
    points = np.stack([d.points for d in order])
    scores = np.array([d.score for d in order])
    left = np.ones(len(order), bool)
    kept: list[Detection] = []
    for i in range(len(order)):
        if not left[i]:
            continue
        same = left & (overlap(boxes[i], boxes) > limit)
        same[i] = True
        box = np.average(boxes[same], axis=0, weights=scores[same])
        kept.append(Detection(box, np.average(points[same], axis=0, weights=scores[same]), float(scores[i])))
        left &= ~same
    return kept


class BlazeFace:
    """Finds faces in a square picture.

    Args:
        variant: "full" (192×192, faces from about a twentieth of the side) or "short" (128×128, selfies).
        threads: cores that one call may use.
    """

    def __init__(self, variant: Range = "full", *, threads: int = 1) -> None:
        self.size = 192 if variant == "full" else 128
        self._anchors = anchors(variant)
        self._network = Network(
            "face_detection_full_range_sparse" if variant == "full" else "face_detection_short_range",
            self.size, threads)

    def detect(self, rgb: Bytes, threshold: float = 0.5) -> list[Detection]:
        """Candidates in uint8 size×size×3, in its pixels, overlapping ones merged, strongest first."""
        raw, logits = self._network(rgb, 1 / 127.5, -1.0)
        logit = logits[0, :, 0]
        rows = np.flatnonzero(logit > np.log(threshold / (1 - threshold)))
        if not len(rows):
            return []
        values = raw[0, rows].astype(np.float64)
        origin = self._anchors[rows] * self.size
        centre, half = values[:, :2] + origin, values[:, 2:4] / 2
        boxes = np.concatenate([centre - half, centre + half], 1)
        points = values[:, 4:].reshape(-1, 6, 2) + origin[:, None]
        scores = 1 / (1 + np.exp(-np.clip(logit[rows].astype(np.float64), -100, 100)))
        return suppress([Detection(b, p, float(s)) for b, p, s in zip(boxes, points, scores, strict=True)])
