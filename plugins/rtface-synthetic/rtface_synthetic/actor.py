"""Prepares synthetic faces as actors, to replace real ones."""

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
_STRAIGHT, _LEVEL = 8.0, 14.0  # maximum yaw and pitch of an actor in degrees
_OPEN = 0.35  # maximum height of the mouth's opening, as a share of its width
_TRIES = 24
_RIM = 0.10  # width of the rim inside the oval where the shapes blend, as a share of the crop's side

_LIPS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
_EYES = (
    (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246),
    (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466),
)
_GROWN = 1.5  # enlarges the groups: lids move with their eye, rims of lips with the lips


@dataclass(frozen=True, slots=True)
class Actor:
    """A synthetic face with its mesh.

    Attributes:
        seed: seed of the generator.
        skin: crop of the face, 512×512 pixels.
        mesh: points of the face on that crop, (478, 3), z in the same unit.
        triangles: triangles of the mesh's surface.
        weight: share of the actor's shape for each point, (478,), 0…1; 0 on the outline, which stays the wearer's.
        groups: points that move together, because their relative shape is the wearer's expression.
    """

    seed: int
    skin: Skin
    mesh: Float
    triangles: Triangles
    weight: Float
    groups: tuple[NDArray[np.int64], ...]


def cast(generator: Generator, tracker: Tracker, seed: int, truncation: float) -> Actor:
    """Finds the first suitable face from `seed` on: frontal, mouth nearly closed.

    Raises:
        EngineError: none of 24 faces is suitable.
    """
    device = CpuDevice(1)
    for number in range(seed, seed + _TRIES):
        image = generator.face(number, truncation)
        frame = Frame(av.VideoFrame.from_ndarray(image, "rgb24"), 0, Fraction(1, 25))  # pyright: ignore[reportArgumentType]
        view = device.view(frame)
        faces = tracker.update(view, 0.0, cut=True)
        largest = max(faces, key=lambda face: face.width, default=None)
        if largest is None or largest.mesh is None or not _suits(largest.mesh):
            continue
        matrix = crop_matrix(largest, SIZE)
        mesh = on_crop(largest.mesh, matrix)
        skin = Skin(view.crop(matrix, (SIZE, SIZE)), mesh)
        return Actor(number, skin, mesh, triangulate(mesh), _inward(mesh), _groups(mesh))
    raise EngineError(
        "the generator gave no usable face from seed {seed} on; choose another seed, or less truncation",
        code="synthetic_seed",
        seed=seed,
    )


def on_crop(mesh: Float, matrix: Float) -> Float:
    """Maps a mesh (478, 3) from display space to a crop. Scales z, too."""
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
    parts = [_within(mesh, polygon) for polygon in (_LIPS, *_EYES)]
    lips = np.union1d(parts[0], np.array(INNER_LIPS))
    eyes = (
        np.union1d(eye, iris) for eye, iris in zip(parts[1:], (np.arange(468, 473), np.arange(473, 478)), strict=True)
    )
    return (lips, *eyes)


def _within(mesh: Float, polygon: tuple[int, ...]) -> Any:
    """Returns the numbers of the mesh points inside an enlarged polygon."""
    corners = mesh[list(polygon), :2]
    middle = corners.mean(0)
    grown = (middle + _GROWN * (corners - middle)).astype(np.float32)[:, None]
    return np.array(
        [k for k, (x, y) in enumerate(mesh[:, :2]) if cv2.pointPolygonTest(grown, (float(x), float(y)), False) >= 0],
        np.int64,
    )
