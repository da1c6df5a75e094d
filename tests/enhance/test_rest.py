"""Faces at rest: their answers are kept in noise and flickering light, and no movement is missed."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from rtface.enhance.rest import Rest, cells_of, is_still
from rtface.frame import Frame
from rtface.stats import Stats
from tests.enhance.key_frames import Every, Sharpening, film, inside, luma
from tests.enhance.test_key_frames import live, run, step
from tests.pipeline.fakes import FakeEngines, portrait

CELLS = cells_of(256, 1.0)
ALL = (0, 0, CELLS, CELLS)


def picture() -> np.ndarray:
    """A face of 256×256, whose values leave room for noise."""
    return 40 + 0.7 * cv2.resize(portrait(400, 400, scale=2.0, blur=0.0)[0][72:328, 72:328], (256, 256)).astype(float)


def crop(face: np.ndarray, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    face = face + np.random.default_rng(seed).normal(0, noise, face.shape)
    return np.ascontiguousarray(np.rint(face).transpose(2, 0, 1)[None] / 255, np.float32)


@pytest.mark.parametrize(("noise", "light"), [(0, 0), (1, 0), (2, 2), (4, -2)])
def test_noise_and_light_are_no_movement(noise, light) -> None:
    face, before = picture(), crop(picture(), noise, 99)
    assert sum(is_still(crop(face + light, noise, seed), before, CELLS, ALL) for seed in range(40)) >= 39


@pytest.mark.parametrize("noise", [0, 2, 4])
def test_a_hundred_small_movements_are_seen(noise) -> None:
    """Lids, brows and lips that move by one to three samples, somewhere in the face."""
    face, rng = picture(), np.random.default_rng(1)
    before, seen = crop(face, noise, 99), 0
    edges = np.abs(cv2.Sobel(cv2.GaussianBlur(face[..., 1], (0, 0), 1.5), cv2.CV_64F, 0, 1)) > 25
    places = rng.permutation(np.argwhere(edges[60:200, 60:200]) + 54)[:100]
    for number, (y, x) in enumerate(places.tolist()):
        moved = face.copy()
        part = np.s_[y : y + 12, x - 12 : x + 24]
        moved[part] = np.roll(face, number % 3 + 1, 0)[part]
        seen += not is_still(crop(moved, noise, number), before, CELLS, ALL)
    assert seen == len(places) == 100


def test_a_slow_change_is_seen_in_the_end() -> None:
    rest, face = Rest(), picture()
    kept = [rest.update(crop(face, 1, n), CELLS, ALL) for n in range(20)]
    assert kept == [False] * 7 + [True] * 13
    slow = [rest.update(crop(face + 0.2 * n * (np.arange(256) > 128)[:, None], 1, n), CELLS, ALL) for n in range(60)]
    assert 2 <= slow.index(False) <= 30


def noisy(count: int) -> list[Frame]:
    portrayed, points = portrait()
    rng = np.random.default_rng(0)
    noise = [rng.normal(0, 1.0, portrayed.shape) for _ in range(count)]
    return film([np.clip(portrayed + one, 0, 255).astype(np.uint8) for one in noise], [points] * count)


def test_the_engine_runs_no_more_at_rest_until_something_moves() -> None:
    engine, stats = Sharpening(), Stats()
    enhance = live(FakeEngines(engine), Every(1), stats)
    run(enhance, noisy(20))
    calls = engine.calls
    assert 7 <= calls < 12
    assert stats.counters["crops:kept"] == 20 - calls
    closed, points = portrait()
    x, y = points[0].astype(int)
    closed[y - 4 : y + 4, x - 8 : x + 8] = closed[y + 20 : y + 28, x - 8 : x + 8]
    run(enhance, film([closed], [points]))
    assert engine.calls == calls + 1


def test_a_face_at_rest_looks_as_with_the_engine_on_every_frame() -> None:
    every, kept = run(step(Sharpening(), None), noisy(20)), run(live(FakeEngines(Sharpening()), Every(1)), noisy(20))
    part = inside(noisy(1)[0])
    for a, b in zip(every, kept, strict=True):
        assert np.sqrt(np.square(a[part] - b[part]).mean()) < 1.5
