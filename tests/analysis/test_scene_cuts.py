"""Scene changes: cuts are seen, light, movement and people who step in are not."""

import cv2
import numpy as np
import pytest
from skimage import data

from rtface.analysis.scene_cuts import CutDetector
from tests.tracking.scenes import ArrayView, astronaut, background, paste


def scene(kind: int) -> np.ndarray:
    if kind == 0:
        return paste(background(320, 180, 3), 60, 120, 90)
    if kind == 1:
        return paste(background(320, 180, 7), 70, 200, 80, mirror=True)
    return cv2.resize(astronaut(), (320, 180))


def cuts(pictures: list[np.ndarray]) -> list[int]:
    detector = CutDetector()
    return [i for i, p in enumerate(pictures) if detector.update(ArrayView(np.ascontiguousarray(p)).thumbnail(64)[0])]


@pytest.mark.parametrize(("a", "b"), [(0, 1), (1, 2), (2, 0), (1, 0)])
def test_cut_is_seen_once_on_its_picture(a, b):
    assert cuts([scene(a)] * 4 + [scene(b)] * 4) == [4]


def test_cuts_in_gray_and_behind_black_bars():
    def barred(kind: int) -> np.ndarray:
        picture = np.zeros((240, 320, 3), np.uint8)
        picture[30:210] = cv2.cvtColor(scene(kind), cv2.COLOR_RGB2GRAY)[..., None]
        return picture

    assert cuts([barred(0)] * 3 + [barred(2)] * 3 + [barred(1)] * 3) == [3, 6]


def test_flash_is_no_cut():
    y, x = np.mgrid[:180, :320]
    glow = 150 * np.exp(-((x - 250) ** 2 + (y - 60) ** 2) / 9000)[..., None]
    flash = np.clip(scene(0) * 1.8 + 30 + glow, 0, 255).astype(np.uint8)
    assert cuts([scene(0)] * 3 + [flash] + [scene(0)] * 3) == []


def test_a_fade_is_no_cut_but_a_new_scene_after_black_is():
    out = [(scene(0) * f).astype(np.uint8) for f in np.linspace(1, 0, 9)]
    assert cuts(out + [out[-1]] * 3 + out[::-1]) == []
    back = [(scene(2) * f).astype(np.uint8) for f in np.linspace(0, 1, 9)]
    assert len(cuts(out + [out[-1]] * 3 + back)) == 1


def test_pan_zoom_and_noise_are_no_cut():
    wide = cv2.resize(data.astronaut(), (960, 540))
    rng = np.random.default_rng(0)
    assert cuts([wide[100:280, 16 * i : 16 * i + 320] for i in range(30)]) == []
    assert cuts([wide[i * 6 : 400 - i * 6, i * 9 : 700 - i * 9] for i in range(20)]) == []
    assert (
        cuts([np.clip(scene(0) + rng.normal(0, 25, (180, 320, 3)), 0, 255).astype(np.uint8) for _ in range(10)]) == []
    )
    # Each of these pictures differs from the one before no more than is usual in this scene.
    assert (
        cuts(
            [
                np.clip(scene(0) + cv2.resize(rng.normal(0, s, (23, 40, 3)), (320, 180)), 0, 255).astype(np.uint8)
                for s in np.linspace(10, 55, 27)
            ]
        )
        == []
    )


def test_somebody_steps_in_front_is_no_cut():
    hidden = scene(2).copy()
    hidden[40:, 90:210] = (30, 60, 90)
    assert cuts([scene(2)] * 3 + [hidden] * 3 + [scene(2)] * 3) == []


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 64, 3), (64, 2, 3)])
def test_tiny_pictures(shape):
    rng = np.random.default_rng(0)
    detector = CutDetector()
    for _ in range(3):
        assert detector.update(rng.integers(0, 256, shape).astype(np.uint8)) in (True, False)
