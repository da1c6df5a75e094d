from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from rtface.analysis.analyzer import analyze_face
from rtface.analysis.measure import Analysis
from rtface.frame import Bytes, Face, Float

data = pytest.importorskip("skimage.data", reason="scikit-image's portrait is the only face the tests use")

# Eye centres, nose tip and mouth corners of the portrait, found once by hand.
POINTS = np.array([[204.1, 101.6], [246.9, 103.8], [223.5, 131.7], [202.6, 139.7], [244.6, 140.9]])
BOX = np.array([179.7, 70.2, 271.6, 178.7])

# Skin, eyes and mouth, where the core lies.
CORE = np.s_[83:165, 183:265]


class PictureView:
    """A view of an array; whole-pixel shifts and shrinking only."""

    def __init__(self, picture: Bytes) -> None:
        self.picture = picture
        self.height, self.width = float(picture.shape[0]), float(picture.shape[1])

    def thumbnail(self, max_side: int) -> tuple[Bytes, float, float]:
        raise AssertionError("the analysis needs no thumbnail")

    def crop(self, matrix: Float, size: tuple[int, int]) -> Bytes:
        shift = matrix.copy()
        shift[:, 2] += shift[:, :2] @ (0.5, 0.5) - 0.5  # from corner to centre convention
        flags = cv2.INTER_LINEAR if matrix[0, 0] == 1 else cv2.INTER_AREA
        return np.asarray(cv2.warpAffine(self.picture, shift, size, flags=flags), np.uint8)

    def luma(self, matrix: Float, size: tuple[int, int]) -> Bytes:
        return np.asarray(cv2.cvtColor(self.crop(matrix, size), cv2.COLOR_RGB2GRAY), np.uint8)


@pytest.fixture(scope="session")
def portrait() -> Bytes:
    return np.asarray(data.astronaut(), np.uint8)


@pytest.fixture(scope="session")
def face() -> Face:
    return Face(1, BOX, POINTS)


@pytest.fixture(scope="session")
def look(face: Face) -> Callable[[Bytes], Analysis]:
    return lambda picture: analyze_face(PictureView(picture), face)
