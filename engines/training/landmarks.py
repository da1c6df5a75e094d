"""Landmarks of a face crop by MediaPipe's face mesh, and the distance between those of two crops."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from training.crop_space import F32, F64, U8, cut

if TYPE_CHECKING:
    from rtface.tracking.facemesh import Region

# Indices in MediaPipe's mesh: lids and lips, as its own connection lists name them.
EYES = (33, 7, 163, 144, 145, 153, 154, 155, 133, 246, 161, 160, 159, 158, 157, 173,
        263, 249, 390, 373, 374, 380, 381, 382, 362, 466, 388, 387, 386, 385, 384, 398)  # fmt: skip
LIPS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 185, 40, 39, 37, 0, 267, 269, 270, 409,
        78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 191, 80, 81, 82, 13, 312, 311, 310, 415)  # fmt: skip
MESH = 256
CERTAIN = 0.5
"""Below this score of the network there is no mesh to compare."""


def to_bytes(picture: npt.NDArray[np.floating] | U8) -> U8:
    """A picture of uint8, or of floats 0..1 (clipped, rounded), as uint8."""
    if picture.dtype == np.uint8:
        return np.asarray(picture, np.uint8)
    return np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)


def _window(centre: tuple[float, float], side: float, angle: float, size: int) -> F64:
    """2×3, pixels of a ``size``×``size`` crop → picture, pixel centres at integers, for a turned square of the
    picture given with pixel corners at integers (as ``rtface.tracking`` has it)."""
    k = side / size
    c, s = k * np.cos(angle), k * np.sin(angle)
    h = (size - 1) / 2
    x, y = centre[0] - 0.5, centre[1] - 0.5
    return np.array([[c, -s, x - c * h + s * h], [s, c, y - s * h - c * h]])


class Landmarks:
    """Where the features lie, by MediaPipe's mesh (the run time's own, by OpenVINO): Kartynnik et al. 2019.

    Args:
        threads: cores one reading may use.

    Raises:
        rtface.errors.MissingComponent: the mesh network is damaged, or OpenVINO cannot load it.
    """

    def __init__(self, threads: int = 1) -> None:
        from rtface.geometry.alignment import RIGID
        from rtface.tracking.facemesh import FaceMesh

        self._mesh = FaceMesh(threads=threads)
        self.points = np.unique(np.concatenate([RIGID, EYES, LIPS]))
        """Mesh indices that `error` compares: the rigid points of the alignment, lids and lips."""

    def region(self, picture: F32 | U8) -> Region:
        """Where the run time would look for the mesh of a canonical S×S×3 picture; in its pixels."""
        from rtface.tracking.facemesh import Region, region_of_mesh

        side = float(picture.shape[0])
        points, _ = self.read(picture, Region(side / 2, side / 2, side, 0.0))
        return region_of_mesh(points * (side / 512))

    def read(self, picture: F32 | U8, region: Region) -> tuple[F64, float]:
        """Points (478, 3), float64, in canonical pixels of 512, and the network's score 0..1.

        ``picture`` is a canonical S×S×3 RGB, uint8 or float 0..1; ``region`` is in its pixels.
        """
        m = _window((region.x, region.y), region.side, region.angle, MESH)
        points, score = self._mesh.infer(cut(to_bytes(picture), m, MESH))
        return region.to_display(points) * (512 / picture.shape[0]), score

    def error(self, restored: F32 | U8, truth: F32 | U8) -> float:
        """Mean distance of the points in two canonical S×S×3 pictures, in canonical pixels of 512.

        Both are read in the truth's region, so that only the pictures differ. NaN where the network sees no face in
        the truth; infinite where it sees none in ``restored`` only.

        Raises:
            ValueError: the pictures differ in shape.
        """
        if restored.shape != truth.shape:
            raise ValueError(f"landmarks of two pictures of one size, got {restored.shape} and {truth.shape}")
        region = self.region(truth)
        (a, seen), (b, real) = self.read(restored, region), self.read(truth, region)
        if real < CERTAIN:
            return float("nan")
        if seen < CERTAIN:
            return float("inf")
        return float(np.linalg.norm(a[self.points, :2] - b[self.points, :2], axis=1).mean())
