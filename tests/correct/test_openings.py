"""Corrections of eyes and mouth: an iris is drawn on no lid, and no mouth is closed."""

from __future__ import annotations

import numpy as np
import pytest

from rtface.correct import CorrectionState, ShapingOptions, openings_of
from tests.correct.whole_crop import shape

OPTIONS = ShapingOptions(grain="none", gate=False)
EYES = np.array([[0.36, 0.48], [0.64, 0.48]])
MOUTH = np.array([0.5, 0.75])


def mesh_of(size: int, left: float = 0.35, right: float = 0.35, lips: float = 0.0) -> np.ndarray:
    """478 points: eyes a seventh of the crop wide and a mouth a quarter wide, open by so many of their widths."""
    mesh = np.full((478, 2), size / 2.0)
    mouth = (78, 308), ((13, 14), (82, 87), (312, 317))
    eyes = (((33, 133), ((159, 145), (158, 153), (160, 144))), ((362, 263), ((386, 374), (385, 380), (387, 373))))
    for ((one, other), edges), at, share, opened in zip(
        (*eyes, mouth), (*EYES, MOUTH), (1 / 7, 1 / 7, 1 / 4), (left, right, lips), strict=True
    ):
        centre, width = at * size, share * size
        mesh[one], mesh[other] = centre - (width / 2, 0), centre + (width / 2, 0)
        for k, (upper, lower) in enumerate(edges):
            middle = centre + ((0, -0.2, 0.2)[k] * width, 0)
            mesh[upper], mesh[lower] = middle - (0, opened * width / 2), middle + (0, opened * width / 2)
    return mesh


def corrected(r: np.ndarray, c: np.ndarray, mesh: np.ndarray, state: CorrectionState, time: float) -> np.ndarray:
    size = c.shape[1]
    mask = np.ones((size, size), np.float32)
    return shape(r, c, mask, state, OPTIONS, time=time, openings=openings_of(mesh, size))[0].transpose(2, 0, 1)


def drawn(size: int, seconds: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """A flat face, and an answer with a dark iris in each eye and one on the cheek."""
    c = np.full((3, size, size), 0.6, np.float32)
    r, (y, x) = c.copy(), np.mgrid[:size, :size] + 0.5
    for u, v in (*EYES * size, (0.5 * size, 0.68 * size)):
        r[:, np.hypot(x - u, y - v) < 0.02 * size] = 0.3
    return r, c


def at(d: np.ndarray, place: np.ndarray) -> float:
    return float(d[1, int(place[1] * d.shape[1]), int(place[0] * d.shape[1])])


@pytest.mark.parametrize("size", [128, 256, 512])
def test_no_iris_is_drawn_on_a_lowered_lid(size: int) -> None:
    r, c = drawn(size)
    values: dict[float, float] = {}
    for gap in (0.05, 0.12, 0.16, 0.30):
        d = corrected(r, c, mesh_of(size, left=gap), CorrectionState(), 0.0)
        values[gap] = at(d, EYES[0])
        assert at(d, EYES[1]) < -0.2 > at(d, np.array([0.5, 0.68])), "the open eye and the cheek"
    assert values[0.05] == 0 > values[0.12] > values[0.16] > values[0.30]
    assert values[0.30] == pytest.approx(at(corrected(r, c, mesh_of(size), CorrectionState(), 0.0), EYES[0]))


def test_an_eye_that_opens_gets_its_correction_slowly() -> None:
    r, c = drawn(256)
    state, times = CorrectionState(), np.arange(16) / 30
    gaps = np.concatenate([[0.35, 0.35, 0.22], np.full(4, 0.05), np.full(9, 0.35)])
    found = -np.array(
        [at(corrected(r, c, mesh_of(256, g, g), state, t), EYES[0]) for g, t in zip(gaps, times, strict=True)]
    )
    assert found[2] < 0.3 * found[1], "a closing lid is followed ahead of the tracker"
    assert (found[3:7] == 0).all()
    assert (np.diff(found[7:15]) > 0).all() and np.diff(found[7:]).max() < 0.2 * found[0]
    assert found[15] == pytest.approx(found[0])


def test_narrow_eyes_are_corrected_like_others() -> None:
    r, c = drawn(256)
    wide = at(corrected(r, c, mesh_of(256), CorrectionState(), 0.0), EYES[0])
    narrow, asleep = CorrectionState(), CorrectionState()
    for time in np.arange(0, 30, 0.1):
        found = at(corrected(r, c, mesh_of(256, 0.16, 0.16), narrow, time), EYES[0])
        slit = at(corrected(r, c, mesh_of(256, 0.07, 0.07), asleep, time), EYES[0])
    assert found == pytest.approx(wide)
    assert abs(slit) < 0.3 * abs(wide), "lids that stay lowered are no narrow eyes"


def speaking(size: int, kept: float) -> tuple[np.ndarray, np.ndarray]:
    """A mouth with a dark interior and teeth, in a noisy crop, and an answer that keeps this much of their contrast."""
    rng = np.random.default_rng(1)
    clean, (y, x) = np.full((size, size), 0.6, np.float32), (np.mgrid[:size, :size] + 0.5) / size - 0.5
    interior = np.hypot(x / 0.11, (y - 0.25) / 0.05) < 1
    clean[interior] = 0.15
    clean[interior & (y < 0.235)] = 0.8
    inside = np.hypot(x / 0.16, (y - 0.25) / 0.10) < 1
    r = np.where(inside, 0.5 + kept * (clean - 0.5), clean)
    c = clean + rng.normal(0, 0.02, clean.shape).astype(np.float32)
    return np.repeat(r[None], 3, axis=0).astype(np.float32), np.repeat(c[None], 3, axis=0)


@pytest.mark.parametrize("size", [200, 256, 512])
def test_an_open_mouth_stays_open(size: int) -> None:
    teeth, dark = MOUTH - (0, 0.025), MOUTH + (0, 0.02)

    def contrast(kept: float, lips: float) -> float:
        r, c = speaking(size, kept)
        d = corrected(r, c, mesh_of(size, lips=lips), CorrectionState(), 0.0)
        out = np.stack([np.ascontiguousarray(p) for p in c + d]).mean(axis=0)
        u, v = (
            out[
                int((p[1] - 0.006) * size) : int((p[1] + 0.006) * size) + 1,
                int((p[0] - 0.03) * size) : int((p[0] + 0.03) * size),
            ].mean()
            for p in (teeth, dark)
        )
        return (u - v) / 0.65

    assert contrast(0.4, lips=0.0) < 0.65, "closed lips set no limit"
    assert contrast(0.4, lips=0.3) > 0.85, "teeth and interior stay"
    assert contrast(1.3, lips=0.3) > 1.1, "a clearer mouth passes"


def test_openings_outside_the_crop_are_no_fault() -> None:
    r, c = drawn(128)
    outside = mesh_of(128, 0.05, 0.05, 0.3) + (300.0, -50.0)
    assert np.isfinite(corrected(r, c, outside, CorrectionState(), 0.0)).all()
    assert openings_of(None, 128) == ()
