"""What is remembered of a keyframe, for the frames between keyframes."""

from __future__ import annotations

import numpy as np
import pytest

from rtface.correct.reproject import Reprojection


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_the_gate_opens_again_where_weights_fade(share: float) -> None:
    """A patch that has changed gets the share of its new keyframe once the gate is open."""
    rng = np.random.default_rng(0)
    before = rng.uniform(0.4, 0.6, (3, 128, 128)).astype(np.float32)
    now, mask = before.copy(), np.ones((128, 128), np.float32)
    now[:, 32:80, 32:80] = np.where(np.arange(48) // 12 % 2, 1.0, 0.0)
    shaped, state = (np.full((128, 128, 3), 0.1, np.float32), mask), Reprojection()
    state.key(before, shaped, 1.0, 0.0, 1.0)
    closed, _ = state.carry(now, 1.0, 0.04, 1.0)
    at_once, _ = state.key(now, shaped, 1.0, 0.06, 1.0, share)
    opened, _ = state.carry(now, 1.0, 0.3, 1.0)
    values = [float(d[48:64, 48:64].mean()) for d in (closed, at_once, opened)]
    assert values[0] == 0.0 and values[1] < 0.5 * values[2]
    assert values[2] == pytest.approx(0.1 * share, abs=0.005)
