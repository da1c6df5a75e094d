"""The schedule of the face detector: the whole frame and its tiles in turn.

The detector sees 384×384 pixels and is sure of faces of about 20 of them. The whole frame shows it the large faces,
tiles of 720 display pixels those from 40 pixels on. One round over all of them is spread over `ROUND` seconds, so that
a frame pays for a fraction of a detection round and a new face still waits less than half a second.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil, floor

import numpy as np

from rtface.protocols import View
from rtface.tracking.detector import SIZE, Detection, Detector, suppress
from rtface.tracking.facemesh import Region

TILE = 720.0
OVERLAP = 120.0
WHOLE_ENOUGH = 800.0
ROUND = 0.35
MAX_DETECTIONS = 3


@lru_cache(maxsize=16)
def tiles(width: float, height: float) -> tuple[Region, ...]:
    """The squares that small faces are looked for in, for a frame of that size in display pixels; often none."""
    if max(width, height) <= WHOLE_ENOUGH:
        return ()
    return tuple(Region(x, y, TILE, 0.0) for y in _centres(height) for x in _centres(width))


def _centres(length: float) -> list[float]:
    n = max(1, ceil((length - OVERLAP) / (TILE - OVERLAP)))
    if n == 1:
        return [length / 2]
    return [TILE / 2 + i * (length - TILE) / (n - 1) for i in range(n)]


class DetectorSearch:
    """Runs the detector over regions. Not for use from several threads."""

    def __init__(self, detector: Detector, *, threshold: float = 0.5) -> None:
        self._detector = detector
        self._threshold = threshold
        self._due = 0.0
        self._next = 0

    def reset(self) -> None:
        """Starts the round again."""
        self._due, self._next = 0.0, 0

    def synchronise(self, view: View, time: float) -> None:
        """Continues the round at the place where it would be at this time (seconds), had it begun at time 0."""
        parts = 1 + len(tiles(view.width, view.height))
        passed = time / ROUND * parts
        self._due, self._next = passed % 1.0, floor(passed) % parts

    def close(self) -> None:
        """Releases the detector; safe to call twice."""
        self._detector.close()

    def detect_in(self, view: View, region: Region) -> list[Detection]:
        """Candidates in one upright region, in display pixels."""
        found = self._detector.detect_in(view, region.matrix(SIZE), self._threshold)
        return [d.moved(region.side / SIZE, region.x - region.side / 2, region.y - region.side / 2) for d in found]

    def whole(self, view: View) -> list[Detection]:
        """Candidates in the whole frame; by its thumbnail, which a device makes faster than a crop of that size."""
        small, scale, _ = view.thumbnail(SIZE)
        square = np.zeros((SIZE, SIZE, 3), np.uint8)
        square[: small.shape[0], : small.shape[1]] = small
        return [d.moved(scale, 0.0, 0.0) for d in self._detector.detect(square, self._threshold)]

    def everywhere(self, view: View) -> list[Detection]:
        """Candidates in the whole round at once (first frame, cut, still), strongest first."""
        self.reset()
        found = self.whole(view)
        for region in tiles(view.width, view.height):
            found += self.detect_in(view, region)
        return suppress(found)

    def step(self, view: View, dt: float, *, watchful: bool = False, most: int = MAX_DETECTIONS) -> list[Detection]:
        """Candidates in the part of the round that `dt` seconds have made due, in at most `most`
        detector runs; often none is due.
        `watchful` runs the detector on the whole frame every time."""
        parts = tiles(view.width, view.height)
        self._due = min(self._due + dt / ROUND * (1 + len(parts)), most)
        found = self.whole(view) if watchful else []
        while self._due >= 1:
            self._due -= 1
            i = self._next % (1 + len(parts))
            if i:
                found += self.detect_in(view, parts[i - 1])
            elif not watchful:
                found += self.whole(view)
            self._next += 1
        return suppress(found)
