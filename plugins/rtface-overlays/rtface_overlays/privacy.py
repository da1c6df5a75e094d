"""``blur`` and ``pixelate``: make faces unrecognisable.

In doubt, they cover a face. A face that is briefly lost stays covered at its last place by a growing ellipse. A
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

# Share of the face's width. With this blur, eyes, nose and mouth merge, and a codec's rounding hides what remains.
_SIGMA = 0.22
_GROWTH = 0.5  # growth per second of the ellipse that covers a lost face


@dataclass(slots=True)
class _Veil:
    """An ellipse that covers a face."""

    disc: Float  # matrix from the unit disc to display space
    width: float  # of the face, in display pixels
    last_seen: float
    steady: Steady


class _Veils:
    """Selects the faces to cover, including faces that were just lost."""

    def __init__(self, faces: str, margin: float, hold: float) -> None:
        self._choose, self._margin, self._hold = FaceChoice(faces, hides=True), margin, hold
        self._by_key: dict[int, _Veil] = {}
        self._newest_key = 0  # newest key of a face without a track; such keys are negative

    def __call__(self, frame: Frame) -> Iterator[tuple[Float, float]]:
        """Yields each ellipse to cover, and its face's width. The width (display pixels) has a dead band of 10 %."""
        now = frame.time
        if frame.cut or frame.new:
            self._by_key.clear()
        for face in self._choose(frame):
            self._remove_untracked(face)
            steady = self._by_key[face.track_id].steady if face.track_id in self._by_key else Steady(0.1)
            width = math.exp(steady(np.log(np.array([Spot.of(face).width])))[0])
            self._by_key[face.track_id] = _Veil(covering(face, self._margin), width, now, steady)
        for face in self._choose.in_doubt(frame):
            # In profile, the five landmarks of an untracked face may be wrong, so its width comes from the box.
            side = float(max(face.box[2:] - face.box[:2]))
            self._by_key[self._key(face)] = _Veil(covering(face, self._margin), side, now, Steady(0.1))
        for key, veil in list(self._by_key.items()):
            age = now - veil.last_seen
            if not 0 <= age <= self._hold:
                del self._by_key[key]
            else:
                scale = 1.0 + _GROWTH * age
                yield compose(veil.disc, scaling(scale, scale)), veil.width

    def _key(self, face: Face) -> int:
        """Returns the key of an untracked face: the number of its lost track, or the key of the veil at its place,
        or a new key."""
        if face.track_id:
            return face.track_id
        at_place = next((key for key, veil in self._by_key.items() if key < 0 and _covers_centre(veil, face)), None)
        if at_place is None:
            self._newest_key -= 1
            at_place = self._newest_key
        return at_place

    def _remove_untracked(self, face: Face) -> None:
        """Removes veils of untracked faces at the place of a tracked face."""
        for key in [key for key, veil in self._by_key.items() if key < 0 and _covers_centre(veil, face)]:
            del self._by_key[key]


def _covers_centre(veil: _Veil, face: Face) -> bool:
    """Tests whether a face's centre lies within half of a veil's radius."""
    centre = (face.box[:2] + face.box[2:]) / 2
    return bool(np.linalg.norm(apply(invert(veil.disc), centre[None])) < 0.5)


@dataclass
class Blur:
    """Blurs faces beyond recognition."""

    api = 1
    hides = True
    faces: str = option("all", "all, largest, 1,3 or all but 2", check_faces)
    strength: float = option(1.0, "1: only a patch of skin colour remains; lower values show more", number(0.3, 4))
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
    cells: float = option(5.0, "tiles across a face; fewer tiles show less", number(1, 32))
    margin: float = option(0.2, "enlargement of the covered ellipse, share of its radius", number(0, 2))
    hold: float = option(0.5, "seconds for which a lost face stays covered", number(0, 10))

    def __post_init__(self) -> None:
        self._veils = _Veils(self.faces, self.margin, self.hold)

    def __call__(self, frame: Frame) -> Frame:
        canvas = Canvas(frame)
        for disc, width in self._veils(frame):
            canvas.pixelate(disc, width / self.cells)
        return canvas.frame
