from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import cv2
import numpy as np
import pytest

from rtface.analysis.analyzer import analyze_face
from rtface.analysis.measure import Analysis
from rtface.frame import Bytes, Face
from tests.analysis.conftest import BOX, CORE, POINTS, PictureView
from tests.analysis.degrade import DEGRADATIONS, defocus, gain, motion, noise

Look = Callable[[Bytes], Analysis]

# Motion also takes detail, a hard mosaic or heavy blocks also look like other things: what may come along.
COMPANIONS = {"motion_blur": {"low_resolution"}, "pixelation": {"motion_blur"}}


def test_a_clean_face_reads_clean(portrait: Bytes, look: Look) -> None:
    found = look(portrait)
    assert max(found.scores().values()) < 0.05
    assert found.detail == pytest.approx(BOX[2] - BOX[0])


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_a_score_rises_with_its_own_degradation(portrait: Bytes, look: Look, name: str) -> None:
    degrade, levels = DEGRADATIONS[name]
    scores = [getattr(look(degrade(portrait, level)), name) for level in levels]
    assert all(b > a for a, b in pairwise(scores)), scores
    assert scores[-1] > 0.5
    assert all(0 <= s <= 1 for s in scores)


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_a_degradation_does_not_read_as_another(portrait: Bytes, look: Look, name: str) -> None:
    degrade, levels = DEGRADATIONS[name]
    for level in levels:
        scores = look(degrade(portrait, level)).scores()
        others = {k: v for k, v in scores.items() if k != name and k not in COMPANIONS.get(name, set())}
        assert max(others.values()) < 0.2, (level, others)
        assert all(v < 0.3 for k, v in scores.items() if k in COMPANIONS.get(name, set()))


def test_blur_is_not_noise_nor_compression_nor_motion(portrait: Bytes, look: Look) -> None:
    for sigma in (1.0, 2.0, 4.0):
        scores = look(defocus(portrait, sigma)).scores()
        assert scores.pop("low_resolution") > 0.3
        assert max(scores.values()) < 0.2, scores


@pytest.mark.parametrize("angle", [0.0, 30.0, 75.0, 90.0, 135.0])
def test_the_direction_of_the_motion(portrait: Bytes, look: Look, angle: float) -> None:
    found = look(motion(portrait, 12, angle))
    assert found.motion_blur > 0.3
    assert abs((found.motion_angle - angle + 90) % 180 - 90) < 12


def test_a_dark_skinned_face_in_good_light_is_not_under_exposed(portrait: Bytes, look: Look) -> None:
    # Skin at a third of its brightness, but eyes and teeth as bright as they are: reflectance, not light.
    out = portrait.astype(np.float32)
    gray = out.mean(axis=2, keepdims=True)
    dark = np.where(gray > 205, out, out * 0.35)
    assert look(np.rint(dark).astype(np.uint8)).under_exposure < 0.2


def test_light_that_clips_is_no_hole(portrait: Bytes, look: Look) -> None:
    core = portrait[CORE]
    y, x = np.mgrid[: core.shape[0], : core.shape[1]]
    away = np.hypot(y - core.shape[0] / 2, x - core.shape[1] / 2) - core.shape[0] / 8
    shown = portrait.copy()
    light = np.clip(255 - 18 * np.maximum(away, 0), 0, 255)[..., None]
    shown[CORE] = np.maximum(core, light).astype(np.uint8)  # falls off within some pixels, as on wet or oily skin
    assert look(shown).missing == 0
    shown = gain(portrait, 0.45)
    shown[CORE] = np.where(away[..., None] <= 0, 255, shown[CORE]).astype(np.uint8)
    assert look(shown).missing > 0.3  # white tape


def test_a_face_beyond_the_engines_detail_is_not_called_soft(portrait: Bytes) -> None:
    # Four times as large by interpolation: its pixels are soft, but shrunk to what an engine sees it is as sharp as
    # a face of 285 px with 92 px of detail, and no softer for being stored even larger.
    found = []
    for factor in (4, 8):
        h, w = portrait.shape[:2]
        big = cv2.resize(portrait, (w * factor, h * factor), interpolation=cv2.INTER_CUBIC)
        face = Face(1, BOX * factor, POINTS * factor)
        found.append(analyze_face(PictureView(np.asarray(big, np.uint8)), face))
    assert found[0].detail == pytest.approx(found[1].detail, rel=0.1)
    assert found[0].detail == pytest.approx(92, rel=0.5)


def test_noise_shows_on_a_small_face(portrait: Bytes) -> None:
    small = np.asarray(
        cv2.resize(portrait, None, fx=24 / (BOX[2] - BOX[0]), fy=24 / (BOX[2] - BOX[0]), interpolation=cv2.INTER_AREA),
        np.uint8,
    )
    face = Face(1, BOX * 24 / (BOX[2] - BOX[0]), POINTS * 24 / (BOX[2] - BOX[0]))
    clean, noisy = (analyze_face(PictureView(p), face) for p in (small, noise(small, 30)))
    assert noisy.noise > clean.noise + 0.1


def test_a_face_at_the_border_and_in_a_small_picture(portrait: Bytes, face: Face) -> None:
    cut = portrait[60:190, 170:290]
    found = analyze_face(PictureView(cut), Face(1, BOX - (170, 60, 170, 60), POINTS - (170, 60)))
    assert max(found.scores().values()) < 0.1
    half = portrait[:, 225:]
    found = analyze_face(PictureView(half), Face(1, BOX - (225, 0, 225, 0), POINTS - (225, 0)))
    assert max(found.scores().values()) < 0.2


@pytest.mark.parametrize("sigma", [4.0, 6.0])
@pytest.mark.parametrize("wide", [0.6, 0.9])
def test_softness_is_seen_under_grain(portrait: Bytes, wide: float, sigma: float) -> None:
    """As on old film: the grain fills the octaves that the softness has emptied."""
    found = []
    for scale in (2.2, 1.0):  # enlarged, it has as much detail as before
        part = cv2.resize(portrait[:256, 96:352], None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        grain = np.random.default_rng(3).normal(0, 1, part.shape[:2]).astype(np.float32)
        grain = cv2.GaussianBlur(grain, (0, 0), wide)[..., None]
        shown = np.clip(np.rint(part + sigma * grain / grain.std()), 0, 255).astype(np.uint8)
        face = Face(1, (BOX - (96, 0, 96, 0)) * scale, (POINTS - (96, 0)) * scale)
        found.append(analyze_face(PictureView(shown), face).low_resolution)
    assert found[0] > 0.2 and found[1] < 0.05, found
