"""The whole way from an engine's answer to the correction."""

import cv2
import numpy as np
import pytest

from rtface.correct import CorrectionState, ShapingOptions
from rtface.correct.mask import face_mask
from rtface.errors import EngineError
from tests.correct.whole_crop import shape

SIZE = 256
PLAIN = ShapingOptions(grain="none", gate=False)


@pytest.fixture
def pair(face):
    """A blurred crop and a sharper, warmer answer."""
    c = np.stack([cv2.GaussianBlur(p, (0, 0), 2) for p in face(SIZE)])
    r = face(SIZE).copy()
    r[0] = np.clip(r[0] + 0.05, 0, 1)
    return r, c


def once(r, c, options, **kwargs):
    return shape(r, c, face_mask(SIZE), CorrectionState(), options, time=0.0, **kwargs)


def test_shapes_and_support(pair):
    for options in (ShapingOptions(), PLAIN, ShapingOptions(average=True)):
        d, mask = once(*pair, options)
        assert d.shape == (SIZE, SIZE, 3) and d.dtype == np.float32
        assert mask.shape == (SIZE, SIZE) and mask.dtype == np.float32
        assert (d[mask == 0] == 0).all() and (mask[face_mask(SIZE) == 0] == 0).all()
        assert np.abs(d).max() > 0.02


def test_inputs_are_left_alone(pair):
    before = [p.copy() for p in pair]
    for options in (ShapingOptions(), ShapingOptions(average=True)):
        state = CorrectionState()
        for k in range(3):
            shape(*pair, face_mask(SIZE), state, options, time=k / 25)
    for a, b in zip(pair, before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_strength_scales_and_zero_is_nothing(pair):
    full, _ = once(*pair, PLAIN)
    half, _ = once(*pair, ShapingOptions(strength=0.5, grain="none", gate=False))
    np.testing.assert_allclose(half, 0.5 * full, atol=1e-6)
    none, mask = once(*pair, ShapingOptions(strength=0.0))
    assert not none.any() and not mask.any()


def test_an_engine_that_changes_nothing_gives_nothing(pair):
    _, c = pair
    d, _ = once(c, c, ShapingOptions(grain="none"))
    assert not d.any()


def test_occlusion_head_is_obeyed(pair):
    occlusion = np.zeros((SIZE, SIZE), np.float32)
    occlusion[:, : SIZE // 2] = 1.0
    d, mask = once(*pair, PLAIN, occlusion=occlusion)
    free, _ = once(*pair, PLAIN)
    assert not d[:, : SIZE // 2].any() and not mask[:, : SIZE // 2].any()
    np.testing.assert_array_equal(d[:, SIZE // 2 :], free[:, SIZE // 2 :])


def test_the_gate_closes_at_once_and_opens_slowly(face):
    r = face(SIZE)
    covered = r.copy()
    covered[:, 170:215, 60:200] = np.array([0.2, 0.3, 0.6], np.float32)[:, None, None]
    mouth = (slice(180, 205), slice(110, 150))
    state, seen = CorrectionState(), []
    sharper = np.clip(r + 0.02 * (r - 0.5), 0, 1)
    for k in range(12):
        c = covered if 2 <= k < 4 else r
        _, mask = shape(sharper, c, face_mask(SIZE), state, ShapingOptions(grain="none"), time=k / 25)
        seen.append(float(mask[mouth].mean()))
    assert seen[1] > 0.9 and seen[2] < 0.3 and seen[3] < 0.3
    assert seen[4] < 0.6 < seen[10] and seen[11] > 0.9
    state.reset()
    _, mask = shape(sharper, r, face_mask(SIZE), state, ShapingOptions(grain="none"), time=1.0)
    assert mask[mouth].mean() > 0.9


def test_averaging_steadies_a_flickering_engine(face):
    rng = np.random.default_rng(0)
    spread = {}
    for average in (False, True):
        state, frames = CorrectionState(), []
        for k in range(16):
            c = (face(SIZE) + rng.normal(0, 0.01, (3, SIZE, SIZE))).astype(np.float32)
            flicker = cv2.GaussianBlur(rng.normal(0, 0.3, (SIZE, SIZE, 3)), (0, 0), 3).transpose(2, 0, 1)
            r = (face(SIZE) + flicker).astype(np.float32)
            d, _ = shape(r, c, face_mask(SIZE), state, ShapingOptions(grain="none", average=average), time=k / 25)
            frames.append((c + d.transpose(2, 0, 1))[:, 90:200, 80:180])
        spread[average] = float(np.std(frames[6:], axis=0).mean())
    assert spread[True] < 0.6 * spread[False]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_answers_are_refused_and_reset_the_track(value, pair):
    r, c = pair
    state = CorrectionState()
    shape(r, c, face_mask(SIZE), state, ShapingOptions(), time=0.0)
    assert state.gate is not None
    broken = r.copy()
    broken[1, 3, 250] = value  # beside the mask too: nothing is known of what else is wrong
    with pytest.raises(EngineError, match="NaN or infinite"):
        shape(broken, c, face_mask(SIZE), state, ShapingOptions(), time=0.04)
    assert state.gate is None
    again = shape(r, c, face_mask(SIZE), state, ShapingOptions(), time=0.08)
    np.testing.assert_array_equal(again[0], once(r, c, ShapingOptions())[0])
