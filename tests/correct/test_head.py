"""The masks of `--region head`: wider than the face's, soft, and 0 well within the crop or picture."""

from __future__ import annotations

import numpy as np
import pytest

from rtface.correct.mask import FACE_OVAL, face_mask, head_shape, shown_box


def mesh(size: int, centre: tuple[float, float], axes: tuple[float, float]) -> np.ndarray:
    points = np.full((478, 2), centre, np.float64)
    turn = np.linspace(-np.pi / 2, 1.5 * np.pi, len(FACE_OVAL), endpoint=False)
    points[list(FACE_OVAL)] = np.stack([centre[0] + axes[0] * np.cos(turn), centre[1] + axes[1] * np.sin(turn)], 1)
    return points * size


@pytest.mark.parametrize(
    "where", [None, ((0.5, 0.6), (0.28, 0.32)), ((0.62, 0.55), (0.25, 0.33)), ((0.4, 0.7), (0.3, 0.3))]
)
@pytest.mark.parametrize("size", [256, 512])
def test_a_head_mask_exceeds_the_face_but_not_the_crop(size: int, where: object) -> None:
    points = None if where is None else mesh(size, *where)  # type: ignore[misc]
    face, head = face_mask(size, points), face_mask(size, points, "head")
    middle = np.s_[size // 6 : -size // 6, size // 6 : -size // 6]
    assert (head >= face - 1e-6)[middle].all() and head.sum() > 1.4 * face.sum()
    rim = round(0.02 * size)
    for edge in (head[:rim], head[-rim:], head[:, :rim], head[:, -rim:]):
        assert edge.max() == 0.0
    assert np.abs(np.diff(head, axis=0)).max() < 30 / size and np.abs(np.diff(head, axis=1)).max() < 30 / size


@pytest.mark.parametrize("region", ["face", "head"])
@pytest.mark.parametrize(
    "where",
    [
        None,
        ((0.45, 0.6), (0.28, 0.32)),
        ((0.5, 0.62), (0.12, 0.2)),
        ((0.15, 0.2), (0.3, 0.3)),
        ((0.7, 0.8), (0.25, 0.3)),
    ],
)
def test_the_box_that_is_shown_holds_the_mask(region: object, where: object) -> None:
    points = None if where is None else mesh(512, *where)  # type: ignore[misc]
    mask = face_mask(512, points, region)  # type: ignore[arg-type]
    x0, y0, x1, y1 = (4 * v for v in shown_box(128, points, 512, region))  # type: ignore[arg-type]
    outside = mask.copy()
    outside[y0:y1, x0:x1] = 0.0
    assert outside.max() == 0.0


@pytest.mark.parametrize("box", [(60.0, 50.0, 100.0, 90.0), (50.0, 30.0, 90.0, 100.0), (-20.0, 90.0, 40.0, 150.0)])
def test_a_heads_shape_is_whole_on_the_face_and_ends_softly(box: tuple[float, float, float, float]) -> None:
    shape = head_shape((160, 144), box)
    assert shape.shape == (144, 160) and shape.dtype == np.float32 and shape.min() >= 0 and shape.max() == 1
    columns, rows = np.arange(160) + 0.5, np.arange(144) + 0.5
    x0, y0, x1, y1 = box
    u = np.abs(columns - (x0 + x1) / 2)[None] / (x1 - x0) * np.ones((144, 1))
    v = np.abs(rows - (y0 + y1) / 2)[:, None] / (y1 - y0) * np.ones((1, 160))
    assert (shape[(u < 0.6) & (v < 0.6)] == 1).all() and (shape[(u > 1.14) | (v > 1.14)] == 0).all()
    assert max(np.abs(np.diff(shape, axis=axis)).max() for axis in (0, 1)) < 0.2


def test_a_heads_shape_does_not_reach_the_edge_of_its_picture() -> None:
    """A picture of 2.3 times the face's box."""
    shape = head_shape((112, 112), (32.0, 32.0, 80.0, 80.0))
    assert max(edge.max() for edge in (shape[0], shape[-1], shape[:, 0], shape[:, -1])) == 0
