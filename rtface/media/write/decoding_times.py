"""Assigns decoding times to an output with frames from several encoders."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import pairwise


class DecodingTimes:
    """Assigns the decoding times of a whole film: its presentation times in rising order, delayed by `delay` frames.
    They therefore rise even where the encoder changes."""

    def __init__(self, delay: int) -> None:
        self._delay = delay
        self._unused: deque[int] = deque()  # presentation times not yet used as decoding times
        self._started = False
        self._last: int | None = None

    def begin(self, times: Sequence[int], first_dts: Sequence[int] = ()) -> None:
        """Adds the next frames.

        Args:
            times: rising presentation times of these frames.
            first_dts: decoding times for the film's first `delay` frames; estimated if absent or not rising.
        """
        if not self._started:
            self._started, first = True, times[0]
            step = max(1, (times[-1] - first) // max(1, len(times) - 1))
            usable = len(first_dts) == self._delay and all(a < b for a, b in pairwise([*first_dts, first]))
            self._unused.extend(first_dts if usable else [first - (self._delay - k) * step for k in range(self._delay)])
        self._unused.extend(times)

    def next(self, pts: int) -> int:
        """Returns the decoding time of the next frame in decoding order. `pts` is its presentation time."""
        dts = self._unused.popleft()
        if self._last is not None:
            dts = max(dts, self._last + 1)
        self._last = dts = min(dts, pts) if self._last is None else dts
        return dts
