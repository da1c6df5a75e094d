"""Faces that turn and speak: only training makes them."""

from __future__ import annotations

import numpy as np

from training.crop_space import TEMPLATE_512
from training.data.face_warps import MOUTH, RELIEF, Expressions, Passing, passing
from training.data.moving_face import Actor


def test_what_passes_comes_stays_and_goes() -> None:
    blink = Passing(3, 2, 1, 4)
    assert [blink.share(t) for t in range(11)] == [0, 0, 0, 0, 0.5, 1, 1, 0.75, 0.5, 0.25, 0]
    dice = np.random.default_rng(0)
    assert all(passing(16, dice).share(0) == 0 for _ in range(50))


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
