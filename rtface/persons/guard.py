"""Limits a track's correction so that it preserves the person."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp

from rtface.correct.mask import smooth_ramp
from rtface.util.fade import MOST_A_FRAME

BLUR = 2.5
"""Standard deviation, pixels of a chip of 150, of the blur before input and output are compared. Restored detail also
raises the network's distance of output and input, above all for a poor input. After the blur, a faithful restoration
changes the distance little, and another person's features much (docs/persons.md has the figures)."""
Limits = tuple[float, float]
"""Distance of the blurred chips' embeddings up to which a correction is kept fully, and from which only
`MIN_KEPT_SHARE` of it."""
INVENTIVE: Limits = (0.07, 0.12)
"""For engines that invent faces."""
FILTERING: Limits = (0.09, 0.15)
"""For other engines. Of the frames of a call, restored by rtface's own engines, 1 in 100 is above 0.083."""
MIN_KEPT_SHARE = 0.04
"""The kept share of a correction that shows another person. It is not 0, because the guard has to see the
engine's result to notice when it is right again."""
_MEASUREMENT_WEIGHT = 0.5
"""Weight of a new measurement in the mean of a track's measurements."""
_TAU_S, _MAX_CHANGE_PER_S = 0.25, 2.0
"""Time constant, and maximum change of the share in a second, at a sufficient frame rate."""


def kept_at(drift: float, limits: Limits) -> float:
    """Returns the share of a correction to keep at a distance, `MIN_KEPT_SHARE`…1."""
    return 1.0 - (1.0 - MIN_KEPT_SHARE) * smooth_ramp(drift, *limits)


@dataclass(slots=True)
class GuardedTrack:
    """Holds the guard's state of one track. Times are seconds; no clock is read.

    Attributes:
        drift: mean distance of output and input at full strength, over the last measurements; None before the first.
        kept: the kept share of the correction on the last frame.
        time: time of the last frame; None before the first.
        due: time of the next measurement of the drift.
    """

    drift: float | None = None
    kept: float = 1.0
    time: float | None = None
    due: float = float("-inf")

    def advance(self, time: float, limits: Limits | None) -> float:
        """Returns the share to keep at `time`, which changes smoothly.

        Args:
            limits: limits of the engine; None for an unguarded engine, whose share returns to 1.
        """
        target = 1.0 if limits is None or self.drift is None else kept_at(self.drift, limits)
        elapsed = max(0.0, time - self.time) if self.time is not None else 0.0
        step = (target - self.kept) * (1.0 - exp(-elapsed / _TAU_S))
        limit = min(_MAX_CHANGE_PER_S * elapsed, MOST_A_FRAME)
        self.kept += min(max(step, -limit), limit)
        self.time = time
        return self.kept

    def learn(self, time: float, drift: float, limits: Limits, period: float) -> bool:
        """Adds a measurement. Returns whether it was the first, which sets the share at once.

        Args:
            drift: distance of output and input, at full strength.
            limits: limits of the engine.
            period: seconds to the next measurement.
        """
        first = self.drift is None
        self.drift = drift if self.drift is None else self.drift + _MEASUREMENT_WEIGHT * (drift - self.drift)
        self.due = time + period
        if first:
            self.kept = kept_at(drift, limits)
        return first

    def is_due(self, time: float) -> bool:
        """Returns whether a measurement is due, also if time went back."""
        return time >= self.due or (self.time is not None and time < self.time)
