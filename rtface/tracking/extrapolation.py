"""Faces between two frames that were tracked: moved on by their tracks' motion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rtface.frame import Face, Float

# Seconds between two sightings up to which they tell a face's speed, and for which a face is believed to go on.
_TELLS_S, _GOES_ON_S = 0.3, 0.15
# Widths of a face that it may be moved by: more is a mistake, not a motion.
_FARTHEST = 0.3
# Share of its size by which a covered face grows in a second without being seen. Heads turn and start within
# a tenth of a second, and reach about two widths a second.
_GROWTH = 2.0
# Seconds that the margin around a covered face suffices for, so that it does not change its size on every other frame.
_HELD_S = 0.05


def extrapolated(newest: Sequence[Face], before: Sequence[Face], since: float, passed: float) -> tuple[Face, ...]:
    """The faces of the last tracked frame where they should be now.

    Args:
        newest, before: faces of the last two tracked frames.
        since: seconds between the two.
        passed: seconds since the newer one.
    """
    if not 0.0 < since <= _TELLS_S or passed <= 0.0:
        return tuple(newest)
    known = {face.track_id: face for face in before}
    return tuple(
        _moved(face, known[face.track_id], min(passed, _GOES_ON_S) / since)
        if face.track_id in known and face.track_id
        else face
        for face in newest
    )


def grown(face: Face, age: float) -> Face:
    """A face `age` seconds after it was seen, as large as it takes to hold it wherever it went (what hides faces)."""
    if age <= _HELD_S:
        return face
    centre, factor = (face.box[:2] + face.box[2:]) / 2, 1.0 + _GROWTH * (age - _HELD_S)

    def larger(points: Float) -> Float:
        return centre + factor * (points - centre)

    mesh = face.mesh
    if mesh is not None:
        mesh = mesh.copy()
        mesh[:, :2] = larger(mesh[:, :2])
    return replace(face, box=larger(face.box.reshape(2, 2)).reshape(4), points=larger(face.points), mesh=mesh)


def _moved(face: Face, before: Face, share: float) -> Face:
    shift = share * (face.points.mean(0) - before.points.mean(0))
    far, most = float(np.linalg.norm(shift)), _FARTHEST * face.width
    if far > most:
        shift = shift * (most / far)
    mesh = face.mesh
    if mesh is not None:
        mesh = mesh.copy()
        mesh[:, :2] += shift
    raw = None if face.raw_points is None else face.raw_points + shift
    return replace(face, box=face.box + np.tile(shift, 2), points=face.points + shift, mesh=mesh, raw_points=raw)
