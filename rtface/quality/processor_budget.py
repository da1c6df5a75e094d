"""Limits the processor time of a live run through the faces' time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import Protocol

_SAMPLE_S = 0.1  # minimum time between two readings of the processor time
_WINDOW_MIN_S, _WINDOW_MAX_S = 1.0, 2.0  # duration of the moving average: at first, and later
_TARGET_SHARE = 0.95  # share of the limit to aim for, so that noise does not exceed the limit
_RATE_MIN, _RATE_MAX = 0.5, 8.0  # processor seconds per second of the faces' time
_CHANGE_MIN_SHARE = 0.05  # share of the period: a smaller change of the faces' time is too noisy to measure


class BudgetSetting(Protocol):
    @property
    def cpu_budget(self) -> float:
        """The limit of processor use, 0…1 of all cores. 1 means no limit."""
        ...


@dataclass(slots=True)
class ProcessorBudget:
    """The processor budget of one live run. Not thread-safe.

    Times are arguments; the only clock that it reads is `spent`.

    Attributes:
        setting: object that contains the limit.
        cores: number of cores available to the run.
        spent: function that returns the processor seconds that the run has used.
        period: seconds from one frame to the next.
        used: average number of busy cores; None until measured.
    """

    setting: BudgetSetting
    cores: int
    spent: Callable[[], float]
    period: float
    used: float | None = None
    _samples: deque[tuple[float, float]] = field(default_factory=deque[tuple[float, float]])
    _rate: float | None = None  # processor seconds per second of the faces' time; None until measured
    _before_change: tuple[float, float] | None = None  # busy cores, and the faces' time, before the last change

    @property
    def over(self) -> str:
        """The reason to give faces less time; "" below the limit."""
        share = self.setting.cpu_budget
        if share >= 1.0 or self.used is None or self.used <= share * self.cores:
            return ""
        return f"{100 * self.used / self.cores:.0f} % of the processor in use, {100 * share:.0f} % allowed"

    def update(self, now: float, cost: float) -> None:
        """Reads the processor time. Call it once per frame; `cost` is the faces' current seconds per frame."""
        if self.setting.cpu_budget >= 1.0:
            self.restart()
            return
        if self._samples and now - self._samples[-1][0] < _SAMPLE_S:
            return
        self._samples.append((now, self.spent()))
        while now - self._samples[0][0] > _WINDOW_MAX_S:
            self._samples.popleft()
        (start, spent_before), (_, spent) = self._samples[0], self._samples[-1]
        if now - start >= _WINDOW_MIN_S:
            self.used = max(0.0, spent - spent_before) / (now - start)
            self._learn(cost)

    def changed(self, cost: float) -> None:
        """Restarts after a change of the faces' time. `cost` is their seconds per frame before the change."""
        if self.used is not None:
            self._before_change = self.used, cost
        self.restart()

    def restart(self) -> None:
        """Drops the measurements, except the processor time per second of faces."""
        self._samples.clear()
        self.used = None

    def room(self, cost: float) -> float:
        """Returns the seconds available for faces, which now take `cost`. Infinite without a limit or a measurement."""
        if self.used is None or self.setting.cpu_budget >= 1.0:
            return inf
        spare = _TARGET_SHARE * self.setting.cpu_budget * self.cores - self.used
        rate = self._rate
        if rate is None:  # faces use at least their time on one core, and at most all measured use
            rate = max(1.0, self.used * self.period / cost) if spare > 0 and cost else 1.0
        return max(0.0, cost + spare * self.period / rate)

    def _learn(self, cost: float) -> None:
        if self._before_change is None or self.used is None:
            return
        (used_before, cost_before), self._before_change = self._before_change, None
        change = (cost - cost_before) / self.period
        if abs(change) >= _CHANGE_MIN_SHARE:
            self._rate = min(max((self.used - used_before) / change, _RATE_MIN), _RATE_MAX)
