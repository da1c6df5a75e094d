"""What the last seconds were like: durations and rate, in memory that does not grow."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from rtface.stats import Histogram


class DropShares:
    """What share of its frames an output gave up in the last ten seconds, by cause, from counts that only rise."""

    SECONDS = 10.0

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int, dict[str, int]]] = deque()

    def look(self, now: float, frames: int, causes: dict[str, int]) -> dict[str, float]:
        """Takes the counts at `now`; shares (0…1) of the causes that there were lately."""
        while len(self._seen) > 1 and self._seen[1][0] <= now - self.SECONDS:
            self._seen.popleft()
        if not self._seen or now - self._seen[-1][0] >= 0.5:
            self._seen.append((now, frames, dict(causes)))
        _, taken, before = self._seen[0]
        lost = {cause: n - before.get(cause, 0) for cause, n in causes.items()}
        came = frames - taken + sum(lost.values())
        return {cause: n / came for cause, n in lost.items() if n > 0 and came > 0}


class LatencyWindow:
    """Durations of the last ten seconds, and how many a second there were in the last three.

    Each second has a histogram of its own; the ten that are kept are summed when somebody asks. Safe to use from
    several threads.
    """

    SECONDS = 10
    RATE_SECONDS = 3.0

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._slots: deque[tuple[int, Histogram]] = deque(maxlen=self.SECONDS)
        self._times: deque[float] = deque(maxlen=1024)

    def add(self, seconds: float) -> None:
        """One duration, now."""
        now = self._clock()
        with self._lock:
            if not self._slots or self._slots[-1][0] != int(now):
                self._slots.append((int(now), Histogram()))
            self._slots[-1][1].add(seconds)
            self._times.append(now)

    def histogram(self) -> Histogram:
        """Of the last ten seconds."""
        oldest = int(self._clock()) - self.SECONDS
        merged = Histogram()
        with self._lock:
            for second, slot in self._slots:
                if second > oldest:
                    merged.bins += slot.bins
                    merged.total += slot.total
                    merged.count += slot.count
                    merged.max = max(merged.max, slot.max)
        return merged

    @property
    def rate(self) -> float:
        """How many a second lately; falls to 0 when none come."""
        now = self._clock()
        with self._lock:
            while self._times and self._times[0] < now - self.RATE_SECONDS:
                self._times.popleft()
            if len(self._times) < 2:
                return 0.0
            n, span = len(self._times) - 1, self._times[-1] - self._times[0]
            quiet = now - self._times[-1]
        # Between two of them the silence says nothing; one that lasts longer counts.
        return n / max(1e-6, span + (quiet if quiet > 2.0 * span / n else 0.0))
