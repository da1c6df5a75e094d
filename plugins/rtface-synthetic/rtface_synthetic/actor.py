"""A face that does not exist, ready to be worn."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from rtface.correct import FACE_OVAL
from rtface.device.cpu.device import CpuDevice
from rtface.errors import EngineError
from rtface.frame import Float, Frame
from rtface.geometry.alignment import crop_matrix, pose
from rtface.geometry.transforms import apply
from rtface.protocols import Tracker
from rtface_synthetic.generator import Generator
from rtface_synthetic.puppet import Skin
from rtface_synthetic.topology import INNER_LIPS, Triangles, triangulate

SIZE = 512
"""Side of an actor's crop."""
_STRAIGHT, _LEVEL = 8.0, 14.0  # degrees by which an actor may look aside, and up or down
_OPEN = 0.35  # height of the mouth's opening, as a share of its width
_TRIES = 24
_RIM = 0.10  # of the crop's side: from the oval inwards a face's shape becomes the actor's

_LIPS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
_EYES = (
    (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246),
    (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466),
)
_GROWN = 1.5  # lids move with their eye, lips' rims with the lips


@dataclass(frozen=True, slots=True)
class Actor:
    """An actor.

    Attributes:
        seed: that made it.
        skin: its crop of 512.
        mesh: (478, 3) on that crop, z in the same pixels.
        triangles: the surface.
        weight: (478,), 0…1, how much of the actor's shape a point takes on: 0 on the outline, which is the wearer's.
        groups: points that move as one, because their shape among each other is the wearer's expression.
    """

    seed: int
    skin: Skin
    mesh: Float
    triangles: Triangles
    weight: Float
    groups: tuple[NDArray[np.int64], ...]


def cast(generator: Generator, tracker: Tracker, seed: int, truncation: float) -> Actor:
    """The first face from `seed` on that looks at the camera with its mouth nearly closed.

    Raises:
        EngineError: among 24 there was none.
    """
    device = CpuDevice(1)
    for number in range(seed, seed + _TRIES):
        image = generator.face(number, truncation)
        frame = Frame(av.VideoFrame.from_ndarray(image, "rgb24"), 0, Fraction(1, 25))  # pyright: ignore[reportArgumentType]
        view = device.view(frame)
        faces = tracker.update(view, 0.0, cut=True)
        found = max(faces, key=lambda face: face.width, default=None)
        if found is None or found.mesh is None or not _suits(found.mesh):
            continue
        matrix = crop_matrix(found, SIZE)
        mesh = on_crop(found.mesh, matrix)
        skin = Skin(view.crop(matrix, (SIZE, SIZE)), mesh)
        return Actor(number, skin, mesh, triangulate(mesh), _inward(mesh), _groups(mesh))
    raise EngineError(
        "the generator gave no usable face from seed {seed} on; choose another seed, or less truncation",
        code="synthetic_seed",
        seed=seed,
    )


def on_crop(mesh: Float, matrix: Float) -> Float:
    """A mesh in display space (478, 3) on a crop; z grows with the crop's scale."""
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    return np.column_stack([apply(matrix, mesh[:, :2]), scale * mesh[:, 2]])


def _suits(mesh: Float) -> bool:
    yaw, pitch, _ = pose(mesh)
    opening, width = np.linalg.norm(mesh[13] - mesh[14]), np.linalg.norm(mesh[78] - mesh[308])
    return abs(yaw) < _STRAIGHT and abs(pitch) < _LEVEL and bool(opening < _OPEN * width)


def _inward(mesh: Float) -> Float:
    oval = mesh[list(FACE_OVAL), :2].astype(np.float32)[:, None]
    inside = np.array([cv2.pointPolygonTest(oval, (float(x), float(y)), True) for x, y in mesh[:, :2]])
    share = np.clip(inside / (_RIM * SIZE), 0.0, 1.0)
    return share * share * (3.0 - 2.0 * share)


def _groups(mesh: Float) -> tuple[NDArray[np.int64], ...]:
    found = [_within(mesh, polygon) for polygon in (_LIPS, *_EYES)]
    lips = np.union1d(found[0], np.array(INNER_LIPS))
    eyes = (
        np.union1d(eye, iris) for eye, iris in zip(found[1:], (np.arange(468, 473), np.arange(473, 478)), strict=True)
    )
    return (lips, *eyes)


def _within(mesh: Float, polygon: tuple[int, ...]) -> Any:
    """The points in a polygon of points, made larger."""
    corners = mesh[list(polygon), :2]
    middle = corners.mean(0)
    grown = (middle + _GROWN * (corners - middle)).astype(np.float32)[:, None]
    return np.array(
        [k for k, (x, y) in enumerate(mesh[:, :2]) if cv2.pointPolygonTest(grown, (float(x), float(y)), False) >= 0],
        np.int64,
    )
