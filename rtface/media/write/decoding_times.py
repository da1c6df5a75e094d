"""Assigns decoding times to an output with frames from several encoders."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import pairwise


class DecodingTimes:
    """Assigns decoding times for a whole film. They are its presentation times in rising order, delayed by `delay`
    frames, so they also rise when the encoder changes."""

    def __init__(self, delay: int) -> None:
        self._delay = delay
        self._shown: deque[int] = deque()  # presentation times that are not yet used
        self._begun = False
        self._last: int | None = None

    def begin(self, shown: Sequence[int], first_dts: Sequence[int] = ()) -> None:
        """Adds the next frames.

        Args:
            shown: presentation times of these frames, rising.
            first_dts: decoding times for the film's first `delay` frames; without them, estimates are used.
        """
        if not self._begun:
            self._begun, first = True, shown[0]
            step = max(1, (shown[-1] - first) // max(1, len(shown) - 1))
            good = len(first_dts) == self._delay and all(a < b for a, b in pairwise([*first_dts, first]))
            self._shown.extend(first_dts if good else [first - (self._delay - k) * step for k in range(self._delay)])
        self._shown.extend(shown)

    def next(self, pts: int) -> int:
        """Returns the next frame's decoding time; at most its presentation time."""
        dts = self._shown.popleft()
        if self._last is not None:
            dts = max(dts, self._last + 1)
        self._last = dts = min(dts, pts) if self._last is None else dts
        return dts
