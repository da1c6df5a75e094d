"""Measures what the faces of a live run cost, and how much time they may take; for `rtface.quality.governor`."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf

_SHARE, _LEAST = 0.85, 0.1  # of the period that faces may take: at best, and at worst
_BACK = 0.1  # of the period that is given back every second
_STREAK_S, _GAP = 0.35, 3  # late frames for so long are a load, with fewer than so many others between two of them
_INNOCENT = 0.3  # of the period: faces that take less do not make frames late
_LONG_S, _EPISODES = 3.0, 5  # so many separate stalls within so long are one, too
_FOLLOW = 0.15  # weight of a new measurement that takes no longer than a frame
_STALL = 3.0  # periods
_WILD = 2.5  # times what was expected; more is taken for that: a single hiccup is no load
_FORGET = 0.02  # by so much of it an old slowness goes with every frame that measures nothing
_SETTLED = 20  # measurements after which what an engine costs is known better than was said, …
_BELIEVED = 3.0  # … up to so many times that: the computer may have been busy all the time
_KEY_S, _BETWEEN_S = 0.0045, 0.0025  # a crop of 256 on one core, without its engine; between keyframes

EngineUse = tuple[str, bool]
"""Engine, and whether it runs on the frame or its last correction is carried."""


@dataclass(slots=True)
class _Cost:
    """Seconds that a face takes: recently, at the least, and as estimated before any measurement; how often it was
    measured, and how many frames ago."""

    lately: float
    least: float
    said: float
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
    share: float = _SHARE
    limit: float = inf
    warming: bool = False
    _costs: dict[EngineUse, _Cost] = field(default_factory=dict[EngineUse, _Cost])
    _slow: float = 1.0  # recent costs divided by the least ones
    _episodes: deque[float] = field(default_factory=lambda: deque[float](maxlen=_EPISODES))  # when each began
    _since_late: int = _GAP  # frames
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
        """Whether an engine that takes so long for a crop is waited for; else its answers are taken when they come."""
        return seconds <= self.period

    def learn(self, engine: str, seconds: float) -> None:
        """Takes an estimate of an engine's seconds for a crop; a known engine keeps its measurements."""
        if (engine, True) not in self._costs:
            key = _KEY_S + (seconds if self.waits(seconds) else 0.0)
            self._costs[engine, True] = _Cost(key, key, key)
            self._costs[engine, False] = _Cost(_BETWEEN_S, _BETWEEN_S, _BETWEEN_S)

    def cost(self, engine: str, *, key: bool, best: bool = False) -> float:
        """Seconds that a face takes on a frame: measured where that is recent, else the least, slowed down as much
        as the others are. `best`: the least; measurements of a busy computer say little about it."""
        known = self._costs.get((engine, key))
        if known is None:
            self.learn(engine, 0.01)
            known = self._costs[engine, key]
        if best:
            return min(known.least, known.said)
        return known.lately if known.count and known.since < 30 else known.least * self.slow

    def spent(self, seconds: float, done: Sequence[EngineUse]) -> None:
        """A frame took so long for faces of these kinds."""
        for cost in self._costs.values():
            cost.since += 1
        if not done:
            self._slow += _FORGET * (1.0 - self._slow)
            return
        expected = sum(self.cost(engine, key=key) for engine, key in done)
        if self.warming and seconds > expected:
            return
        # A long frame counts for those that it cost, up to a stall, which is no load.
        weight = 1.0 - (1.0 - _FOLLOW) ** min(max(1.0, seconds / self.period), _STALL)
        change = weight * (min(seconds / expected, _WILD) - 1.0)
        for engine, key in set(done):
            known = self._costs[engine, key]
            known.lately = self.cost(engine, key=key) * (1.0 + change)
            known.count, known.since = known.count + 1, 0
            if known.count == _SETTLED:
                known.least = min(known.lately, _BELIEVED * known.said)
            known.least = min(known.least, known.lately)
        involved = [self._costs[kind] for kind in done]
        self._slow = sum(c.lately for c in involved) / sum(c.least for c in involved)

    def lend(self, cost: float) -> bool:
        """Allows faces the largest share of the period for a trial, and forgets late frames; False
        where `cost` a frame does not fit into that or the processor budget."""
        if cost > min(_SHARE * self.period, self.limit):
            return False
        self.share = _SHARE
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
            if self._since_late >= _GAP:
                self.share = min(_SHARE, self.share + _BACK * elapsed)
            return ""
        if self._since_late >= _GAP or not self._episodes:
            self._episodes.append(now)
        self._since_late = 0
        lasts = now - self._episodes[-1] >= _STREAK_S
        often = len(self._episodes) == _EPISODES and now - self._episodes[0] <= _LONG_S
        if (not lasts and not often) or cost < _INNOCENT * self.period:
            return ""
        self._on_time()
        self.share = min(_SHARE, max(_LEAST, 0.75 * cost / self.period))
        return "frames come too late"

    def _on_time(self) -> None:
        self._episodes.clear()
        self._since_late = _GAP
