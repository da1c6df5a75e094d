"""Carrying a mesh by optical flow: as exact as reading where it is taken, and not taken in doubt."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from skimage import data

from rtface.tracking.flow_carry import FlowPatch
from tests.tracking.scenes import ArrayView


def mesh() -> np.ndarray:
    """478 points over the astronaut's face; any cloud that lies on it serves."""
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.uniform(-1, 1, (478, 2)) * [42, 58] + [224, 120], np.zeros((478, 1))], 1)
    points[[33, 263], :2] = [[200, 105], [250, 103]]
    return points


def moved(shift: tuple[float, float], angle: float = 0.0, zoom: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    matrix = cv2.getRotationMatrix2D((224.0, 120.0), angle, zoom)
    matrix[:, 2] += shift
    return cv2.warpAffine(data.astronaut(), matrix, (512, 512), flags=cv2.INTER_CUBIC), matrix


@pytest.mark.parametrize(("shift", "angle", "zoom"), [((0, 0), 0, 1), ((3.3, -2.1), 0, 1), ((2, 1), 2.0, 1.01)])
def test_follows_shift_turn_and_zoom_to_a_fraction_of_a_pixel(shift, angle, zoom) -> None:
    picture, matrix = moved(shift, angle, zoom)
    noise = np.random.default_rng(1).normal(0, 4, picture.shape)
    patch = FlowPatch.cut(ArrayView(data.astronaut()), mesh())
    found = patch.carry(ArrayView(np.clip(picture + noise, 0, 255).astype(np.uint8)), np.zeros(2))
    assert found is not None
    centre = np.array([0.5, 0.5])  # cv2's matrix is about pixel centres
    truth = (mesh()[:, :2] - centre) @ matrix[:, :2].T + matrix[:, 2] + centre
    assert np.abs(found[:, :2] - truth).max() < 0.5


def test_occlusion_another_image_and_a_jump_are_not_followed() -> None:
    patch = FlowPatch.cut(ArrayView(data.astronaut()), mesh())
    covered = data.astronaut().copy()
    cv2.rectangle(covered, (180, 60), (270, 190), (180, 140, 120), -1)
    for other in (covered, data.astronaut()[::-1].copy(), moved((60, 0))[0], moved((0, 0), 15)[0]):
        assert patch.carry(ArrayView(np.ascontiguousarray(other)), np.zeros(2)) is None
