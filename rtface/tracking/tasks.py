"""Reads the mesh with MediaPipe's Tasks API: the reference, several times slower.

Needs the package ``mediapipe`` ≥ 1.2.2 (extra ``mediapipe``). The package contains no models, so `bundle` zips the
required bundle from the checked members of the original one, without the unused blendshapes.
"""

from __future__ import annotations

import io
import zipfile
from importlib.util import find_spec
from typing import Any

import numpy as np

from rtface.errors import MissingComponent
from rtface.protocols import View
from rtface.tracking import models
from rtface.tracking.facemesh import SIZE, Mesh, Region, appearance_of
from rtface.util.install import extra_line

_MEMBERS = ("face_detector.tflite", "face_landmarks_detector.tflite")


def why_unusable(name: str) -> str | None:
    """Returns why MediaPipe's Tasks API is not available; None if it is."""
    return None if find_spec("mediapipe") else f"mediapipe is not installed; install it with: {extra_line('mediapipe')}"


class TasksMesh:
    """Reads a mesh with ``FaceLandmarker`` from a face's region, at any size.

    Its short-range detector requires that a face fills a fifth to a half of the frame, so the region is twice as wide
    as the mesh's own. The API returns no confidence, only whether a face is there, so the score is 1 or 0.

    Raises:
        MissingComponent: ``mediapipe`` is not installed.
    """

    def __init__(self) -> None:
        try:
            import mediapipe as mp  # pyright: ignore[reportMissingImports]
            from mediapipe.tasks.python import BaseOptions, vision  # pyright: ignore[reportMissingImports]
        except ImportError as e:
            raise MissingComponent(
                "the tracker 'tasks' needs the package mediapipe: {repair} (or choose {--tracker:openvino})",
                code="mediapipe_missing",
                repair=extra_line("mediapipe"),
            ) from e
        self._mp: Any = mp
        self._landmarker: Any = vision.FaceLandmarker.create_from_options(
            vision.FaceLandmarkerOptions(base_options=BaseOptions(model_asset_buffer=bundle()), num_faces=1)
        )

    def read(self, view: View, region: Region) -> Mesh:
        """Reads a mesh like `rtface.tracking.facemesh.FaceMesh.read`."""
        appearance = appearance_of(view.crop(region.matrix(), (SIZE, SIZE)))
        wide = Region(region.x, region.y, 2 * region.side, region.angle)
        size = 2 * SIZE
        image = self._mp.Image(
            image_format=self._mp.ImageFormat.SRGB,
            data=np.ascontiguousarray(view.crop(wide.matrix(size), (size, size))),
        )
        faces = self._landmarker.detect(image).face_landmarks
        if not faces:
            return Mesh(np.zeros((478, 3)), 0.0, appearance)
        points = np.array([(p.x, p.y, p.z) for p in faces[0]], np.float64) * size
        return Mesh(wide.to_display(points, size), 1.0, appearance)

    def close(self) -> None:
        """Closes MediaPipe's graph. MediaPipe complains if it is open when Python exits. Safe to call twice."""
        if self._landmarker is not None:
            self._landmarker.close()
            self._landmarker = None


def bundle() -> bytes:
    """Returns a ``.task`` archive for ``FaceLandmarker``. Its files have a checked SHA-256."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name in _MEMBERS:
            archive.writestr(name, models.path(name).read_bytes())
    return out.getvalue()
