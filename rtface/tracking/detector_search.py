"""The schedule of the face detector: the whole frame and its tiles in turn.

The detector sees 384×384 pixels and is sure of faces of about 20 of them. The whole frame shows it the large faces,
tiles of 720 display pixels those from 40 pixels on. One round over all of them is spread over `ROUND` seconds, so that
a frame pays for a fraction of a detection round and a new face still waits less than half a second.
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
_FINE = 0.5  # side of the tiles of a still, by that of the others
_FINEST_FRAME = 4100.0  # longer side of the largest still that is searched in these
_LEAST = 14.0  # width of the smallest face that they look for
SMALL = 64.0
"""Width of the largest face of a still that is looked for longer: large ones of animals would be taken for ours."""
ROUND = 0.35
MAX_DETECTIONS = 3
_THRESHOLD = 0.5  # least score of a face
_UPRIGHT = 0.91  # score from which a candidate is upright; of 95 faces that were turned by 75° and more none had it
_TURNED = 0.8  # score from which one may be turned
_AROUND, _CENTRED = 2.5, 0.4  # side of the region that is turned, and how far off its middle a face may be, in sides
_BORDER_SHARE = 0.05  # of a candidate's side: nearer to the border of a region it counts as cut


@lru_cache(maxsize=16)
def tiles(width: float, height: float, scale: float = 1.0) -> tuple[Region, ...]:
    """The squares that small faces are looked for in, for a frame of that size in display pixels; often none. `scale`
    is that of their sides and of the sizes that need some."""
    if max(width, height) <= WHOLE_ENOUGH * scale:
        return ()
    across, down = (_centres(length, TILE * scale, OVERLAP * scale) for length in (width, height))
    return tuple(Region(x, y, TILE * scale, 0.0) for y in down for x in across)


def _centres(length: float, side: float, overlap: float) -> list[float]:
    n = max(1, ceil((length - overlap) / (side - overlap)))
    if n == 1:
        return [length / 2]
    return [side / 2 + i * (length - side) / (n - 1) for i in range(n)]


def _cut(box: Float, region: Region, view: View) -> bool:
    """True if a box reaches the border of a region where the frame continues."""
    reach, half, ends = _BORDER_SHARE * float(max(box[2:] - box[:2])), region.side / 2, (view.width, view.height)
    return any(
        (at - half > 0.0 and low < at - half + reach) or (at + half < end and high > at + half - reach)
        for at, low, high, end in zip((region.x, region.y), box[:2], box[2:], ends, strict=True)
    )


class DetectorSearch:
    """Runs the detector over regions. Not for use from several threads."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
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

    def detect_in(self, view: View, region: Region) -> list[Detection]:
        """Candidates in one upright region, in display pixels."""
        found = self._detector.detect_in(view, region.matrix(SIZE), _THRESHOLD)
        x, y = region.x - region.side / 2, region.y - region.side / 2
        moved = [d.moved(region.side / SIZE, x, y) for d in found]
        return [replace(d, cut=_cut(d.cover, region, view)) for d in moved]

    def whole(self, view: View) -> list[Detection]:
        """Candidates in the whole frame; by its thumbnail, which a device makes faster than a crop of that size."""
        small, scale, _ = view.thumbnail(SIZE)
        square = np.zeros((SIZE, SIZE, 3), np.uint8)
        square[: small.shape[0], : small.shape[1]] = small
        return [d.moved(scale, 0.0, 0.0) for d in self._detector.detect(square, _THRESHOLD)]

    def everywhere(self, view: View, *, thorough: bool = False) -> list[Detection]:
        """Candidates in the whole round at once (first frame, cut, still), strongest first; `thorough` looks for
        smaller ones, too, which takes several times as long."""
        self.reset()
        found = self.whole(view)
        for region in tiles(view.width, view.height):
            found += self.detect_in(view, region)
        if not found:  # the whole frame may be turned
            x, y = view.width / 2, view.height / 2
            for quarter in (1, 2, 3):
                found += self._turned(view, Region(x, y, 2 * max(x, y), quarter * pi / 2))
        found = suppress(found)
        return found + self._small(view, found) if thorough else found

    def _small(self, view: View, known: list[Detection]) -> list[Detection]:
        """Small candidates apart from those that are known: what lies on a larger one is a part of that face."""
        if max(view.width, view.height) > _FINEST_FRAME:
            return []
        found = [d for region in tiles(view.width, view.height, _FINE) for d in self.detect_in(view, region)]
        boxes = np.array([k.box for k in known]).reshape(-1, 4)
        return [
            d
            for d in suppress(found)
            if _LEAST < d.width < SMALL and not ((d.box[:2] < boxes[:, 2:]) & (d.box[2:] > boxes[:, :2])).all(1).any()
        ]

    def upright(self, view: View, found: Detection) -> Detection:
        """The candidate as it looks at that of four rolls at which the detector is surest of a face.

        It finds faces at any roll, but takes those that are turned by more than 60° for others: the mouth for the eyes.
        """
        if found.score > _UPRIGHT:
            return found
        side = float(max(found.box[2:] - found.box[:2]))
        region = Region(float(found.centre[0]), float(found.centre[1]), _AROUND * side, 0.0)
        rolls: list[Detection] = []
        for quarter in range(4):
            near = [
                d
                for d in self._turned(view, replace(region, angle=quarter * pi / 2))
                if float(np.linalg.norm(d.centre - found.centre)) < _CENTRED * side
            ]
            rolls.append(max(near, key=lambda d: d.score, default=replace(found, score=0.0)))
        best = max(rolls, key=lambda d: d.score)
        return found if best is rolls[0] or best.score < _TURNED else best

    def _turned(self, view: View, region: Region) -> list[Detection]:
        """Candidates in a region that is turned by quarters, in display pixels."""
        turned: list[Detection] = []
        for d in self._detector.detect_in(view, region.matrix(SIZE), _THRESHOLD):
            corners = region.to_display(d.box.reshape(2, 2), SIZE)
            box = np.concatenate([corners.min(0), corners.max(0)])
            turned.append(Detection(box, region.to_display(d.points, SIZE), d.score))
        return turned

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
