"""The mesh by OpenVINO against MediaPipe's own answer, and the geometry of its region."""

from pathlib import Path

import numpy as np
import pytest

from rtface.geometry.transforms import apply, invert
from rtface.tracking import create_tracker
from rtface.tracking.facemesh import FaceMesh, Region, box_of, five_points, region_of_mesh
from tests.tracking.scenes import ArrayView, astronaut

# FaceLandmarker of mediapipe 1.2.2 on the astronaut (IMAGE mode); x, y, z in pixels of her 512×512.
REFERENCE = np.load(Path(__file__).parent / "data" / "astronaut_tasks_1.2.2.npy").astype(float)
# The region that its own detector gave it.
ITS_REGION = Region(224.8, 128.6, 141.8, 0.0944)


@pytest.fixture(scope="module")
def mesh() -> FaceMesh:
    return FaceMesh()


def distances(points: np.ndarray) -> np.ndarray:
    return np.linalg.norm(points[:, :2] - REFERENCE[:, :2], axis=1)


def test_agrees_with_mediapipe_within_a_pixel(mesh):
    found = mesh.read(ArrayView(astronaut()), ITS_REGION)
    assert found.score > 0.99
    assert distances(found.points).max() < 1.0
    assert distances(found.points).mean() < 0.4


def test_tracker_agrees_with_mediapipe_from_another_detector(mesh):
    (face,) = create_tracker().update(ArrayView(astronaut()), 0.0)
    assert distances(face.mesh).mean() < 0.8


def test_region_maps_there_and_back():
    region = Region(100.0, 50.0, 80.0, 0.3)
    points = np.array([[0.0, 0.0, 1.0], [256, 0, 2], [128, 128, 3]])
    there = region.to_display(points)
    np.testing.assert_allclose(apply(region.matrix(), there[:, :2]), points[:, :2], atol=1e-9)
    np.testing.assert_allclose(apply(invert(region.matrix()), points[:, :2]), there[:, :2], atol=1e-9)
    np.testing.assert_allclose(there[:, 2], points[:, 2] * 80 / 256)
    np.testing.assert_allclose(there[2, :2], (100, 50))


def test_mirrored_picture_gives_the_mirrored_points(mesh):
    """Half a pixel of the wrong convention anywhere between display and network would show here."""
    right = mesh.read(ArrayView(astronaut()), region_of_mesh(REFERENCE)).points
    mirrored = REFERENCE.copy()
    mirrored[:, 0] = 512 - mirrored[:, 0]
    swapped = mirrored.copy()
    swapped[[33, 263]] = mirrored[[263, 33]]
    left = mesh.read(ArrayView(np.ascontiguousarray(astronaut()[:, ::-1])), region_of_mesh(swapped)).points
    a, b = five_points(right), five_points(left)[[1, 0, 2, 4, 3]]
    assert abs((a[:, 0] + b[:, 0] - 512).mean()) < 0.3
    assert abs((a[:, 1] - b[:, 1]).mean()) < 0.3
    np.testing.assert_allclose(box_of(right)[[0, 2]], 512 - box_of(left)[[2, 0]], atol=1.5)
