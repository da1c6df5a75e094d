"""Faces that turn, speak, blink and look aside in the training films, measured with the runtime's face mesh."""

from __future__ import annotations

import numpy as np
import pytest

from training.crop_space import F64, TEMPLATE_512, U8
from training.data.eyes_and_mouth import Features, mesh_of
from training.data.face_warps import MOUTH, RELIEF, Expressions, Transient, draw_transient
from training.data.moving_face import Actor
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


def test_what_passes_comes_stays_and_goes() -> None:
    blink = Transient(3, 2, 1, 4)
    assert [blink.share(t) for t in range(11)] == [0, 0, 0, 0, 0.5, 1, 1, 0.75, 0.5, 0.25, 0]
    dice = np.random.default_rng(0)
    assert all(draw_transient(16, dice).share(0) == 0 for _ in range(50))


def test_a_turn_moves_the_nose_against_the_eyes() -> None:
    at = {name: RELIEF[round(y * 65 / 512), round(x * 65 / 512)] for name, (x, y) in
          zip(("left eye", "right eye", "nose"), TEMPLATE_512[:3], strict=True)}  # fmt: skip
    assert at["nose"] > at["left eye"] + 20 and abs(at["left eye"] - at["right eye"]) < 3


def test_speech_presses_the_mouth_together_only() -> None:
    x, y = TEMPLATE_512[3:].mean(0) * 65 / 512
    above, below = MOUTH[int(y) - 2, int(x)], MOUTH[int(y) + 3, int(x)]
    assert above < -3 and below > 3
    assert not MOUTH[:35].any()  # the eyes
    lively = Expressions(np.random.default_rng(1), 1.0)
    lively.turn[:], lively.nods, lively.speech = 0, [], np.array([0.5, 0.0])
    moved = np.ptp([lively.field(t) for t in range(20)], axis=0)
    assert moved[..., 1].max() > 5 and not moved[..., 0].any()


def test_an_actor_shows_what_its_origin_says() -> None:
    ramp = np.stack([*np.meshgrid(np.arange(512) // 2, np.arange(512) // 2), np.zeros((512, 512))], -1).astype(np.uint8)
    for lively in (0.0, 1.0):
        dice = np.random.default_rng(3)
        actor = Actor(ramp, 400, (640, 360), dice, lively=lively)
        actor.image = ramp  # it may have been mirrored
        places = dice.uniform((560, 280), (720, 440), (40, 2)).round()
        for t in (0.0, 5.0):
            canvas = np.zeros((720, 1280, 3), np.uint8)
            actor.draw(canvas, t, 1.0)
            shown = np.array([canvas[int(y), int(x), :2] for x, y in places]) * 2.0
            assert np.abs(actor.origin(places, t) - shown).max() < 4
