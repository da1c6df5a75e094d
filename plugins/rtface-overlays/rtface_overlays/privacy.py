"""``blur`` and ``pixelate``: faces that nobody is to recognise.

When in doubt they cover: a face that is lost for a moment stays covered where it was, by an ellipse that grows; a face
that the detector sees and the tracker does not follow is covered, too; and where tracking fails, `rtface.stages` blurs
the whole frame.
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

# Of the face's width: eyes, nose and mouth run into each other, and a codec's rounding hides what is left of them.
_SIGMA = 0.22
_GROWS = 0.5  # a second of holding makes the veil so much larger


@dataclass(slots=True)
class _Veil:
    """The last place of a face: unit disc → display, its width in display pixels, when."""

    disc: Float
    width: float
    seen: float
    steady: Steady


class _Veils:
    """The faces that are to be covered on each frame, those just lost among them."""

    def __init__(self, chosen: str, margin: float, hold: float) -> None:
        self._choose, self._margin, self._hold = FaceChoice(chosen, hides=True), margin, hold
        self._known: dict[int, _Veil] = {}
        self._last = 0  # key of the newest veil of a face without a track; those keys are negative

    def __call__(self, frame: Frame) -> Iterator[tuple[Float, float]]:
        """For each the ellipse, and the face's width in display pixels, which changes in steps of a tenth."""
        now = frame.time
        if frame.cut or frame.new:
            self._known.clear()
        for face in self._choose(frame):
            self._lift_unfollowed(face)
            steady = self._known[face.track_id].steady if face.track_id in self._known else Steady(0.1)
            width = math.exp(steady(np.log(np.array([Spot.of(face).width])))[0])
            self._known[face.track_id] = _Veil(covering(face, self._margin), width, now, steady)
        for face in self._choose.in_doubt(frame):
            # Its five points may make no sense (a profile), so the box alone says how large it is.
            side = float(max(face.box[2:] - face.box[:2]))
            self._known[self._key(face)] = _Veil(covering(face, self._margin), side, now, Steady(0.1))
        for track, veil in list(self._known.items()):
            age = now - veil.seen
            if not 0 <= age <= self._hold:
                del self._known[track]
            else:
                grown = 1.0 + _GROWS * age
                yield compose(veil.disc, scaling(grown, grown)), veil.width

    def _key(self, face: Face) -> int:
        """Key of a face that is not followed: its lost track's, else that of the veil where it is, else a new one."""
        if face.track_id:
            return face.track_id
        near = next((key for key, veil in self._known.items() if key < 0 and _over(veil, face)), None)
        if near is None:
            self._last -= 1
            near = self._last
        return near

    def _lift_unfollowed(self, face: Face) -> None:
        """Ends the veils of detections where a face is followed now."""
        for key in [key for key, veil in self._known.items() if key < 0 and _over(veil, face)]:
            del self._known[key]


def _over(veil: _Veil, face: Face) -> bool:
    """True if the face's centre lies in the inner half of a veil."""
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
