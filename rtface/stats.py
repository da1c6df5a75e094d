"""Collects counters, timings and warnings of one run, in constant memory."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from rtface.errors import Message, log

# A run in which every frame fails must not look successful: after this many in a row it raises an error.
FAULTS_IN_A_ROW = 100

# Edges of the bins: 10 µs to 100 s, 5 % apart. A percentile has an error of at most 2.5 %.
EDGES = np.geomspace(1e-5, 100.0, 331)
_EDGES: list[float] = EDGES.tolist()


class Histogram:
    """Counts durations in seconds, in logarithmic bins (always 331 counters)."""

    def __init__(self) -> None:
        self.bins = np.zeros(len(EDGES) + 1, np.int64)
        self.total = 0.0
        self.count = 0
        self.max = 0.0

    def add(self, seconds: float) -> None:
        self.bins[bisect_left(_EDGES, seconds)] += 1
        self.total += seconds
        self.count += 1
        self.max = max(self.max, seconds)

    def percentile(self, q: float) -> float:
        """Returns the q-th percentile (0…100) in seconds; 0 if there are none."""
        if not self.count:
            return 0.0
        i = int(np.searchsorted(np.cumsum(self.bins), self.count * q / 100.0))
        i = min(i, len(EDGES) - 1)
        lower = EDGES[i - 1] if i else EDGES[0]
        return float(min(np.sqrt(lower * EDGES[i]), self.max))


class Stats:
    """Collects the statistics of one run. Safe to use from several threads.

    Args:
        logs: whether to log warnings.
    """

    def __init__(self, *, logs: bool = True) -> None:
        self._logs = logs
        self._lock = threading.Lock()
        self.counters: Counter[str] = Counter()
        self.stages: dict[str, Histogram] = {}
        self.warnings: dict[str, str] = {}
        self.last_fault = ""
        self.started = time.monotonic()

    def count(self, name: str, n: int = 1) -> None:
        """Adds n to a named counter (``frames_in``, ``frames_dropped``, ``engine_faults`` …)."""
        with self._lock:
            self.counters[name] += n

    def add(self, stage: str, seconds: float) -> None:
        """Adds one duration to a stage's histogram (``decode``, ``track``, ``engine``, ``latency`` …)."""
        with self._lock:
            if stage not in self.stages:  # creating a histogram takes longer than adding to one
                self.stages[stage] = Histogram()
            self.stages[stage].add(seconds)

    @contextmanager
    def time(self, stage: str) -> Generator[None]:
        """Measures the duration of a block."""
        t0 = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - t0)

    def warn(self, key: str, message: str) -> None:
        """Logs a message once for each key. Counts every call under ``warn:<key>``."""
        with self._lock:
            first = key not in self.warnings
            self.counters[f"warn:{key}"] += 1
            if first:
                self.warnings[key] = message
        if first and self._logs:
            log.warning("%s", message)

    def fault(self, where: str, error: Exception, what: str = "") -> None:
        """Counts a fault of a step (``tracker``, ``enhance``). Logs only the first. The frame stays unchanged.

        Args:
            what: what failed if it is not a step on a frame, such as the name of an output.
        """
        self.count("faults")
        self.last_fault = str(error)
        step = Message(
            "a frame stays unchanged because its {step} step failed: {why}",
            code="frame_unchanged",
            step=where,
            why=error,
        )
        self.warn(f"{where}_fault", f"{what}: {error}" if what else step)
        log.debug("%s fault", where, exc_info=error)

    def tolerate(self, where: str, what: str = "") -> Tolerance:
        """Counts an error in the block as a `fault`. The error then does not end a live run."""
        return Tolerance(self, where, what)

    def counted(self) -> Counter[str]:
        """Returns a snapshot of all counters."""
        with self._lock:
            return self.counters.copy()

    def warned(self) -> list[str]:
        """Returns all warnings in order of time."""
        with self._lock:
            return list(self.warnings.values())

    def stages_ms(self) -> dict[str, dict[str, float]]:
        """Returns mean, p50, p95 and p99 of every stage in milliseconds."""
        with self._lock:
            return {
                name: {
                    "mean": round(1e3 * h.total / max(1, h.count), 3),
                    "p50": round(1e3 * h.percentile(50), 3),
                    "p95": round(1e3 * h.percentile(95), 3),
                    "p99": round(1e3 * h.percentile(99), 3),
                    "count": h.count,
                }
                for name, h in self.stages.items()
            }


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Implements the context manager of `Stats.tolerate`."""

    stats: Stats
    where: str
    what: str

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, Exception):
            return False
        self.stats.fault(self.where, error, self.what)
        return True
