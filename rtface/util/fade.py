"""Limits how fast an applied value may change between frames."""

from __future__ import annotations

MOST_A_FRAME = 0.05
"""Maximum change of a strength or share from one frame to the next, except at cuts."""


def faded(now: float, target: float, passed: float, within: float) -> float:
    """Returns `now`, moved towards `target`.

    Args:
        now: value used on the previous frame.
        target: value to reach.
        passed: seconds since the previous frame.
        within: seconds for a change by 1. At a low frame rate it takes longer, because of `MOST_A_FRAME`.
    """
    step = min(max(passed, 0.0) / within, MOST_A_FRAME)
    return min(max(target, now - step), now + step)
