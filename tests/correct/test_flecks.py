"""Flecks that no correction sharpens: what stands on one frame only, and small spots of a still."""

from __future__ import annotations

import cv2
import numpy as np

from rtface.correct.colour import CELLS
from rtface.correct.controls import CorrectionState
from rtface.correct.flecks import FleckLimit
from rtface.correct.mask import face_mask
from rtface.correct.openings import Opening
from rtface.protocols import ShapingOptions
from tests.correct.whole_crop import shape


def face(shift: int = 0, flecks: int = 0, seed: int = 0) -> np.ndarray:
    """Averages of a crop: soft shapes and noise; the shapes are shifted, and with dark and light spots."""
    r = np.random.default_rng(1)
    out = cv2.GaussianBlur(r.uniform(0, 1, (CELLS, CELLS + 9)).astype(np.float32), (0, 0), 3.0)
    out = 0.5 + 1.5 * (out - out.mean())[:, shift : shift + CELLS]
    out += np.random.default_rng(seed).normal(0, 0.006, out.shape).astype(np.float32)
    for k in range(flecks):
        out[20 + 12 * k : 22 + 12 * k, 30:32] = k % 2
    return np.repeat(out[None], 3, 0).astype(np.float32)


def test_what_stands_on_one_frame_only_is_not_corrected() -> None:
    limit = FleckLimit()
    assert limit.update(face(), 0.0) is None
    found = limit.update(face(1, flecks=2, seed=1), 0.04)
    assert found is not None
    assert not found[20:22, 30:32].any() and not found[32:34, 30:32].any()
    assert found.mean() > 0.98
    assert limit.update(face(2, seed=2), 0.08) is None


def test_motion_light_and_large_things_are_no_flecks() -> None:
    limit = FleckLimit()
    limit.update(face(), 0.0)
    assert limit.update(face(1, seed=1), 0.04) is None
    assert limit.update(face(1, seed=2) * 1.3, 0.08) is None
    hand = face(1, seed=3) * 1.3
    hand[:, 20:50, 10:40] = 0.9
    assert limit.update(hand, 0.12) is None
    assert limit.update(face(flecks=2), 9.0) is None  # nothing near in time to compare with


def test_a_fleck_is_not_sharpened() -> None:
    clean = np.repeat(np.repeat(face(), 4, 1), 4, 2)
    dusty = clean.copy()
    dusty[:, 120:126, 124:131] = 1.0
    sharper = np.stack([2 * plane - cv2.GaussianBlur(plane, (0, 0), 3.0) for plane in dusty])
    changes: list[float] = []
    for seen in ([clean, dusty], [dusty, dusty]):  # the second time it stands on the frame before, too
        state = CorrectionState()
        for t, crop in enumerate(seen):
            correction, _ = shape(
                sharper, crop, face_mask(256), state, ShapingOptions(grain="none", gate=False), time=t / 25
            )
        changes.append(float(np.abs(correction[118:128, 122:133]).max()))
    assert changes[0] < 0.01 < 0.1 < changes[1]


def test_no_spot_of_a_still_stands_out_more() -> None:
    c = np.full((3, 256, 256), 0.55, np.float32)
    c[:, 110:114, 80:84] = 0.9
    c[:, 160:164, 120:124] = 0.2
    eye, line = np.s_[:, 124:128, 170:174], np.s_[:, 190:193, 90:170]
    c[eye], c[line] = 0.9, 0.3  # a fleck on an eye looks like a glint
    c = np.stack([cv2.GaussianBlur(plane, (0, 0), 1.2) for plane in c])
    r = np.stack([1.6 * plane - 0.6 * cv2.GaussianBlur(plane, (0, 0), 3.0) for plane in c])
    iris = Opening((43.0, 31.5), (1.0, 0.0), (3.0, 2.0), 0.25, lips=False)
    film, still = (
        shape(
            r,
            c,
            face_mask(256),
            CorrectionState(),
            ShapingOptions(grain="none", gate=False, still=still),
            time=0.0,
            openings=(iris,),
        )[0].transpose(2, 0, 1)
        for still in (False, True)
    )
    for spot, way in ((np.s_[:, 110:114, 80:84], 1), (np.s_[:, 160:164, 120:124], -1), (eye, 1)):
        assert (way * film[spot]).mean() > 0.03
        assert (way * still[spot]).mean() < 0.01
    wrinkle = np.s_[:, 191, 100:160]
    np.testing.assert_allclose(still[wrinkle], film[wrinkle], atol=0.002)
