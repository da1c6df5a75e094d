"""Limits how fast an applied value may change between frames."""

from __future__ import annotations

MOST_A_FRAME = 0.05
"""The most that a strength or share changes from one frame to the next, apart from cuts."""


def faded(now: float, target: float, passed: float, within: float) -> float:
    """Returns `now`, moved towards `target`.

    Args:
        now: value that applied on the previous frame.
        target: value to reach.
        passed: seconds since the previous frame.
        within: seconds for a change by 1. It takes longer if frames are few, because of `MOST_A_FRAME`.
    """
    step = min(max(passed, 0.0) / within, MOST_A_FRAME)
    return min(max(target, now - step), now + step)
