"""A real face, aligned: scikit-image's public-domain portrait."""

import cv2
import numpy as np
import pytest

from rtface.geometry.transforms import FFHQ_512, to_cv2

POINTS = np.array([(204.10, 101.68), (246.99, 103.90), (223.59, 131.79), (202.59, 139.46), (244.68, 140.88)])


@pytest.fixture(scope="session")
def face():
    """`face(size)`: float32 3×S×S RGB 0…1, FFHQ-aligned; read only."""
    data = pytest.importorskip("skimage.data")
    picture = data.astronaut().astype(np.float32) / 255

    def crop(size: int) -> np.ndarray:
        target = FFHQ_512 * size / 512
        matrix, _ = cv2.estimateAffinePartial2D(POINTS, target)
        out = cv2.warpAffine(
            picture, to_cv2(matrix), (size, size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
        )
        out = np.ascontiguousarray(np.clip(out, 0, 1).transpose(2, 0, 1))
        out.flags.writeable = False
        return out

    return crop
