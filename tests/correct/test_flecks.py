"""Where a correction is left out because a crop shows something on one frame only."""

from __future__ import annotations

import cv2
import numpy as np

from rtface.correct import face_mask
from rtface.correct.colour import CELLS
from rtface.correct.controls import CorrectionState
from rtface.correct.flecks import FleckLimit
from rtface.correct.shape import shape
from rtface.protocols import ShapingOptions


def face(shift: int = 0, flecks: int = 0, seed: int = 0) -> np.ndarray:
    """Averages of a crop: soft shapes and noise; the shapes are shifted, and with dark and light spots."""
    r = np.random.default_rng(1)
    out = cv2.GaussianBlur(r.uniform(0, 1, (CELLS, CELLS + 9)).astype(np.float32), (0, 0), 3.0)
    out = 0.5 + 1.5 * (out - out.mean())[:, shift:shift + CELLS]
    out += np.random.default_rng(seed).normal(0, 0.006, out.shape).astype(np.float32)
    for k in range(flecks):
        out[20 + 12 * k:22 + 12 * k, 30:32] = k % 2
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
            correction, _ = shape(sharper, crop, face_mask(256), state, ShapingOptions(grain="none", gate=False),
                                  time=t / 25)
        changes.append(float(np.abs(correction[118:128, 122:133]).max()))
    assert changes[0] < 0.01 < 0.1 < changes[1]
