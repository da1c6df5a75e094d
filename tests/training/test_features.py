"""Lids, irises and lips that move: only training makes them. Measured with the run time's own face mesh."""

from __future__ import annotations

import numpy as np
import pytest

from training.crop_space import F64, U8
from training.data.eyes_and_mouth import Features, mesh_of
from training.export.golden_crops import golden_crops

TOP, BOTTOM, LEFT, RIGHT, IRIS = 159, 145, 33, 133, 468
UPPER_LIP, LOWER_LIP, CHIN = 13, 14, 152


@pytest.fixture(scope="module")
def still() -> tuple[U8, F64, Features]:
    picture = golden_crops(512)[0]
    mesh = mesh_of(picture)
    assert mesh is not None
    return picture, mesh, Features(mesh, np.random.default_rng(1), 1.0)


def read(picture: U8) -> F64:
    mesh = mesh_of(picture)
    assert mesh is not None
    return mesh


def opening(mesh: F64, top: int, bottom: int) -> float:
    return float(mesh[bottom, 1] - mesh[top, 1])


def test_lids_shut_and_nothing_else_moves(still: tuple[U8, F64, Features]) -> None:
    picture, mesh, features = still
    shut = picture.copy()
    for eye in features.eyes:
        eye.shut(shut, 1.0)
    assert opening(read(shut), TOP, BOTTOM) < 0.5 * opening(mesh, TOP, BOTTOM)
    below = int(mesh[BOTTOM, 1]) + 8
    assert np.array_equal(shut[below:], picture[below:])


def test_eyes_look_aside(still: tuple[U8, F64, Features]) -> None:
    picture, mesh, features = still
    aside = picture.copy()
    for eye in features.eyes:
        eye.look(aside, 0.12, 0.0)
    width = mesh[RIGHT, 0] - mesh[LEFT, 0]
    moved = read(aside)[IRIS, 0] - mesh[IRIS, 0]
    assert 0.03 * width < moved < 0.2 * width


def test_a_mouth_opens_and_shuts(still: tuple[U8, F64, Features]) -> None:
    picture, mesh, features = still
    gap = opening(mesh, UPPER_LIP, LOWER_LIP)
    wide, narrow = picture.copy(), picture.copy()
    features.mouth.open(wide, 20)
    features.mouth.open(narrow, -100)  # no further than it is open
    assert opening(read(wide), UPPER_LIP, LOWER_LIP) > gap + 8
    assert read(wide)[CHIN, 1] > mesh[CHIN, 1] + 2
    assert opening(read(narrow), UPPER_LIP, LOWER_LIP) < max(gap - 3, 3)
    above = int(mesh[[UPPER_LIP, 78, 308], 1].min()) - 8
    assert np.array_equal(wide[:above], picture[:above]) and np.array_equal(narrow[:above], picture[:above])


def test_a_film_of_features_changes_and_keeps_the_still(still: tuple[U8, F64, Features]) -> None:
    picture, mesh, _ = still
    before = picture.copy()
    features = Features(mesh, np.random.default_rng(3), 1.0)
    shown = [features.shown(picture, t) for t in range(12)]
    assert np.array_equal(picture, before)
    assert any(not np.array_equal(shown[0], s) for s in shown[1:])
    small = features.shown(np.ascontiguousarray(picture[::2, ::2]), 5)
    assert small.shape == (256, 256, 3)  # of any size


def test_a_picture_without_a_face_has_no_features() -> None:
    assert mesh_of(np.zeros((256, 256, 3), np.uint8)) is None
