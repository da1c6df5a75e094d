"""Selects the faces of an overlay and follows them without jitter."""

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
"""Width of a face, ear to ear, in pixels of the 512×512 face template (see `rtface.stages.display_from_face`)."""


def check_faces(value: object, option_name: str) -> object:
    """Checks a choice of faces: "all", "largest", tracks and persons such as "1,P2,anna", or "all but 2"."""
    text = " ".join(str(value).strip().lower().split())
    match = re.fullmatch(r"all but (.+)", text)
    if match and match[1] not in ("all", "largest"):
        return f"all but {faces(match[1], option_name)}"
    try:
        return faces(text, option_name)
    except UsageError as error:
        raise UsageError("{why} (or all but 2)", code="value_or_all", why=error) from None


class FaceChoice:
    """Selects the faces of the option `faces`.

    Args:
        text: result of `check_faces`.
        hides: whether to select unknown persons, too, if persons are listed, because they may be listed ones.
    """

    def __init__(self, text: str, *, hides: bool = False) -> None:
        self._largest, self._invert, self._hides = text == "largest", text.startswith("all but "), hides
        entries = text.removeprefix("all but ").split(",")
        self._ids = None if text in ("all", "largest") else {int(entry) for entry in entries if entry.isdigit()}
        self._persons = set[str]() if self._ids is None else {entry for entry in entries if not entry.isdigit()}
        self._held_faces = HeldFaces()

    def __call__(self, frame: Frame) -> list[Face]:
        faces = frame.faces
        if self._largest:
            chosen = self._held_faces.on(frame)(faces, 1)
            # If the largest face is lost, the widest visible face is hidden, because it may be the same person.
            return list(chosen or (HeldFaces().on(frame)(faces, 1) if self._hides else ()))
        if self._ids is None:
            return list(faces)
        return [face for face in faces if self._listed(face) != self._invert or (self._hides and self._unknown(face))]

    def _listed(self, face: Face) -> bool:
        return face.track_id in (self._ids or ()) or face.person.lower() in self._persons

    def _unknown(self, face: Face) -> bool:
        return bool(self._persons) and face.person in ("", UNKNOWN_PERSON) and face.track_id not in (self._ids or ())

    def in_doubt(self, frame: Frame) -> list[Face]:
        """Returns untracked detections that may show selected faces."""
        if (self._ids is None and not self._largest) or self._persons:
            return list(frame.unfollowed)
        followed = {face.track_id: face.width for face in frame.faces}
        if self._largest:
            selected = self._held_faces.tracks
            widest = max((followed.get(track, 0.0) for track in selected), default=0.0)
            return [face for face in frame.unfollowed if face.track_id in selected or face.width > widest]
        listed: set[int] = self._ids or set()
        if self._invert:
            return [face for face in frame.unfollowed if face.track_id not in listed]
        # A detection without a track may show a listed face that is not tracked at the moment.
        some_lost = not listed <= followed.keys()
        return [face for face in frame.unfollowed if face.track_id in listed or (some_lost and not face.track_id)]


@dataclass(slots=True)
class Spot:
    """Position of a face for an overlay, in display pixels.

    Attributes:
        matrix: 2×3 matrix from the 512×512 face template to display space.
    """

    matrix: Float

    @classmethod
    def of(cls, face: Face) -> Spot:
        return cls(display_from_face(face))

    @property
    def scale(self) -> float:
        """Display pixels per pixel of the template."""
        return math.hypot(self.matrix[0, 0], self.matrix[1, 0])

    @property
    def width(self) -> float:
        """Width of the face, ear to ear, in display pixels."""
        return FACE * self.scale

    @property
    def roll(self) -> float:
        """Rotation in radians, clockwise."""
        return math.atan2(self.matrix[1, 0], self.matrix[0, 0])

    def at(self, x: float, y: float) -> Float:
        """Maps a point of the template to display space. Returns an array (2,)."""
        return self.matrix @ np.array([x, y, 1.0])


@dataclass(slots=True)
class Steady:
    """A value with a dead band: it changes only as far as a measurement differs from it by more than `slack`."""

    slack: float
    value: Float | None = None

    def __call__(self, measurement: Float) -> Float:
        if self.value is None or self.value.shape != measurement.shape:
            self.value = measurement.copy()
        difference = measurement - self.value
        self.value = self.value + difference - np.clip(difference, -self.slack, self.slack)
        return self.value


@dataclass(slots=True)
class Fade:
    """Opacity (0…1) of an item that fades in and out over `seconds`."""

    seconds: float
    opacity: float = 0.0
    _last_time: float | None = field(default=None, init=False)

    def __call__(self, visible: bool, time: float) -> float:
        elapsed = 0.0 if self._last_time is None else time - self._last_time
        self._last_time = time
        if self.seconds <= 0 or not 0 <= elapsed < 1:
            self.opacity = float(visible)
        else:
            step = elapsed / self.seconds
            self.opacity = min(1.0, self.opacity + step) if visible else max(0.0, self.opacity - step)
        return self.opacity
