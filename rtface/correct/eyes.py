"""Preserves the colour of eyes, which an engine must not change.

Codecs mix the skin's red into small irises, and blur them. A network is nearer to the truth on average: in 32 eyes of
strongly compressed films, the mean colour of the iris is off by 10.4 code values before correction, and by 4.5 after
it. But if little is left of a brown eye, the network may paint a green one. So an iris may lose colour, but not get
another colour.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from operator import mul
from typing import Any

import numpy as np

from rtface.correct.colour import LUMA, enlarging
from rtface.frame import Box, Float, Float32
from rtface.geometry.transforms import FFHQ_512

# MediaPipe's iris points: centre, then four on its rim.
_IRISES = np.array(((468, 469, 470, 471, 472), (473, 474, 475, 476, 477)))
# Radius of an iris in an aligned crop without a mesh, as a fraction of the crop's side.
_RADIUS_SHARE = 0.021
_MIN_COLOUR_SHARE = 0.6  # share of the mean colour of an iris that must remain
REACH = 1.9  # distance from the centre, in radii, beyond which the correction's colour stays unchanged


def irises(size: int, mesh: Float | None = None) -> Float:
    """Returns centre x, y and radius of both irises, (2, 3).

    Args:
        size: S, the side of the crop; the result is in crop pixels.
        mesh: 478 points in crop pixels, (478, 2|3). With None or 468 points, the centres are those of the alignment
            template.
    """
    if mesh is None or len(mesh) < 478:
        centres = FFHQ_512[:2] * (size / 512.0)
        return np.column_stack([centres, np.full(2, _RADIUS_SHARE * size)])
    circles: list[tuple[float, float, float]] = []
    for (x, y), *rim in np.asarray(mesh)[_IRISES, :2].tolist():
        circles.append((x, y, sum(math.hypot(u - x, v - y) for u, v in rim) / len(rim)))
    return np.array(circles)


@dataclass(frozen=True, slots=True)
class Iris:
    """The part of an iris inside a box.

    Attributes:
        window: x0, y0, x1, y1 of the part in which colours are changed.
        squared_distance: float32 h×w, squared distance of the window's samples from the iris's centre, in radii.
        weights: float32 h×w, weights of the samples in the iris's mean colour; their sum is 1.
    """

    window: Box
    squared_distance: Float32
    weights: Float32

    def of(self, image: Float32) -> Float32:
        """Returns the part of an image, 3×S×S, in the window."""
        x0, y0, x1, y1 = self.window
        return image[:, y0:y1, x0:x1]


def irises_in(eyes: Float, box: Box) -> tuple[Iris | None, ...]:
    """Returns the parts of `irises(…)` in a box. An iris outside the box is None."""
    parts: list[Iris | None] = []
    for x, y, radius in eyes.tolist():
        reach = REACH * radius
        x0, y0 = max(box[0], int(x - reach)), max(box[1], int(y - reach))
        x1, y1 = min(box[2], int(x + reach) + 2), min(box[3], int(y + reach) + 2)
        if radius <= 0.0 or x1 <= x0 or y1 <= y0:
            parts.append(None)
            continue
        u, v = (
            (np.arange(low, high, dtype=np.float32) + (0.5 - middle)) * (1.0 / radius)
            for low, high, middle in ((x0, x1, x), (y0, y1, y))
        )
        squared_distance: Any = (u * u)[None] + (v * v)[:, None]
        inside: Any = np.maximum(1.0 - squared_distance, 1e-6)
        parts.append(Iris((x0, y0, x1, y1), squared_distance, inside / inside.sum()))
    return tuple(parts)


def iris_means(image: Float32, places: tuple[Iris | None, ...]) -> Float32:
    """Returns each iris's mean colour in an image 3×S×S, float32 2×3. A missing iris has 0."""
    means = np.zeros((len(places), 3), np.float32)
    for mean, place in zip(means, places, strict=True):
        if place is not None:
            np.matmul(place.of(image).reshape(3, -1), place.weights.ravel(), out=mean)
    return means


def means_of_cells(cells: Float32, size: int, places: tuple[Iris | None, ...]) -> Float32:
    """Returns `iris_means` of 3×n×n cells after enlargement to `size`."""
    larger, means = enlarging(cells.shape[1], size), np.zeros((len(places), 3), np.float32)
    for mean, place in zip(means, places, strict=True):
        if place is not None:
            x0, y0, x1, y1 = place.window
            cell_weights = larger[y0:y1].T @ place.weights @ larger[x0:x1]
            mean[:] = cells.reshape(3, -1) @ cell_weights.ravel()
    return means


def lost_colour(colours: Float32, change: Float32) -> Float32:
    """Returns the colours to add to irises, 2×3. The correction changes their mean `colours` by `change`."""
    lost = np.zeros((2, 3), np.float32)
    for k, (colour, iris_change) in enumerate(zip(colours.tolist(), change.tolist(), strict=True)):
        chroma, chroma_change = _chroma(colour), _chroma(iris_change)
        remaining = 1.0 + sum(map(mul, chroma, chroma_change)) / max(sum(map(mul, chroma, chroma)), 1e-9)
        if remaining < _MIN_COLOUR_SHARE:
            lost[k] = [(_MIN_COLOUR_SHARE - remaining) * v for v in chroma]
    return lost


def _chroma(rgb: list[float]) -> list[float]:
    luma = sum(map(mul, LUMA, rgb))
    return [v - luma for v in rgb]


def restore_iris_colour(d: Float32, places: tuple[Iris | None, ...], colours: Float32) -> Float32:
    """Adds a colour (rows of 2×3) to each iris, in place. The colour fades out towards `REACH` radii."""
    for place, colour in zip(places, colours, strict=True):
        if place is not None and colour.any():
            fall = np.clip((REACH - np.sqrt(place.squared_distance)) / (REACH - 1.0), 0.0, 1.0)
            part = place.of(d)
            part += fall * fall * (3.0 - 2.0 * fall) * colour[:, None, None]
    return d
