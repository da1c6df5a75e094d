"""``blur`` and ``pixelate``: make faces unrecognisable.

When in doubt they cover a face. A face that is briefly lost stays covered at its last place by a growing ellipse. A
face that is detected but not tracked is covered, too. If tracking fails, `rtface.stages` blurs the whole frame.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from rtface.frame import Face, Float
from rtface.geometry.transforms import apply, compose, invert, scaling
from rtface.stages import Canvas, Frame, covering, option
from rtface.util.parse import number
from rtface_overlays.follow import FaceChoice, Spot, Steady, check_faces

# Share of the face's width. At this blur eyes, nose and mouth merge, and a codec's rounding hides the rest.
_SIGMA = 0.22
_GROWTH = 0.5  # growth of the veil of a lost face per second


@dataclass(slots=True)
class _Veil:
    """Last place of a covered face: matrix from unit disc to display, width in display pixels, time."""

    disc: Float
    width: float
    seen: float
    steady: Steady


class _Veils:
    """Selects the faces to cover on each frame, including those just lost."""

    def __init__(self, chosen: str, margin: float, hold: float) -> None:
        self._choose, self._margin, self._hold = FaceChoice(chosen, hides=True), margin, hold
        self._by_face: dict[int, _Veil] = {}
        self._last = 0  # key of the newest veil of a face without a track; those keys are negative

    def __call__(self, frame: Frame) -> Iterator[tuple[Float, float]]:
        """Yields each ellipse to cover, and its face's width. The width, in display pixels, has a dead band of 10 %."""
        now = frame.time
        if frame.cut or frame.new:
            self._by_face.clear()
        for face in self._choose(frame):
            self._lift_unfollowed(face)
            steady = self._by_face[face.track_id].steady if face.track_id in self._by_face else Steady(0.1)
            width = math.exp(steady(np.log(np.array([Spot.of(face).width])))[0])
            self._by_face[face.track_id] = _Veil(covering(face, self._margin), width, now, steady)
        for face in self._choose.in_doubt(frame):
            # The five landmarks of such a face may be wrong (in profile), so its size comes from the box.
            side = float(max(face.box[2:] - face.box[:2]))
            self._by_face[self._key(face)] = _Veil(covering(face, self._margin), side, now, Steady(0.1))
        for track, veil in list(self._by_face.items()):
            age = now - veil.seen
            if not 0 <= age <= self._hold:
                del self._by_face[track]
            else:
                grown = 1.0 + _GROWTH * age
                yield compose(veil.disc, scaling(grown, grown)), veil.width

    def _key(self, face: Face) -> int:
        """Returns the key of an untracked face: the number of its lost track, else the key of the veil at its place,
        else a new key."""
        if face.track_id:
            return face.track_id
        near = next((key for key, veil in self._by_face.items() if key < 0 and _over(veil, face)), None)
        if near is None:
            self._last -= 1
            near = self._last
        return near

    def _lift_unfollowed(self, face: Face) -> None:
        """Removes veils of untracked faces at the place of a tracked face."""
        for key in [key for key, veil in self._by_face.items() if key < 0 and _over(veil, face)]:
            del self._by_face[key]


def _over(veil: _Veil, face: Face) -> bool:
    """Tests whether a face's centre lies in a veil's inner half."""
    centre = (face.box[:2] + face.box[2:]) / 2
    return bool(np.linalg.norm(apply(invert(veil.disc), centre[None])) < 0.5)


@dataclass
class Blur:
    """Blurs faces beyond recognition."""

    api = 1
    hides = True
    faces: str = option("all", "all, largest, 1,3 or all but 2", check_faces)
    strength: float = option(1.0, "1 leaves a patch of skin colour; less shows more", number(0.3, 4))
    margin: float = option(0.2, "enlargement of the covered ellipse, share of its radius", number(0, 2))
    hold: float = option(0.5, "seconds for which a lost face stays covered", number(0, 10))

    def __post_init__(self) -> None:
        self._veils = _Veils(self.faces, self.margin, self.hold)

    def __call__(self, frame: Frame) -> Frame:
        canvas = Canvas(frame)
        for disc, width in self._veils(frame):
            canvas.blur(disc, _SIGMA * self.strength * width)
        return canvas.frame


@dataclass
class Pixelate:
    """Covers faces with a mosaic."""

    api = 1
    hides = True
    faces: str = option("all", "all, largest, 1,3 or all but 2", check_faces)
    cells: float = option(5.0, "tiles across a face; fewer show less", number(1, 32))
    margin: float = option(0.2, "enlargement of the covered ellipse, share of its radius", number(0, 2))
    hold: float = option(0.5, "seconds for which a lost face stays covered", number(0, 10))

    def __post_init__(self) -> None:
        self._veils = _Veils(self.faces, self.margin, self.hold)

    def __call__(self, frame: Frame) -> Frame:
        canvas = Canvas(frame)
        for disc, width in self._veils(frame):
            canvas.pixelate(disc, width / self.cells)
        return canvas.frame
