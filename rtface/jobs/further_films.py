"""Further films, which a run writes with its output: the correction (``--keep-correction``), the comparison
(``--compare``) and the map of what was invented (``--invented``).

Every segment has a file for each, and they get their names just before the output.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from rtface.errors import OutputError
from rtface.frame import Frame
from rtface.pipeline.compare import Comparison

FurtherFrames = Callable[[Frame], tuple[Frame, bytes]]
"""Makes the frame of a further film that belongs to the next one of the output, and its text; b"" for none."""


class KeptPairs:
    """The before|after pairs of a run, until their frames are written.

    Attributes:
        comparison: makes them, in the chain.
    """

    def __init__(self) -> None:
        self._made: deque[Frame] = deque()
        self.comparison = Comparison(self._made.append)

    def of(self, frame: Frame) -> tuple[Frame, bytes]:
        """The pair of the next frame.

        Raises:
            OutputError: none was made of it.
        """
        while self._made and self._made[0].pts < frame.pts:
            self._made.popleft()  # of a frame that was dropped
        if not self._made or self._made[0].pts != frame.pts:
            raise OutputError("the comparison cannot be continued: a frame has no pair", code="comparison_pair")
        return self._made.popleft(), b""
