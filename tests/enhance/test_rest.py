"""Faces at rest: their corrections are kept in noise and flickering light, and no movement is missed."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from rtface.enhance.rest import StillFaces
from rtface.frame import Frame
from rtface.stats import Stats
from tests.enhance.key_frames import Every, Sharpening, film, inside, luma
from tests.enhance.test_key_frames import live, run, step
from tests.pipeline.fakes import FakeEngines, portrait

OVAL = np.array([(40, 30), (216, 30), (216, 226), (40, 226)], float)


def picture() -> np.ndarray:
    """A face of 256×256, whose values leave room for noise."""
    face = cv2.resize(portrait(400, 400, scale=2.0, blur=0.0)[0][72:328, 72:328], (256, 256))
    return 40 + 0.7 * face[..., 1].astype(float)


def noisy(face: np.ndarray, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    return np.rint(face + np.random.default_rng(seed).normal(0, noise, face.shape)).astype(np.uint8)


@pytest.mark.parametrize(("noise", "light"), [(0, 0), (1, 0), (1.5, 0.02), (2, -0.02)])
def test_noise_and_light_are_no_movement(noise, light) -> None:
    face = picture()
    before = StillFaces(noisy(face, noise, 99), [OVAL])
    assert sum(before.are_on(noisy(face * (1 + light), noise, seed)) for seed in range(40)) >= 38


@pytest.mark.parametrize("noise", [0, 1.5, 3])
def test_a_hundred_small_movements_are_seen(noise) -> None:
    """Lids, brows and lips that move by one to three samples, somewhere in the face."""
    face, rng, seen = picture(), np.random.default_rng(1), 0
    before = StillFaces(noisy(face, noise, 99), [OVAL])
    edges = np.abs(cv2.Sobel(cv2.GaussianBlur(face, (0, 0), 1.5), cv2.CV_64F, 0, 1)) > 25
    places = rng.permutation(np.argwhere(edges[60:200, 60:200]) + 54)[:100]
    for number, (y, x) in enumerate(places.tolist()):
        moved = face.copy()
        part = np.s_[y : y + 12, x - 12 : x + 24]
        moved[part] = np.roll(face, number % 3 + 1, 0)[part]
        seen += not before.are_on(noisy(moved, noise, number))
    assert seen == len(places) == 100


def test_a_slow_change_is_seen_in_the_end() -> None:
    face = picture()
    before = StillFaces(noisy(face, 1, 99), [OVAL])
    mouth = np.exp(-((np.arange(256)[:, None] - 180) ** 2 + (np.arange(256) - 128) ** 2) / 200)
    slow = [before.are_on(noisy(face + 0.2 * n * mouth, 1, n)) for n in range(60)]
    assert all(slow[:3])
    assert slow.index(False) <= 25


def test_a_face_in_strong_noise_never_rests() -> None:
    """Its noise would return, because engines remove it."""
    face = picture()
    before = StillFaces(noisy(face, 5, 99), [OVAL])
    assert not any(before.are_on(noisy(face, 5, seed)) for seed in range(20))


def test_too_small_a_face_never_rests() -> None:
    face = picture()
    assert not StillFaces(noisy(face), [OVAL / 8]).are_on(noisy(face))


def noisy_film(count: int) -> list[Frame]:
    portrayed, points = portrait()
    rng = np.random.default_rng(0)
    noise = [rng.normal(0, 1.0, portrayed.shape) for _ in range(count)]
    return film([np.clip(portrayed + one, 0, 255).astype(np.uint8) for one in noise], [points] * count)


def test_engines_rest_until_something_moves() -> None:
    engine, stats = Sharpening(), Stats()
    enhance = live(FakeEngines(engine), Every(1), stats)
    run(enhance, noisy_film(20))
    calls = engine.calls
    assert 3 <= calls < 9
    assert stats.counters["frames_at_rest"] == 20 - calls
    assert stats.counters["frames_corrected"] == 20
    assert enhance.rests_on(noisy_film(21)[20])
    closed, points = portrait()
    x, y = points[0].astype(int)
    closed[y - 4 : y + 4, x - 8 : x + 8] = closed[y + 20 : y + 28, x - 8 : x + 8]
    assert not enhance.rests_on(film([closed], [points])[0])
    run(enhance, film([closed], [points]))
    assert engine.calls == calls + 1


def test_a_changed_strength_ends_the_rest() -> None:
    engine = Sharpening()
    enhance = live(FakeEngines(engine), Every(1))
    run(enhance, noisy_film(12))
    calls, enhance.strength = engine.calls, 0.5
    run(enhance, noisy_film(13)[12:])
    assert engine.calls == calls + 1


def test_a_film_never_rests() -> None:
    engine = Sharpening()
    run(step(engine, None), noisy_film(12))
    assert engine.calls == 12


@pytest.mark.parametrize("light", [0.0, 3.0])
def test_a_resting_face_looks_as_with_its_engine(light) -> None:
    def films() -> list[Frame]:
        return [*noisy_film(12), *film([np.clip(p.astype(float) + light, 0, 255).astype(np.uint8)] * 2, [q] * 2)]

    p, q = portrait()
    every, kept = run(step(Sharpening(), None), films()), run(live(FakeEngines(Sharpening()), Every(1)), films())
    part = inside(noisy_film(1)[0])
    for a, b, before in zip(every, kept, films(), strict=True):
        change = np.sqrt(np.square(a[part] - luma(before)[part]).mean())
        assert np.sqrt(np.square(a[part] - b[part]).mean()) < min(1.5, 0.4 * change)
