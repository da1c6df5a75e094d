"""Delays attempts to reach a lost device or peer."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from threading import Event

# The delay doubles from `_FIRST_S` up to `_CAP_S`, or up to `_LONG_CAP_S` if the peer has been away for `_LONG_S`.
_FIRST_S, _CAP_S, _LONG_S, _LONG_CAP_S = 0.25, 1.0, 60.0, 10.0


class Retry:
    """Delays attempts to reach one peer. Create an instance when the peer is lost."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._attempts, self._lost_at = clock, 0, clock()

    def reached(self) -> None:
        """Resets the delay. Call it if the peer was reachable until now."""
        self._attempts, self._lost_at = 0, self._clock()

    def wait(self, stop: Event) -> bool:
        """Waits before the next attempt; returns True if `stop` is set."""
        cap = _CAP_S if self._clock() - self._lost_at < _LONG_S else _LONG_CAP_S
        delay = min(cap, _FIRST_S * 2 ** min(self._attempts, 10)) * random.uniform(0.8, 1.0)
        self._attempts += 1
        return stop.wait(delay)
