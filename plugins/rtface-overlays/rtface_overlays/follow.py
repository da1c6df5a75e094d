"""Selects the faces of an overlay, and follows them without jitter."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

import numpy as np

from rtface.errors import UsageError
from rtface.frame import Face, Float, Frame
from rtface.stages import display_from_face
from rtface.util.held_faces import HeldFaces
from rtface.util.parse import UNKNOWN_PERSON, faces

FACE = 320.0
"""Width of a face, ear to ear, in its own square of 512 (`rtface.stages.display_from_face`)."""


def check_faces(value: object, shown: str) -> object:
    """Checks a choice of faces: "all", "largest", tracks and persons such as "1,P2,anna", or "all but 2"."""
    text = " ".join(str(value).strip().lower().split())
    match = re.fullmatch(r"all but (.+)", text)
    if match and match[1] not in ("all", "largest"):
        return f"all but {faces(match[1], shown)}"
    try:
        return faces(text, shown)
    except UsageError as error:
        raise UsageError("{why} (or all but 2)", code="value_or_all", why=error) from None


class FaceChoice:
    """Selects the faces that an option `faces` names.

    Args:
        text: result of `check_faces`.
        hides: whether to choose unknown persons, too, if persons are named, because one may be a person to hide.
    """

    def __init__(self, text: str, *, hides: bool = False) -> None:
        self._largest, self._but, self._hides = text == "largest", text.startswith("all but "), hides
        words = text.removeprefix("all but ").split(",")
        self._ids = None if text in ("all", "largest") else {int(word) for word in words if word.isdigit()}
        self._persons = set[str]() if self._ids is None else {word for word in words if not word.isdigit()}
        self._held = HeldFaces()

    def __call__(self, frame: Frame) -> list[Face]:
        faces = frame.faces
        if self._largest:
            chosen = self._held.on(frame)(faces, 1)
            # If the largest face is lost, the widest visible face is hidden, because it may be the same person.
            return list(chosen or (HeldFaces().on(frame)(faces, 1) if self._hides else ()))
        if self._ids is None:
            return list(faces)
        return [face for face in faces if self._named(face) != self._but or (self._hides and self._unknown(face))]

    def _named(self, face: Face) -> bool:
        return face.track_id in (self._ids or ()) or face.person.lower() in self._persons

    def _unknown(self, face: Face) -> bool:
        return bool(self._persons) and face.person in ("", UNKNOWN_PERSON) and face.track_id not in (self._ids or ())

    def in_doubt(self, frame: Frame) -> list[Face]:
        """Returns untracked detections that may be chosen faces."""
        if (self._ids is None and not self._largest) or self._persons:
            return list(frame.unfollowed)
        followed = {face.track_id: face.width for face in frame.faces}
        if self._largest:
            held = self._held.tracks
            widest = max((followed.get(track, 0.0) for track in held), default=0.0)
            return [face for face in frame.unfollowed if face.track_id in held or face.width > widest]
        named: set[int] = self._ids or set()
        if self._but:
            return [face for face in frame.unfollowed if face.track_id not in named]
        # A detection without a track may be a named face that is not tracked at the moment.
        missing = not named <= followed.keys()
        return [face for face in frame.unfollowed if face.track_id in named or (missing and not face.track_id)]


@dataclass(slots=True)
class Spot:
    """Position of a face for an overlay, in display pixels.

    Attributes:
        matrix: 2×3 matrix from the face's 512×512 square to display space.
    """

    matrix: Float

    @classmethod
    def of(cls, face: Face) -> Spot:
        return cls(display_from_face(face))

    @property
    def scale(self) -> float:
        """Display pixels per pixel of the square."""
        return math.hypot(self.matrix[0, 0], self.matrix[1, 0])

    @property
    def width(self) -> float:
        """Width of the face, ear to ear."""
        return FACE * self.scale

    @property
    def roll(self) -> float:
        """Rotation in radians, clockwise."""
        return math.atan2(self.matrix[1, 0], self.matrix[0, 0])

    def at(self, x: float, y: float) -> Float:
        """Maps a point of the square to display space, (2,)."""
        return self.matrix @ np.array([x, y, 1.0])


@dataclass(slots=True)
class Steady:
    """A value with a dead band: it follows its measurement at a distance of `slack`."""

    slack: float
    value: Float | None = None

    def __call__(self, measured: Float) -> Float:
        if self.value is None or self.value.shape != measured.shape:
            self.value = measured.copy()
        difference = measured - self.value
        self.value = self.value + difference - np.clip(difference, -self.slack, self.slack)
        return self.value


@dataclass(slots=True)
class Fade:
    """Opacity 0…1 of an item that fades in and out over `seconds`."""

    seconds: float
    opacity: float = 0.0
    _then: float | None = field(default=None, init=False)

    def __call__(self, wanted: bool, time: float) -> float:
        elapsed = 0.0 if self._then is None else time - self._then
        self._then = time
        if self.seconds <= 0 or not 0 <= elapsed < 1:
            self.opacity = float(wanted)
        else:
            step = elapsed / self.seconds
            self.opacity = min(1.0, self.opacity + step) if wanted else max(0.0, self.opacity - step)
        return self.opacity
