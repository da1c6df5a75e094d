"""Whether the frames of a lossy output are in the order of the input's: each is most like its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# A frame is another's where it is so many times nearer to it (mean squares) than to that of its number, and differs
# from that at all (levels², of 255). (Encoders at their coarsest made it 1.4 times nearer to the one before, 1.1 to the
# one after.)
_NEARER, _COPY = 2.0, 4.0
# Share of a frame that has to lie outside of corrections: a few samples at a border say nothing.
_ENOUGH = 0.05


@dataclass(frozen=True, slots=True)
class _Seen:
    name: Any
    made: NDArray[np.float32]
    source: NDArray[np.float32]
    outside: NDArray[np.bool_]


class FrameOrder:
    """Takes the frames of output and input in their order.

    Attributes:
        moved: of frames that are more like the input's frame before or after: name, and which.
    """

    def __init__(self) -> None:
        self.moved: list[tuple[Any, str]] = []
        self._before: _Seen | None = None

    def frame(
        self,
        name: Any,
        made: NDArray[np.float32],
        source: NDArray[np.float32],
        outside: NDArray[np.bool_],
    ) -> None:
        """Takes the next frame.

        Args:
            name: of the frame.
            made, source: luma of output and input, of 255 levels.
            outside: where it lies outside of corrections.
        """
        before, now = self._before, _Seen(name, made, source, outside)
        self._before = now
        if before is None or before.made.shape != made.shape:
            return
        shared = outside & before.outside
        if shared.mean() < _ENOUGH:
            return
        for one, other, which in ((now, before, "before"), (before, now, "after")):
            own = _error(one.made, one.source, shared)
            if own > _COPY and _NEARER * _error(one.made, other.source, shared) < own:
                self.moved.append((one.name, which))

    def gap(self) -> None:
        """A frame was not compared: the next has none before it."""
        self._before = None


def _error(a: NDArray[np.float32], b: NDArray[np.float32], where: NDArray[np.bool_]) -> float:
    return float(np.square(a - b).mean(where=where))
