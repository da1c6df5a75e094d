"""How long to wait between attempts to reach a lost device or peer: the same for sources and sinks."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from threading import Event

# Seconds: the delay doubles from the first to a cap, which is higher when the peer has been away for long.
_FIRST, _CAP, _LONG, _LONG_CAP = 0.25, 1.0, 60.0, 10.0


class Retry:
    """The attempts to reach one peer, which is lost from now on."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._tries, self._lost = clock, 0, clock()

    def reached(self) -> None:
        """Begins anew: the peer was there until now."""
        self._tries, self._lost = 0, self._clock()

    def wait(self, stop: Event) -> bool:
        """Waits before the next attempt; True where `stop` is set."""
        most = _CAP if self._clock() - self._lost < _LONG else _LONG_CAP
        delay = min(most, _FIRST * 2 ** min(self._tries, 10)) * random.uniform(0.8, 1.0)
        self._tries += 1
        return stop.wait(delay)
