"""Runs Face Mesh: 478 points of a face, from a rotated square around it.

Kartynnik et al., "Real-time Facial Surface Geometry from Monocular Video on Mobile GPUs", 2019. The
region follows MediaPipe's ``face_landmarker`` graph: 1.5 times the longer side of the last mesh's
box, turned so that the eyes lie level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log2

import cv2
import numpy as np

from rtface.frame import Bytes, Float, Float32
from rtface.geometry.alignment import move, similarity
from rtface.geometry.transforms import invert
from rtface.protocols import View
from rtface.tracking.detector import Detection
from rtface.tracking.network import TrackerNetwork

SIZE = 256
MARGIN = 1.5
LEFT_EYE = (33, 133, 160, 158, 144, 153)
RIGHT_EYE = (263, 362, 387, 385, 373, 380)
NOSE_TIP, LEFT_MOUTH, RIGHT_MOUTH = 1, 61, 291
_FIVE = np.array(
    [
        np.bincount(points, minlength=478) / len(points)
        for points in (LEFT_EYE, RIGHT_EYE, (NOSE_TIP,), (LEFT_MOUTH,), (RIGHT_MOUTH,))
    ]
)
# The grid of `Region.rounded`: sides are powers of 2^(1/64), angles are multiples of 1/128 radian.
_SIDES, _ANGLE = 64, 1 / 128
OUTER_CORNERS = (33, 263)
_SURFACE = 468
_MEAN_WEIGHTS = np.full(_SURFACE, 1 / _SURFACE)
_GRID = 8
"""Side of the coarse image of a face's appearance, which only has to distinguish two people."""


@dataclass(frozen=True, slots=True)
class Region:
    """A square in display space: centre x and y, side (pixels), angle (radians, clockwise on the
    screen)."""

    x: float
    y: float
    side: float
    angle: float

    def matrix(self, size: int = SIZE) -> Float:
        """Returns the 2×3 matrix display → pixels of a size×size crop."""
        s = size / self.side
        c, n = s * np.cos(self.angle), s * np.sin(self.angle)
        return np.array([[c, n, size / 2 - c * self.x - n * self.y], [-n, c, size / 2 + n * self.x - c * self.y]])

    def rounded(self, grid: float = 0.5) -> Region:
        """Rounds the place to `grid` pixels of a crop of `SIZE`. Size and angle are rounded to about twice as much.

        Two trackers that started on different frames differ by some hundredths of a pixel. Because of the grid, they
        soon read exactly the same region and compute the same mesh.
        """
        sides, angle = _SIDES / (2 * grid), _ANGLE * 2 * grid
        side = 2.0 ** (round(log2(max(self.side, 1.0)) * sides) / sides)
        step = side * grid / SIZE
        return Region(round(self.x / step) * step, round(self.y / step) * step, side, round(self.angle / angle) * angle)

    def to_display(self, points: Float, size: int = SIZE) -> Float:
        """Maps (N, 2|3) crop pixels to display pixels; z is only scaled."""
        return move(invert(self.matrix(size)), points)


@dataclass(frozen=True, slots=True)
class Mesh:
    """Holds a face's mesh on one frame: points (478, 3) in display pixels, score 0…1, and the
    face's appearance (`appearance_of`)."""

    points: Float
    score: float
    appearance: Float


def five_points(mesh: Float) -> Float:
    """Returns five points (5, 2) of a mesh (478, 2|3): eye centres (mean of both corners and four lid points), nose
    tip, mouth corners."""
    return _FIVE @ mesh[:, :2]


def box_of(mesh: Float) -> Float:
    """Returns x0, y0, x1, y1 around the 468 points of the surface."""
    m = np.ascontiguousarray(mesh[:_SURFACE, :2].T)  # min and max along rows take a third of the time
    return np.concatenate([m.min(1), m.max(1)])


def centre_of(mesh: Float) -> Float:
    """Returns the mean x, y of the 468 points of the surface."""
    return _MEAN_WEIGHTS @ mesh[:_SURFACE, :2]


def appearance_of(pixels: Bytes) -> Float:
    """Returns the appearance descriptor (96,) of an upright 256×256 crop: normalised luma 8×8, then colour 4×4×2."""
    ycc = cv2.cvtColor(cv2.resize(pixels, (_GRID, _GRID), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2YCrCb)
    y = ycc[:, :, 0].astype(np.float64)
    y -= y.mean()
    colour = ycc[:, :, 1:].astype(np.float64).reshape(4, 2, 4, 2, 2).mean((1, 3)) - 128
    return np.concatenate([(y / (np.linalg.norm(y) + 8)).ravel(), colour.ravel() / 12])


def likeness(a: Float, b: Float) -> float:
    """Returns the similarity of two appearances, 0…1. It is at least 0.7 for the same face some frames later."""
    n = _GRID * _GRID
    shape = float(np.dot(a[:n], b[:n]))
    return max(0.0, 0.5 * shape + 0.5 * exp(-float(np.mean(np.abs(a[n:] - b[n:])))))


def region_of_detection(candidate: Detection) -> Region:
    """Returns the mesh region of a detector's candidate. Its constants are means over 150 portraits."""
    (x, y), side = candidate.centre, float(max(candidate.box[2:] - candidate.box[:2]))
    m = similarity(candidate.points, SIZE)
    angle = float(-np.arctan2(m[1, 0], m[0, 0]))
    return Region(float(x) - 0.05 * side * np.sin(angle), float(y) + 0.05 * side * np.cos(angle), 1.31 * side, angle)


def region_of_mesh(mesh: Float) -> Region:
    """Returns a face's region for the next frame: around its mesh, level with the eyes."""
    dx, dy = mesh[OUTER_CORNERS[1], :2] - mesh[OUTER_CORNERS[0], :2]
    box = box_of(mesh)
    (x, y), (w, h) = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
    return Region(float(x), float(y), float(MARGIN * max(w, h)), float(np.arctan2(dy, dx)))


class FaceMesh:
    """Runs the landmark network.

    Args:
        threads: number of cores for one call.
    """

    def __init__(self, *, threads: int = 1) -> None:
        self.network = TrackerNetwork("face_landmarks_detector.tflite", SIZE, threads, divisor=255.0)

    def read(self, view: View, region: Region) -> Mesh:
        """Reads the mesh of the face in `region`. Its score is the network's own confidence that a face is there."""
        outputs, pixels = self.network.read(view, region.matrix())
        points, score = _points_and_score(outputs)
        return Mesh(region.to_display(points), score, appearance_of(pixels))

    def infer(self, pixels: Bytes) -> tuple[Float, float]:
        """Returns points (478, 3) in crop pixels, and the score 0…1. The crop is uint8 256×256×3."""
        return _points_and_score(self.network(pixels))

    def close(self) -> None:
        """Does nothing: memory is freed with the object."""


def _points_and_score(outputs: Sequence[Float32]) -> tuple[Float, float]:
    points = outputs[0].reshape(478, 3).astype(np.float64)
    return points, float(1 / (1 + np.exp(-np.clip(float(outputs[1].reshape(-1)[0]), -100, 100))))
