"""No plastic face in a grainy film, no grain where there was none."""

import cv2
import numpy as np
import pytest

from rtface.correct import CorrectionState, ShapingOptions
from rtface.correct.grain import highpass
from rtface.correct.mask import face_mask
from tests.correct.whole_crop import shape

SIZE = 256
CHEEK = (slice(150, 185), slice(85, 110))
FOREHEAD = (slice(60, 90), slice(100, 150))
NECK = (slice(243, 256), slice(95, 160))


def grain(sigma: float, coarse: float, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 1, (SIZE, SIZE)).astype(np.float32)
    if coarse:
        noise = cv2.GaussianBlur(noise, (0, 0), coarse)
    return noise * np.float32(sigma / noise.std())


def level(picture: np.ndarray, where: tuple[slice, slice]) -> float:
    inside = np.zeros((SIZE, SIZE), bool)
    inside[where] = True
    luma = np.tensordot(np.array([0.299, 0.587, 0.114], np.float32), picture, 1)
    return float(np.median(np.abs(highpass(luma.astype(np.float32), 1.0)[inside]))) / 0.6745


@pytest.fixture(scope="module")
def smooth_face(face):
    """The portrait without its own fine texture."""
    return np.stack([cv2.bilateralFilter(p, 9, 0.1, 5) for p in face(SIZE)])


@pytest.mark.parametrize("sigma", [0.012, 0.03, 0.06])
@pytest.mark.parametrize("coarse", [0.0, 0.8])
def test_what_a_denoiser_takes_comes_back(sigma, coarse, smooth_face):
    levels = {}
    for mode in ("match", "none"):
        state = CorrectionState()
        ratio = []
        for k in range(4):
            c = (smooth_face + grain(sigma, coarse, k)).astype(np.float32)
            d, _ = shape(smooth_face, c, face_mask(SIZE), state, ShapingOptions(grain=mode), time=k / 25, seed=k)
            out = c + d.transpose(2, 0, 1)
            ratio.append(level(out, CHEEK) / level(c, NECK))
        levels[mode] = np.median(ratio)
    assert 0.7 < levels["match"] < 1.3
    assert levels["none"] < 0.5


def test_a_face_that_a_codec_smoothed_gets_the_neighbours_grain(smooth_face):
    """Grain beside the face but none on it: synthetic grain, the same for the same seed."""
    mask = face_mask(SIZE)
    outside = np.where(mask > 0, 0.0, 1.0).astype(np.float32)
    c = (smooth_face + grain(0.03, 0.6, 1) * outside).astype(np.float32)
    made = []
    for seed in (5, 5, 6):
        d, _ = shape(smooth_face, c, mask, CorrectionState(), ShapingOptions(gate=False), time=0.0, seed=seed)
        made.append(d)
    assert 0.6 < level(c + made[0].transpose(2, 0, 1), CHEEK) / level(c, NECK) < 1.3
    np.testing.assert_array_equal(made[0], made[1])
    assert (made[0] != made[2]).any()


def test_what_is_drawn_round_a_face_is_no_grain(smooth_face):
    """Stripes, leaves and text round a face, of which some samples have the colour of its skin."""
    mask = face_mask(SIZE)
    skin = np.median(smooth_face[:, mask > 0.9], axis=1)
    swing = np.random.default_rng(7).uniform(-0.45, 0.45, (SIZE // 2, SIZE // 2)).astype(np.float32)
    drawn = skin[:, None, None] + cv2.resize(swing, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    c = np.where(mask > 0, smooth_face, np.clip(drawn, 0, 1)).astype(np.float32)
    made = [
        shape(smooth_face, c, mask, CorrectionState(), ShapingOptions(grain=mode, gate=False), time=0.0)[0]
        for mode in ("match", "none")
    ]
    np.testing.assert_array_equal(*made)


def test_an_engine_that_amplifies_noise_is_damped(smooth_face):
    c = (smooth_face + grain(0.02, 0.0, 3)).astype(np.float32)
    r = (smooth_face + 2.0 * grain(0.02, 0.0, 3)).astype(np.float32)
    with_, without = (
        level(
            c
            + shape(r, c, face_mask(SIZE), CorrectionState(), ShapingOptions(grain=mode), time=0.0)[0].transpose(
                2, 0, 1
            ),
            CHEEK,
        )
        / level(c, NECK)
        for mode in ("match", "none")
    )
    assert without > 1.6
    assert with_ < 1.4


def test_a_clean_picture_gets_no_grain(smooth_face):
    clean = np.stack([cv2.GaussianBlur(p, (0, 0), 3) for p in smooth_face])
    r = clean.copy()
    r[:, 100:150, 100:150] += 0.02
    made = [
        shape(r, clean, face_mask(SIZE), CorrectionState(), ShapingOptions(grain=mode), time=0.0)[0]
        for mode in ("match", "none")
    ]
    np.testing.assert_array_equal(*made)
    assert made[0].any()


def test_edges_are_not_returned_as_grain(face):
    """A blurred face sharpened by the engine: giving back the crop's residual must not undo it."""
    clear = face(SIZE)
    c = np.stack([cv2.GaussianBlur(p, (0, 0), 2) for p in clear]).astype(np.float32) + grain(0.008, 0.0, 2)
    eyes = (slice(None), slice(100, 140), slice(80, 180))

    def error(picture: np.ndarray) -> float:
        """Against the clear face, below the scale of single-pixel grain."""
        apart = (picture - clear).transpose(1, 2, 0)
        return float(np.sqrt(np.mean(cv2.GaussianBlur(apart, (0, 0), 0.8).transpose(2, 0, 1)[eyes] ** 2)))

    errors = {
        mode: error(
            c
            + shape(clear, c, face_mask(SIZE), CorrectionState(), ShapingOptions(grain=mode, gate=False), time=0.0)[
                0
            ].transpose(2, 0, 1)
        )
        for mode in ("match", "none")
    }
    assert errors["match"] < 0.25 * error(c)
    assert errors["match"] < errors["none"] + 1.2 / 255


@pytest.mark.parametrize(("sigma", "stays"), [(0.004, True), (0.0006, False)])
def test_faint_texture_of_the_skin_stays(sigma, stays, smooth_face):
    """Pores that an engine smooths away; rounding and codec leave as much as the second figure."""
    skin = np.stack([cv2.GaussianBlur(p, (0, 0), 2) for p in smooth_face])
    inside = np.where(face_mask(SIZE) > 0, 1.0, 0.0).astype(np.float32)
    c = (skin + grain(sigma, 0.6, 4) * inside).astype(np.float32)
    found = {}
    for mode in ("match", "none"):
        d, _ = shape(skin, c, face_mask(SIZE), CorrectionState(), ShapingOptions(grain=mode, gate=False), time=0.0)
        found[mode] = level(c + d.transpose(2, 0, 1) - skin, FOREHEAD) / level(c - skin, FOREHEAD)
    assert found["none"] < 0.3
    assert found["match"] > 0.7 if stays else found["match"] == pytest.approx(found["none"], abs=0.02)
