"""The mask of `--region head`: wider than the face's, soft, and 0 well within the crop."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from rtface.correct import face_mask
from rtface.correct.mask import FACE_OVAL, shown_box
from rtface.frame import Face
from rtface.geometry.alignment import HEAD_CENTRE, HEAD_ZOOM, crop_matrix, head_matrix
from rtface.geometry.transforms import FFHQ_512, apply, invert, to_cv2


def mesh(size: int, centre: tuple[float, float], axes: tuple[float, float]) -> np.ndarray:
    points = np.full((478, 2), centre, np.float64)
    turn = np.linspace(-np.pi / 2, 1.5 * np.pi, len(FACE_OVAL), endpoint=False)
    points[list(FACE_OVAL)] = np.stack([centre[0] + axes[0] * np.cos(turn), centre[1] + axes[1] * np.sin(turn)], 1)
    return points * size


@pytest.mark.parametrize("where", [None, ((0.5, 0.6), (0.28, 0.32)), ((0.62, 0.55), (0.25, 0.33)),
                                   ((0.4, 0.7), (0.3, 0.3))])
@pytest.mark.parametrize("size", [256, 512])
def test_a_head_mask_exceeds_the_face_but_not_the_crop(size: int, where: object) -> None:
    points = None if where is None else mesh(size, *where)  # type: ignore[misc]
    face, head = face_mask(size, points), face_mask(size, points, "head")
    middle = np.s_[size // 6:-size // 6, size // 6:-size // 6]
    assert (head >= face - 1e-6)[middle].all() and head.sum() > 1.4 * face.sum()
    rim = round(0.02 * size)
    for edge in (head[:rim], head[-rim:], head[:, :rim], head[:, -rim:]):
        assert edge.max() == 0.0
    assert np.abs(np.diff(head, axis=0)).max() < 30 / size and np.abs(np.diff(head, axis=1)).max() < 30 / size


@pytest.mark.parametrize("region", ["face", "head", "around"])
@pytest.mark.parametrize("where", [None, ((0.45, 0.6), (0.28, 0.32)), ((0.5, 0.62), (0.12, 0.2)),
                                   ((0.15, 0.2), (0.3, 0.3)), ((0.7, 0.8), (0.25, 0.3))])
def test_the_box_that_is_shown_holds_the_mask(region: object, where: object) -> None:
    points = None if where is None else mesh(512, *where)  # type: ignore[misc]
    mask = face_mask(512, points, region)  # type: ignore[arg-type]
    x0, y0, x1, y1 = (4 * v for v in shown_box(128, points, 512, region))  # type: ignore[arg-type]
    outside = mask.copy()
    outside[y0:y1, x0:x1] = 0.0
    assert outside.max() == 0.0
    if region == "around":
        assert (x1 - x0) * (y1 - y0) < 0.55 * 512 * 512


@pytest.mark.parametrize("where", [None, ((0.5, 0.6), (0.28, 0.32)), ((0.55, 0.62), (0.26, 0.33))])
def test_the_head_around_a_face_completes_its_mask(where: object) -> None:
    size = 256
    points = None if where is None else mesh(size, *where)  # type: ignore[misc]
    # From the face's own crop to the larger one.
    larger = np.array([[1, 0, 0], [0, 1, 0]]) / HEAD_ZOOM
    larger[:, 2] = size * (0.5 - np.array(HEAD_CENTRE) / HEAD_ZOOM)
    around = face_mask(size, None if points is None else apply(larger, points), "around")
    face = cv2.warpAffine(face_mask(size, points), to_cv2(larger), (size, size))
    assert (face + around).max() < 1.02 and around[face > 0.99].max() < 0.03
    assert around.sum() > 0.6 * face.sum()
    rim = round(0.16 * size)
    for edge in (around[:rim], around[:, :rim], around[:, -rim:], around[-8:]):
        assert edge.max() == 0.0, "where engines for the face do not answer"


def test_a_heads_crop_shows_more_than_the_faces() -> None:
    face = Face(1, np.array([100.0, 100.0, 200.0, 200.0]), FFHQ_512 / 2 + 30)
    near, far = crop_matrix(face, 256), head_matrix(face, 256)
    middle = np.array([[HEAD_CENTRE[0] * 256, HEAD_CENTRE[1] * 256]])
    np.testing.assert_allclose(apply(far, apply(invert(near), middle)), [[128, 128]], atol=1e-6)
    assert np.linalg.det(near[:, :2]) == pytest.approx(HEAD_ZOOM**2 * np.linalg.det(far[:, :2]))
