"""Schedules the face detector: the whole frame and its tiles in turn.

The detector's input has 384×384 pixels, in which it reliably finds faces of at least 20 pixels. It finds large faces in
the whole frame, and faces of at least 40 display pixels in tiles of 720. One round over all of these takes a time of
`ROUNDS`, so that each frame needs only a fraction of a round.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from math import ceil, floor, pi

import numpy as np

from rtface.frame import Float
from rtface.protocols import View
from rtface.tracking.detector import SIZE, Detection, Detector, suppress
from rtface.tracking.facemesh import Region

TILE = 720.0
OVERLAP = 120.0
WHOLE_ENOUGH = 800.0
_FINE_SCALE = 0.5  # side of a still's small tiles, as a share of that of the other tiles
_MAX_FINE_SIDE = 4100.0  # longer side of the largest still with small tiles
_MIN_FINE_WIDTH = 14.0  # width of the smallest face in small tiles
SMALL = 64.0
"""Maximum width of a face for a still's thorough search, which would mistake large faces of animals for human ones."""
# Seconds of a round, and of a calm one. While all tracked faces are seen, only a newcomer may wait for it.
ROUNDS = 0.35, 0.7
MAX_DETECTIONS = 3
_MIN_SCORE = 0.5  # minimum score of a face
_UPRIGHT_SCORE = 0.91  # from this score a candidate is upright; none of 95 faces turned by 75° and more reached it
_TURNED_SCORE = 0.8  # from this score a candidate may be turned
_TURNED_SIDE, _MAX_OFFSET = 2.5, 0.4  # turned region's side, and a face's maximum offset in it, in boxes
_BORDER_SHARE = 0.05  # a candidate counts as cut if it is nearer to a region's border; share of its side


@lru_cache(maxsize=16)
def tiles(width: float, height: float, scale: float = 1.0) -> tuple[Region, ...]:
    """Returns square tiles for small faces in a frame; often none. Sizes are display pixels. `scale` multiplies the
    sides of tiles and the minimum frame size."""
    if max(width, height) <= WHOLE_ENOUGH * scale:
        return ()
    across, down = (_centres(length, TILE * scale, OVERLAP * scale) for length in (width, height))
    return tuple(Region(x, y, TILE * scale, 0.0) for y in down for x in across)


def _centres(length: float, side: float, overlap: float) -> list[float]:
    n = max(1, ceil((length - overlap) / (side - overlap)))
    if n == 1:
        return [length / 2]
    return [side / 2 + i * (length - side) / (n - 1) for i in range(n)]


def _is_cut(box: Float, region: Region, view: View) -> bool:
    """Returns whether a region's border inside the frame cuts a box."""
    reach, half, limits = _BORDER_SHARE * float(max(box[2:] - box[:2])), region.side / 2, (view.width, view.height)
    return any(
        (centre - half > 0.0 and low < centre - half + reach)
        or (centre + half < limit and high > centre + half - reach)
        for centre, low, high, limit in zip((region.x, region.y), box[:2], box[2:], limits, strict=True)
    )


