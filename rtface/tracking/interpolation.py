"""Interpolates the faces of a film between two readings.

Faces that move steadily need not be read on every frame: between two readings 0.1 s apart, each point of the mesh
moves on an almost straight line. `MotionGuard` compares each reading with the place to which the two readings before
it point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor

import numpy as np

from rtface.frame import Face, Float
from rtface.geometry.alignment import RIGID, pose
from rtface.tracking.facemesh import box_of, five_points

SYNC_S = 1.0
"""On the first frame of each such period of the film's time every mesh is read and the detector begins its round, so
that the frame on which tracking began does not determine which frames are read."""
READ_AFTER_S, MAX_SPAN_S = 0.085, 0.14
"""Seconds after a reading from which the next frame is read, and maximum time between two readings."""
_SHORT_S = 0.05
"""Span below which a reading replaces the one before it: over so short a time, noise exceeds motion."""
_MAX_MISS, _MAX_SHIFT = 0.03, 0.05
"""Maximum mean distances of the rigid points, from their expected places and between readings, in widths of the face.
Over 21 clips they accept 64 % of the spans, 79 % of talking heads. Points are then off by 0.64 of the network's 256
pixels in the mean, 2.5 at the 99th percentile; without limits by 1.9 and more than 10 in fast clips."""


def new_period(before: float, time: float) -> bool:
    """Returns whether a period of `SYNC_S` begins between two times in seconds."""
    return floor(before / SYNC_S) != floor(time / SYNC_S)


@dataclass(frozen=True, slots=True)
class _Reading:
    time: float
    points: dict[int, Float]  # rigid points by track
    widths: dict[int, float]


class MotionGuard:
    """Judges from successive readings whether faces move steadily."""

    def __init__(self) -> None:
        self._readings: list[_Reading] = []

    def steady(self, faces: Sequence[Face], time: float) -> bool:
        """Adds a reading. Returns whether it has the faces of the last two, where their motion points.

        Args:
            faces: faces with a mesh, before smoothing.
            time: time in seconds.
        """
        newest = _Reading(
            time,
            {face.track_id: face.mesh[RIGID, :2] for face in faces if face.mesh is not None},
            {face.track_id: face.width for face in faces},
        )
        last = self._readings[-2:]
        short = bool(last) and time - last[-1].time < _SHORT_S
        self._readings = [*(last[:-1] if short else last), newest]
        return (
            bool(faces) and len(last) == 2 and all(_on_line(last[0], last[1], newest, track) for track in newest.widths)
        )


def _on_line(first: _Reading, second: _Reading, third: _Reading, track: int) -> bool:
    """Returns whether a track moved on as the first two readings predict."""
    before, span = second.time - first.time, third.time - second.time
    if not (0 < before <= MAX_SPAN_S + _SHORT_S and 0 < span <= MAX_SPAN_S):
        return False
    if not all(track in one.points and one.widths.keys() == third.widths.keys() for one in (first, second, third)):
        return False
    a, b, c = (one.points[track] for one in (first, second, third))
    shift, width = c - b, third.widths[track]
    miss, shift = (float(np.linalg.norm(one, axis=1).mean()) for one in (shift - (b - a) * (span / before), shift))
    return miss <= _MAX_MISS * width and shift <= _MAX_SHIFT * width


def interpolated(before: Sequence[Face], after: Sequence[Face], share: float) -> tuple[Face, ...]:
    """Returns the faces between two readings with the same tracks.

    Args:
        before, after: faces with a mesh, before smoothing. The result has the order of `after`.
        share: place of the frame between the readings, 0…1.
    """
    earlier = {face.track_id: face for face in before}
    faces: list[Face] = []
    for face in after:
        one = earlier[face.track_id]
        assert one.mesh is not None
        assert face.mesh is not None
        mesh = (1 - share) * one.mesh + share * face.mesh
        score = (1 - share) * one.score + share * face.score
        faces.append(Face(face.track_id, box_of(mesh), five_points(mesh), mesh, score, pose(mesh)))
    return tuple(faces)
