"""Times of decoding of an output whose frames come from several encoders."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import pairwise


class DecodingTimes:
    """Times of decoding for a whole film: that of a frame is the time of presentation of the one `delay` frames
    before it in the order of presentation, so that they rise across every border."""

    def __init__(self, delay: int) -> None:
        self._delay = delay
        self._shown: deque[int] = deque()  # times of presentation, from the next to be given on
        self._begun = False
        self._last: int | None = None

    def begin(self, shown: Sequence[int], made: Sequence[int] = ()) -> None:
        """The next frames.

        Args:
            shown: their times of presentation, rising.
            made: times of decoding of the first frames of all, as an encoder made them.
        """
        if not self._begun:
            self._begun, first = True, shown[0]
            step = max(1, (shown[-1] - first) // max(1, len(shown) - 1))
            good = len(made) == self._delay and all(a < b for a, b in pairwise([*made, first]))
            self._shown.extend(made if good else [first - (self._delay - k) * step for k in range(self._delay)])
        self._shown.extend(shown)

    def next(self, pts: int) -> int:
        """The time of decoding of the next frame; at most its time of presentation."""
        dts = self._shown.popleft()
        if self._last is not None:
            dts = max(dts, self._last + 1)
        self._last = dts = min(dts, pts) if self._last is None else dts
        return dts