class DetectorSearch:
    """Runs the detector over regions. Not thread-safe."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self._due = 0.0
        self._next = 0

    def reset(self) -> None:
        """Restarts the round."""
        self._due, self._next = 0.0, 0

    def synchronise(self, view: View, time: float, *, calm: bool = False) -> None:
        """Sets the round as if it had begun at time 0. `time` is now, in seconds."""
        parts = 1 + len(tiles(view.width, view.height))
        passed = time / ROUNDS[calm] * parts
        self._due, self._next = passed % 1.0, floor(passed) % parts

    def detect_in(self, view: View, region: Region) -> list[Detection]:
        """Detects candidates in one upright region, in display pixels."""
        candidates = self._detector.detect_in(view, region.matrix(SIZE), _MIN_SCORE)
        x, y = region.x - region.side / 2, region.y - region.side / 2
        moved = [d.moved(region.side / SIZE, x, y) for d in candidates]
        return [replace(d, cut=_is_cut(d.cover, region, view)) for d in moved]

    def whole(self, view: View) -> list[Detection]:
        """Detects candidates in the whole frame. Uses the thumbnail, which is faster than a crop of that size."""
        small, scale, _ = view.thumbnail(SIZE)
        square = np.zeros((SIZE, SIZE, 3), np.uint8)
        square[: small.shape[0], : small.shape[1]] = small
        return [d.moved(scale, 0.0, 0.0) for d in self._detector.detect(square, _MIN_SCORE)]

    def everywhere(self, view: View, *, thorough: bool = False) -> list[Detection]:
        """Runs the whole round at once: on a first frame, a cut or a still. Returns the strongest first. `thorough`
        also searches for smaller faces, which takes several times as long."""
        self.reset()
        candidates = self.whole(view)
        for region in tiles(view.width, view.height):
            candidates += self.detect_in(view, region)
        if not candidates:  # the whole frame may be turned
            x, y = view.width / 2, view.height / 2
            for quarter in (1, 2, 3):
                candidates += self._detect_turned(view, Region(x, y, 2 * max(x, y), quarter * pi / 2))
        candidates = suppress(candidates)
        return candidates + self._detect_small(view, candidates) if thorough else candidates

    def _detect_small(self, view: View, larger: list[Detection]) -> list[Detection]:
        """Detects small candidates outside larger ones. A candidate on a larger face is only a part of it."""
        if max(view.width, view.height) > _MAX_FINE_SIDE:
            return []
        small = [d for region in tiles(view.width, view.height, _FINE_SCALE) for d in self.detect_in(view, region)]
        boxes = np.array([k.box for k in larger]).reshape(-1, 4)
        return [
            d
            for d in suppress(small)
            if _MIN_FINE_WIDTH < d.width < SMALL
            and not ((d.box[:2] < boxes[:, 2:]) & (d.box[2:] > boxes[:, :2])).all(1).any()
        ]

    def upright(self, view: View, candidate: Detection) -> Detection:
        """Returns the candidate at the best of four rolls.

        The detector finds faces at any roll, but misreads those turned by more than 60°: it mistakes the mouth for
        eyes.
        """
        if candidate.score > _UPRIGHT_SCORE:
            return candidate
        side = float(max(candidate.box[2:] - candidate.box[:2]))
        region = Region(float(candidate.centre[0]), float(candidate.centre[1]), _TURNED_SIDE * side, 0.0)
        rolls: list[Detection] = []
        for quarter in range(4):
            matches = [
                d
                for d in self._detect_turned(view, replace(region, angle=quarter * pi / 2))
                if float(np.linalg.norm(d.centre - candidate.centre)) < _MAX_OFFSET * side
            ]
            rolls.append(max(matches, key=lambda d: d.score, default=replace(candidate, score=0.0)))
        best = max(rolls, key=lambda d: d.score)
        return candidate if best is rolls[0] or best.score < _TURNED_SCORE else best

    def _detect_turned(self, view: View, region: Region) -> list[Detection]:
        """Detects candidates in a region turned by quarters, in display pixels."""
        turned: list[Detection] = []
        for d in self._detector.detect_in(view, region.matrix(SIZE), _MIN_SCORE):
            corners = region.to_display(d.box.reshape(2, 2), SIZE)
            box = np.concatenate([corners.min(0), corners.max(0)])
            turned.append(Detection(box, region.to_display(d.points, SIZE), d.score))
        return turned

    def step(
        self, view: View, dt: float, *, calm: bool = False, watchful: bool = False, max_runs: int = MAX_DETECTIONS
    ) -> list[Detection]:
        """Runs the part of the round that is due after `dt` seconds. This takes at most `max_runs` detector runs; often
        no run is due. `watchful` runs the detector on the whole frame every time."""
        parts = tiles(view.width, view.height)
        self._due = min(self._due + dt / ROUNDS[calm] * (1 + len(parts)), max_runs)
        candidates = self.whole(view) if watchful else []
        while self._due >= 1:
            self._due -= 1
            i = self._next % (1 + len(parts))
            if i:
                candidates += self.detect_in(view, parts[i - 1])
            elif not watchful:
                candidates += self.whole(view)
            self._next += 1
        return suppress(candidates)
