"""Measures and limits the time that faces cost in a live run."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf

# -- cost of faces ---------------------------------------------------------------------------------------------------
# Time for a crop of 256 pixels on one core: on a keyframe without its engine, and on a frame between keyframes.
_KEYFRAME_S, _CARRIED_FRAME_S = 0.0045, 0.0025
# Weight of a new measurement that takes no longer than a frame; a longer one weighs more, up to this many periods.
_MEASUREMENT_WEIGHT, _STALL_PERIODS = 0.15, 3.0
# Maximum ratio of a measurement to its expectation, because a single stall does not mean load.
_OUTLIER_RATIO = 2.5
# Number of measurements that replace the estimate of an engine's cost. The result is limited to this multiple of the
# estimate, because the computer may have been busy all the time.
_TRUSTED_MEASUREMENTS, _BASELINE_RATIO_MAX = 20, 3.0
# Age up to which a measurement is recent.
_RECENT_FRAMES = 30
# Decay of slowness on a frame without a measurement.
_SLOWNESS_DECAY_PER_FRAME = 0.02

# -- time for faces --------------------------------------------------------------------------------------------------
# Maximum and minimum share of the period for faces, and the recovery of that share.
_SHARE_MAX, _SHARE_MIN, _SHARE_RECOVERY_PER_S = 0.85, 0.1, 0.1
# Ratio of the new share to the cost of the faces that made frames late.
_SHARE_CUT = 0.75
# Lateness means load if it lasts this long, with fewer on-time frames than this between two late ones. So does this
# number of separate stalls within this time.
_STREAK_S, _STREAK_GAP_FRAMES = 0.35, 3
_STALLS_COUNT, _STALLS_S = 5, 3.0
# Faces that take less than this share of the period do not make frames late.
_BLAMELESS_SHARE = 0.3

EngineUse = tuple[str, bool]
"""Engine name, and whether it runs on the frame; if not, its last correction is carried."""


@dataclass(slots=True)
class _Cost:
    """Seconds for a face: recent, minimum, and estimated before any measurement. Also counts the measurements, and the
    frames since the last measurement."""

    recent: float
    minimum: float
    nominal: float
    count: int = 0
    since: int = 0


@dataclass(slots=True)
class CostModel:
    """Predicts the seconds of a frame from measurements; for `rtface.quality.governor`.

    Attributes:
        period: seconds from one frame to the next.
        share: share of the period that faces may take now.
        limit: seconds that the run's processor budget allows for the faces of a frame.
        warming: whether the run has just begun, so that slow frames do not predict later ones.
    """

    period: float
    share: float = _SHARE_MAX
    limit: float = inf
    warming: bool = False
    _costs: dict[EngineUse, _Cost] = field(default_factory=dict[EngineUse, _Cost])
    _slow: float = 1.0  # recent costs divided by minimum costs
    _episodes: deque[float] = field(default_factory=lambda: deque[float](maxlen=_STALLS_COUNT))  # start times
    _since_late: int = _STREAK_GAP_FRAMES  # frames since the last late one
    _time: float | None = None

    @property
    def slow(self) -> float:
        """Recent costs divided by minimum costs, at least 1."""
        return max(self._slow, 1.0)

    @property
    def room(self) -> float:
        """Seconds available for the faces of a frame."""
        return min(self.share * self.period, self.limit)

    def waits(self, seconds: float) -> bool:
        """Returns whether frames wait for an engine that takes `seconds` per crop."""
        return seconds <= self.period

    def learn(self, engine: str, seconds: float) -> None:
        """Adds an estimate of a new engine's seconds per crop. A measured engine keeps its costs."""
        if (engine, True) not in self._costs:
            key = _KEYFRAME_S + (seconds if self.waits(seconds) else 0.0)
            self._costs[engine, True] = _Cost(key, key, key)
            self._costs[engine, False] = _Cost(_CARRIED_FRAME_S, _CARRIED_FRAME_S, _CARRIED_FRAME_S)

    def cost(self, engine: str, *, key: bool, best: bool = False) -> float:
        """Returns the seconds for a face on a frame. Without a recent measurement, returns the minimum multiplied by
        the current slowness. With `best`, returns the minimum, which a busy computer's measurements exceed."""
        cost = self._costs.get((engine, key))
        if cost is None:
            self.learn(engine, 0.01)
            cost = self._costs[engine, key]
        if best:
            return min(cost.minimum, cost.nominal)
        return cost.recent if cost.count and cost.since < _RECENT_FRAMES else cost.minimum * self.slow

    def spent(self, seconds: float, done: Sequence[EngineUse]) -> None:
        """Adds a measurement: the seconds of a frame for these faces."""
        for cost in self._costs.values():
            cost.since += 1
        if not done:
            self._slow += _SLOWNESS_DECAY_PER_FRAME * (1.0 - self._slow)
            return
        expected = sum(self.cost(engine, key=key) for engine, key in done)
        if self.warming and seconds > expected:
            return
        # A long frame counts as the number of frames that it took, up to a limit, because a stall does not mean load.
        weight = 1.0 - (1.0 - _MEASUREMENT_WEIGHT) ** min(max(1.0, seconds / self.period), _STALL_PERIODS)
        change = weight * (min(seconds / expected, _OUTLIER_RATIO) - 1.0)
        for engine, key in set(done):
            cost = self._costs[engine, key]
            cost.recent = self.cost(engine, key=key) * (1.0 + change)
            cost.count, cost.since = cost.count + 1, 0
            if cost.count == _TRUSTED_MEASUREMENTS:
                cost.minimum = min(cost.recent, _BASELINE_RATIO_MAX * cost.nominal)
            cost.minimum = min(cost.minimum, cost.recent)
        involved = [self._costs[kind] for kind in done]
        self._slow = sum(c.recent for c in involved) / sum(c.minimum for c in involved)

    def lend(self, cost: float) -> bool:
        """Allows faces the maximum share for a trial, and forgets late frames. Returns False, and changes nothing, if
        `cost` per frame exceeds that share or the processor budget."""
        if cost > min(_SHARE_MAX * self.period, self.limit):
            return False
        self.share = _SHARE_MAX
        self._reset_lateness()
        return True

    def late(self, now: float, frames: int, cost: float) -> str:
        """Counts late or dropped frames since the last call. Faces took `cost` seconds per frame.

        A single stall, however many frames it costs, does not mean load: lateness has to last, or to recur several
        times. Faces that take little of a frame's time are not the cause. If faces may be the cause, returns the reason
        and reduces their share, which recovers slowly. Otherwise returns "".
        """
        elapsed, self._time = max(0.0, now - self._time) if self._time is not None else 0.0, now
        if not frames:
            self._since_late += 1
            if self._since_late >= _STREAK_GAP_FRAMES:
                self.share = min(_SHARE_MAX, self.share + _SHARE_RECOVERY_PER_S * elapsed)
            return ""
        if self._since_late >= _STREAK_GAP_FRAMES or not self._episodes:
            self._episodes.append(now)
        self._since_late = 0
        is_lasting = now - self._episodes[-1] >= _STREAK_S
        is_frequent = len(self._episodes) == _STALLS_COUNT and now - self._episodes[0] <= _STALLS_S
        if (not is_lasting and not is_frequent) or cost < _BLAMELESS_SHARE * self.period:
            return ""
        self._reset_lateness()
        self.share = min(_SHARE_MAX, max(_SHARE_MIN, _SHARE_CUT * cost / self.period))
        return "frames come too late"

    def _reset_lateness(self) -> None:
        self._episodes.clear()
        self._since_late = _STREAK_GAP_FRAMES
