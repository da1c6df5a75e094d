"""Measures latency, rate, dropped frames and processor time over the last seconds."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from rtface.stats import Histogram


class DropShares:
    """Computes an output's share of dropped frames over ten seconds, by cause."""

    SECONDS = 10.0

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int, dict[str, int]]] = deque()

    def update(self, now: float, frames: int, causes: dict[str, int]) -> dict[str, float]:
        """Takes the counts at `now`; returns the recent shares (0…1) by cause."""
        while len(self._seen) > 1 and self._seen[1][0] <= now - self.SECONDS:
            self._seen.popleft()
        if not self._seen or now - self._seen[-1][0] >= 0.5:
            self._seen.append((now, frames, dict(causes)))
        _, frames_before, before = self._seen[0]
        lost = {cause: n - before.get(cause, 0) for cause, n in causes.items()}
        total = frames - frames_before + sum(lost.values())
        return {cause: n / total for cause, n in lost.items() if n > 0 and total > 0}


class LatencyWindow:
    """Collects durations of the last ten seconds. Their rate is taken over three seconds. Thread-safe."""

    SECONDS, RATE_SECONDS = 10.0, 3.0

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._taken: deque[tuple[float, float]] = deque(maxlen=4096)

    def add(self, seconds: float) -> None:
        """Adds a duration that ends now."""
        self._taken.append((self._clock(), seconds))

    def histogram(self) -> Histogram:
        """Counts the durations of the last ten seconds."""
        oldest, merged = self._clock() - self.SECONDS, Histogram()
        for at, seconds in self._taken.copy():
            if at > oldest:
                merged.add(seconds)
        return merged

    @property
    def rate(self) -> float:
        """Recent number of durations per second; falls to 0 without new ones."""
        now = self._clock()
        times = [at for at, _ in self._taken.copy() if at >= now - self.RATE_SECONDS]
        if len(times) < 2:
            return 0.0
        n, span, quiet = len(times) - 1, times[-1] - times[0], now - times[-1]
        # The time since the last duration counts only if it is much longer than the usual interval.
        return n / max(1e-6, span + (quiet if quiet > 2.0 * span / n else 0.0))


class ProcessorMeter:
    """Measures the share of all cores in use over ten seconds.

    Args:
        spent: function that returns the seconds of processor time used so far.
        cores: number of cores.
        clock: returns seconds.
    """

    SECONDS, APART = 10.0, 0.2

    def __init__(self, spent: Callable[[], float], cores: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._spent, self._cores, self._clock = spent, cores, clock
        self._read: deque[tuple[float, float]] = deque([(clock(), spent())])
        self._began = self._read[0]

    @property
    def share(self) -> float:
        """Recent share, 0…1."""
        now = self._clock()
        if now - self._read[-1][0] >= self.APART:
            self._read.append((now, self._spent()))
        while len(self._read) > 2 and self._read[1][0] <= now - self.SECONDS:
            self._read.popleft()
        return self._between(self._read[0], self._read[-1])

    @property
    def run_share(self) -> float:
        """Share since the beginning, 0…1."""
        return self._between(self._began, (self._clock(), self._spent()))

    def _between(self, first: tuple[float, float], last: tuple[float, float]) -> float:
        return max(0.0, last[1] - first[1]) / max(last[0] - first[0], self.APART) / self._cores
