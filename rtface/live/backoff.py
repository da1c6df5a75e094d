"""Delays between attempts to reach a lost device or peer."""

from __future__ import annotations

import random

# Seconds: the delay doubles from the first to a cap, which is higher when the peer has been away for long.
_FIRST, _CAP, _LONG, _LONG_CAP = 0.25, 1.0, 60.0, 10.0


def retry_delay(tries: int, away: float) -> float:
    """Seconds to wait after `tries` attempts to reach a peer that has been away for `away` seconds."""
    return min(_CAP if away < _LONG else _LONG_CAP, _FIRST * 2 ** min(tries, 10)) * random.uniform(0.8, 1.0)
