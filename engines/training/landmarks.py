"""Finds landmarks in a face crop with MediaPipe's face mesh."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from training.crop_space import F32, F64, U8, cut, similarity

if TYPE_CHECKING:
    from rtface.tracking.facemesh import Region

MESH = 256


def to_bytes(picture: npt.NDArray[np.floating] | U8) -> U8:
    """Converts a picture to uint8. Floats 0..1 are scaled, clipped and rounded."""
    if picture.dtype == np.uint8:
        return np.asarray(picture, np.uint8)
    return np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)


class Landmarks:
    """Finds landmarks with MediaPipe's mesh (Kartynnik et al. 2019), as a run does.

    Raises:
        rtface.errors.MissingComponent: the mesh network is damaged, or OpenVINO cannot load it.
    """

    def __init__(self) -> None:
        from rtface.tracking.facemesh import FaceMesh

        self._mesh = FaceMesh(threads=1)

    def region(self, picture: F32 | U8) -> Region:
        """Returns the region, in pixels, in which a run finds the mesh."""
        from rtface.tracking.facemesh import Region, region_of_mesh

        side = float(picture.shape[0])
        points, _ = self.read(picture, Region(side / 2, side / 2, side, 0.0))
        return region_of_mesh(points * (side / 512))

    def read(self, picture: F32 | U8, region: Region) -> tuple[F64, float]:
        """Returns landmarks in pixels of the 512-px canonical crop, float64 478×3. Also returns a score, 0..1.

        ``picture``: canonical S×S×3 RGB, uint8 or float 0..1; ``region``: in pixels of the picture.
        """
        m = similarity(region.side / MESH, region.angle, (region.x - 0.5, region.y - 0.5), MESH)
        points, score = self._mesh.infer(cut(to_bytes(picture), m, MESH))
        return region.to_display(points) * (512 / picture.shape[0]), score
