"""What the faces of a live run cost, and how much there is room for; see `rtface.ladder`."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

_SHARE, _LEAST = 0.85, 0.1  # of the period that faces may take: at best, and at worst
_BACK = 0.03  # of the period that is given back every second
_LENT = 1.5  # times what faces are expected to cost is lent to them for a trial, which measures
_SOON, _LATE_SOON = 8, 3  # so many of the last frames that had others given up before them are too many
_LONG, _LATE_LONG = 90, 6
_FOLLOW = 0.15  # weight of a new measurement
_WILD = 2.5  # times what was expected; more is taken for that: a single hiccup is no load
_FORGET = 0.02  # by so much of it an old slowness goes with every frame that measures nothing
_SETTLED = 20  # measurements after which what an engine costs is known better than was said
_KEY_S, _BETWEEN_S = 0.0045, 0.0025  # a crop of 256 on one core, without its engine; between key frames

Kind = tuple[str, bool]  # engine, whether it runs


@dataclass(slots=True)
class _Cost:
    """Seconds of one face: lately, at the least, how often measured, and how long ago in frames."""

    lately: float
    least: float
    count: int = 0
    since: int = 0


@dataclass(slots=True)
class Load:
    """Costs by measurement.

    Attributes:
        period: seconds from one frame to the next.
        share: of the period that faces may take now.
        beside: seconds that a frame's other work takes on the same thread.
    """

    period: float
    share: float = _SHARE
    beside: float = 0.0
    _costs: dict[Kind, _Cost] = field(default_factory=dict[Kind, _Cost])
    _slow: float = 1.0  # how much slower than at the least things go now
    _late: deque[bool] = field(default_factory=lambda: deque[bool](maxlen=_LONG))
    _time: float | None = None

    @property
    def room(self) -> float:
        """Seconds that the faces of a frame may take."""
        return max(self.share * self.period - self.beside, 0.0)

    def waits(self, seconds: float) -> bool:
        """Whether an engine that takes so long for a crop is waited for; else its answers are taken when they come."""
        return seconds <= self.period

    def learn(self, engine: str, seconds: float) -> None:
        """Says what an engine takes for a crop, before anything is measured; known ones stay as they are."""
        if (engine, True) not in self._costs:
            key = _KEY_S + (seconds if self.waits(seconds) else 0.0)
            self._costs[engine, True] = _Cost(key, key)
            self._costs[engine, False] = _Cost(_BETWEEN_S, _BETWEEN_S)

    def cost(self, engine: str, *, key: bool) -> float:
        """Seconds that a face takes on a frame: measured where that is fresh, else what it takes at the least, slowed
        down as much as the others are."""
        known = self._costs.get((engine, key))
        if known is None:
            self.learn(engine, 0.01)
            known = self._costs[engine, key]
        return known.lately if known.count and known.since < 30 else known.least * max(self._slow, 1.0)

    def spent(self, seconds: float, done: Sequence[Kind]) -> None:
        """A frame took so long for faces of these kinds."""
        for cost in self._costs.values():
            cost.since += 1
        if not done:
            self._slow += _FORGET * (1.0 - self._slow)
            return
        expected = sum(self.cost(engine, key=key) for engine, key in done)
        change = _FOLLOW * (min(seconds / expected, _WILD) - 1.0)
        for engine, key in set(done):
            known = self._costs[engine, key]
            known.lately = self.cost(engine, key=key) * (1.0 + change)
            known.count, known.since = known.count + 1, 0
            if known.count == _SETTLED:
                known.least = known.lately
            known.least = min(known.least, known.lately)
        involved = [self._costs[kind] for kind in done]
        self._slow = sum(c.lately for c in involved) / sum(c.least for c in involved)

    def lend(self, cost: float) -> bool:
        """Makes room for faces that take `cost` a frame and lets frames that were late be; False where that is more
        than may be taken at best."""
        share = (cost + self.beside) / self.period
        if share > _SHARE:
            return False
        self.share = max(self.share, min(_LENT * share, _SHARE))
        self._late.clear()
        return True

    def late(self, now: float, frames: int, cost: float) -> str:
        """Takes in that frames were given up because others came first, while faces took `cost` a frame.

        Returns what to say of it where there were too many; there is less room then, and it comes back slowly. "" else.
        """
        elapsed, self._time = now - self._time if self._time is not None else 0.0, now
        self._late.append(frames > 0)  # one stall, however many frames it costs, is no load
        soon, long = sum(list(self._late)[-_SOON:]), sum(self._late)
        if soon < _LATE_SOON and long < _LATE_LONG:
            if not soon:
                self.share = min(_SHARE, self.share + _BACK * max(elapsed, 0.0))
            return ""
        self._late.clear()
        self.share = max(_LEAST, 0.75 * min(self.share, (cost + self.beside) / self.period))
        return "frames come too late"
