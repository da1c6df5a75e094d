"""Prepares synthetic faces as actors, to replace real ones."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from rtface.correct.mask import FACE_OVAL
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
_MAX_YAW, _MAX_PITCH = 8.0, 14.0  # of an actor, in degrees
_MAX_OPENING = 0.35  # maximum height of the mouth's opening, as a share of its width
_TRIES = 24  # number of seeds that are tried for one actor
_RIM = 0.10  # width of the rim inside the oval where the shapes blend, as a share of the crop's side

_LIPS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
_EYES = (
    (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246),
    (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466),
)
_ENLARGEMENT = 1.5  # of the polygons of eyes and lips, so that lids and the skin around the lips move with them


@dataclass(frozen=True, slots=True)
class Actor:
    """A synthetic face with its mesh. Its wearer is the person whose face it replaces.

    Attributes:
        seed: seed of the generator.
        skin: crop of the face, 512×512 pixels.
        mesh: points of the face in pixels of the crop, (478, 3).
        triangles: triangles of the mesh's surface.
        weight: share of the actor's shape for each point, (478,), 0…1. At 0, on the outline, the wearer's remains.
        groups: points that move together, because their shape shows the wearer's expression.
    """

    seed: int
    skin: Skin
    mesh: Float
    triangles: Triangles
    weight: Float
    groups: tuple[NDArray[np.int64], ...]


def cast(generator: Generator, tracker: Tracker, seed: int, truncation: float) -> Actor:
    """Generates the first suitable face, starting at `seed`: frontal, with the mouth nearly closed.

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
        if largest is None or largest.mesh is None or not _is_suitable(largest.mesh):
            continue
        matrix = crop_matrix(largest, SIZE)
        mesh = on_crop(largest.mesh, matrix)
        skin = Skin(view.crop(matrix, (SIZE, SIZE)), mesh)
        return Actor(number, skin, mesh, triangulate(mesh), _shape_weight(mesh), _groups(mesh))
    raise EngineError(
        "the generator produced no usable face from seed {seed} on; choose another seed or a smaller truncation",
        code="synthetic_seed",
        seed=seed,
    )


def on_crop(mesh: Float, matrix: Float) -> Float:
    """Maps a mesh (478, 3) from display space to a crop. Scales z by the same factor."""
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    return np.column_stack([apply(matrix, mesh[:, :2]), scale * mesh[:, 2]])


def _is_suitable(mesh: Float) -> bool:
    yaw, pitch, _ = pose(mesh)
    opening, width = np.linalg.norm(mesh[13] - mesh[14]), np.linalg.norm(mesh[78] - mesh[308])
    return abs(yaw) < _MAX_YAW and abs(pitch) < _MAX_PITCH and bool(opening < _MAX_OPENING * width)


def _shape_weight(mesh: Float) -> Float:
    oval = mesh[list(FACE_OVAL), :2].astype(np.float32)[:, None]
    distance = np.array([cv2.pointPolygonTest(oval, (float(x), float(y)), True) for x, y in mesh[:, :2]])
    share = np.clip(distance / (_RIM * SIZE), 0.0, 1.0)
    return share * share * (3.0 - 2.0 * share)


def _groups(mesh: Float) -> tuple[NDArray[np.int64], ...]:
    members = [_points_within(mesh, polygon) for polygon in (_LIPS, *_EYES)]
    lips = np.union1d(members[0], np.array(INNER_LIPS))
    eyes = (
        np.union1d(eye, iris) for eye, iris in zip(members[1:], (np.arange(468, 473), np.arange(473, 478)), strict=True)
    )
    return (lips, *eyes)


def _points_within(mesh: Float, polygon: tuple[int, ...]) -> Any:
    """Returns the indices of the mesh points inside an enlarged polygon."""
    corners = mesh[list(polygon), :2]
    centre = corners.mean(0)
    enlarged = (centre + _ENLARGEMENT * (corners - centre)).astype(np.float32)[:, None]
    return np.array(
        [k for k, (x, y) in enumerate(mesh[:, :2]) if cv2.pointPolygonTest(enlarged, (float(x), float(y)), False) >= 0],
        np.int64,
    )
