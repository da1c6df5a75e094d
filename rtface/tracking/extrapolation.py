"""Extrapolates faces between two tracked frames by their motion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rtface.frame import Face, Float
from rtface.geometry.alignment import move
from rtface.geometry.transforms import translation

# Maximum time between two sightings that give a speed, and maximum time of extrapolation.
_MAX_GAP_S, _MAX_AHEAD_S = 0.3, 0.15
# Maximum shift of a face. A larger shift is an error, not a motion.
_MAX_SHIFT_WIDTHS = 0.3
# Growth of a covered face while it is not seen, in sizes of the face per second. Heads turn and start moving within a
# tenth of a second, and reach about two widths a second.
_GROWTH_PER_S = 2.0
# For this time, the margin around a covered face suffices. Growth would change the face's size on every other frame.
_MARGIN_S = 0.05


def extrapolated(newest: Sequence[Face], before: Sequence[Face], since: float, passed: float) -> tuple[Face, ...]:
    """Moves the last tracked frame's faces to where they should be now.

    Args:
        newest, before: faces of the last two tracked frames.
        since: seconds between the two.
        passed: seconds since the newer of the two frames.
    """
    if not 0.0 < since <= _MAX_GAP_S or passed <= 0.0:
        return tuple(newest)
    earlier = {face.track_id: face for face in before}
    return tuple(
        _move(face, earlier[face.track_id], min(passed, _MAX_AHEAD_S) / since)
        if face.track_id in earlier and face.track_id
        else face
        for face in newest
    )


def grown(face: Face, age: float) -> Face:
    """Enlarges a face, for stages that hide faces. It covers the possible motion over `age` seconds."""
    if age <= _MARGIN_S:
        return face
    centre, factor = (face.box[:2] + face.box[2:]) / 2, 1.0 + _GROWTH_PER_S * (age - _MARGIN_S)

    def enlarge(points: Float) -> Float:
        return centre + factor * (points - centre)

    mesh = face.mesh
    if mesh is not None:
        mesh = mesh.copy()
        mesh[:, :2] = enlarge(mesh[:, :2])
    return replace(face, box=enlarge(face.box.reshape(2, 2)).reshape(4), points=enlarge(face.points), mesh=mesh)


def _move(face: Face, earlier: Face, share: float) -> Face:
    shift = share * (face.points.mean(0) - earlier.points.mean(0))
    distance, limit = float(np.linalg.norm(shift)), _MAX_SHIFT_WIDTHS * face.width
    if distance > limit:
        shift = shift * (limit / distance)
    mesh = None if face.mesh is None else move(translation(*shift.tolist()), face.mesh)
    raw = None if face.raw_points is None else face.raw_points + shift
    return replace(face, box=face.box + np.tile(shift, 2), points=face.points + shift, mesh=mesh, raw_points=raw)
