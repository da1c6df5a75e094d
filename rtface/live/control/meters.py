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
        self._counts: deque[tuple[float, int, dict[str, int]]] = deque()

    def update(self, now: float, frames: int, causes: dict[str, int]) -> dict[str, float]:
        """Records the counts at `now`. Returns the recent shares (0…1) by cause."""
        while len(self._counts) > 1 and self._counts[1][0] <= now - self.SECONDS:
            self._counts.popleft()
        if not self._counts or now - self._counts[-1][0] >= 0.5:
            self._counts.append((now, frames, dict(causes)))
        _, earlier_frames, earlier = self._counts[0]
        drops = {cause: n - earlier.get(cause, 0) for cause, n in causes.items()}
        total = frames - earlier_frames + sum(drops.values())
        return {cause: n / total for cause, n in drops.items() if n > 0 and total > 0}


class LatencyWindow:
    """Collects durations of the last ten seconds. Also measures how many end per second. Thread-safe."""

    SECONDS, RATE_SECONDS, _MIN_SPAN = 10.0, 3.0, 0.5

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._durations: deque[tuple[float, float]] = deque(maxlen=4096)

    def add(self, seconds: float) -> None:
        """Adds a duration that ends now."""
        self._durations.append((self._clock(), seconds))

    def histogram(self) -> Histogram:
        """Counts the durations of the last ten seconds."""
        oldest, merged = self._clock() - self.SECONDS, Histogram()
        for at, seconds in self._durations.copy():
            if at > oldest:
                merged.add(seconds)
        return merged

    @property
    def rate(self) -> float:
        """Recent number of durations per second. Decays to 0 when none are added."""
        now = self._clock()
        times = [at for at, _ in self._durations.copy() if at >= now - self.RATE_SECONDS]
        if len(times) < 2:
            return 0.0
        n, span, quiet = len(times) - 1, times[-1] - times[0], now - times[-1]
        # The time since the last duration counts only if it is much longer than the mean interval.
        return n / max(self._MIN_SPAN, span + (quiet if quiet > 2.0 * span / n else 0.0))


class ProcessorMeter:
    """Measures the share of all cores in use over ten seconds.

    Args:
        spent: function that returns the processor seconds used so far.
        cores: number of cores.
        clock: returns seconds.
    """

    SECONDS, MIN_INTERVAL = 10.0, 0.2

    def __init__(self, spent: Callable[[], float], cores: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._spent, self._cores, self._clock = spent, cores, clock
        self._samples: deque[tuple[float, float]] = deque([(clock(), spent())])
        self._first_sample = self._samples[0]

    @property
    def share(self) -> float:
        """Recent share, 0…1."""
        now = self._clock()
        if now - self._samples[-1][0] >= self.MIN_INTERVAL:
            self._samples.append((now, self._spent()))
        while len(self._samples) > 2 and self._samples[1][0] <= now - self.SECONDS:
            self._samples.popleft()
        return self._between(self._samples[0], self._samples[-1])

    @property
    def run_share(self) -> float:
        """Share since the start, 0…1."""
        return self._between(self._first_sample, (self._clock(), self._spent()))

    def _between(self, first: tuple[float, float], last: tuple[float, float]) -> float:
        return max(0.0, last[1] - first[1]) / max(last[0] - first[0], self.MIN_INTERVAL) / self._cores
