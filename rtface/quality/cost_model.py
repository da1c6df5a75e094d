"""Measures what the faces of a live run cost, and how much time they may take; for `rtface.quality.governor`."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf

# -- what faces cost -------------------------------------------------------------------------------------------------
# Of a crop of 256 pixels on one core: a keyframe without its engine, and a frame between keyframes.
_KEYFRAME_S, _CARRIED_FRAME_S = 0.0045, 0.0025
# Weight of a new measurement that takes no longer than a frame; a longer one weighs more, up to so many periods.
_MEASUREMENT_WEIGHT, _STALL_PERIODS = 0.15, 3.0
# Most of what was expected that a measurement counts for: a single hiccup is no load.
_OUTLIER_RATIO = 2.5
# Measurements after which what an engine costs is known better than was estimated; up to so many times the estimate,
# as the computer may have been busy all the time.
_TRUSTED_MEASUREMENTS, _BASELINE_RATIO_MAX = 20, 3.0
# For which a measurement is recent.
_RECENT_FRAMES = 30
# Part of an old slowness that goes with every frame that measures nothing.
_SLOWNESS_DECAY_PER_FRAME = 0.02

# -- what faces may take ---------------------------------------------------------------------------------------------
# Of the period: at best, and at worst; and what is given back every second.
_SHARE_MAX, _SHARE_MIN, _SHARE_RECOVERY_PER_S = 0.85, 0.1, 0.1
# Part of what faces cost that they may take once they have made frames late.
_SHARE_CUT = 0.75
# Late frames for so long are a load, where fewer than so many others lie between two of them; and so are so many
# separate stalls within so long.
_STREAK_S, _STREAK_GAP_FRAMES = 0.35, 3
_STALLS_COUNT, _STALLS_S = 5, 3.0
# Faces that take less of the period do not make frames late.
_BLAMELESS_SHARE = 0.3

EngineUse = tuple[str, bool]
"""Engine, and whether it runs on the frame or its last correction is carried."""


@dataclass(slots=True)
class _Cost:
    """Seconds that a face takes: recently, at the least, and as estimated before any measurement; how often it was
    measured, and how many frames ago."""

    lately: float
    least: float
    nominal: float
    count: int = 0
    since: int = 0


@dataclass(slots=True)
class CostModel:
    """Predicts the seconds of a frame from measurements.

    Attributes:
        period: seconds from one frame to the next.
        share: of the period that faces may take now.
        limit: seconds that the faces of a frame may take by the run's processor budget.
        warming: the run has just begun: what takes long now says nothing about later frames.
    """

    period: float
    share: float = _SHARE_MAX
    limit: float = inf
    warming: bool = False
    _costs: dict[EngineUse, _Cost] = field(default_factory=dict[EngineUse, _Cost])
    _slow: float = 1.0  # recent costs divided by the least ones
    _episodes: deque[float] = field(default_factory=lambda: deque[float](maxlen=_STALLS_COUNT))  # when each began
    _since_late: int = _STREAK_GAP_FRAMES  # frames
    _time: float | None = None

    @property
    def slow(self) -> float:
        """Recent costs divided by the least ones, at least 1."""
        return max(self._slow, 1.0)

    @property
    def room(self) -> float:
        """Seconds that the faces of a frame may take."""
        return min(self.share * self.period, self.limit)

    def waits(self, seconds: float) -> bool:
        """True if an engine that takes so long for a crop is waited for; else its answers are taken when they come."""
        return seconds <= self.period

    def learn(self, engine: str, seconds: float) -> None:
        """Takes an estimate of an engine's seconds for a crop; a known engine keeps its measurements."""
        if (engine, True) not in self._costs:
            key = _KEYFRAME_S + (seconds if self.waits(seconds) else 0.0)
            self._costs[engine, True] = _Cost(key, key, key)
            self._costs[engine, False] = _Cost(_CARRIED_FRAME_S, _CARRIED_FRAME_S, _CARRIED_FRAME_S)

    def cost(self, engine: str, *, key: bool, best: bool = False) -> float:
        """Seconds that a face takes on a frame: measured where that is recent, else the least, slowed down as much
        as the others are. `best`: the least; measurements of a busy computer say little about it."""
        known = self._costs.get((engine, key))
        if known is None:
            self.learn(engine, 0.01)
            known = self._costs[engine, key]
        if best:
            return min(known.least, known.nominal)
        return known.lately if known.count and known.since < _RECENT_FRAMES else known.least * self.slow

    def spent(self, seconds: float, done: Sequence[EngineUse]) -> None:
        """A frame took so long for faces of these kinds."""
        for cost in self._costs.values():
            cost.since += 1
        if not done:
            self._slow += _SLOWNESS_DECAY_PER_FRAME * (1.0 - self._slow)
            return
        expected = sum(self.cost(engine, key=key) for engine, key in done)
        if self.warming and seconds > expected:
            return
        # A long frame counts for those that it cost, up to a stall, which is no load.
        weight = 1.0 - (1.0 - _MEASUREMENT_WEIGHT) ** min(max(1.0, seconds / self.period), _STALL_PERIODS)
        change = weight * (min(seconds / expected, _OUTLIER_RATIO) - 1.0)
        for engine, key in set(done):
            known = self._costs[engine, key]
            known.lately = self.cost(engine, key=key) * (1.0 + change)
            known.count, known.since = known.count + 1, 0
            if known.count == _TRUSTED_MEASUREMENTS:
                known.least = min(known.lately, _BASELINE_RATIO_MAX * known.nominal)
            known.least = min(known.least, known.lately)
        involved = [self._costs[kind] for kind in done]
        self._slow = sum(c.lately for c in involved) / sum(c.least for c in involved)

    def lend(self, cost: float) -> bool:
        """Allows faces the largest share of the period for a trial, and forgets late frames; False
        where `cost` a frame does not fit into that or the processor budget."""
        if cost > min(_SHARE_MAX * self.period, self.limit):
            return False
        self.share = _SHARE_MAX
        self._on_time()
        return True

    def late(self, now: float, frames: int, cost: float) -> str:
        """Counts frames that were late or dropped since the last call, while faces took `cost` seconds a frame.

        One stall, however many frames it costs, is no load: lateness has to last, or to return several times. Faces
        that take little of a frame's time are not the cause.
        Returns the reason where faces may be the cause, and reduces their share, which grows back slowly; else "".
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
        lasts = now - self._episodes[-1] >= _STREAK_S
        often = len(self._episodes) == _STALLS_COUNT and now - self._episodes[0] <= _STALLS_S
        if (not lasts and not often) or cost < _BLAMELESS_SHARE * self.period:
            return ""
        self._on_time()
        self.share = min(_SHARE_MAX, max(_SHARE_MIN, _SHARE_CUT * cost / self.period))
        return "frames come too late"

    def _on_time(self) -> None:
        self._episodes.clear()
        self._since_late = _STREAK_GAP_FRAMES
