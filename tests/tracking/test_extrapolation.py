"""Faces between tracked frames: moved on by their motion, and grown where they are to be covered."""

from __future__ import annotations

import numpy as np
import pytest

from rtface.frame import Face
from rtface.tracking.extrapolation import extrapolated, grown


def face(x: float, track: int = 1) -> Face:
    box = np.array([x, 100.0, x + 80, 200.0])
    points = np.array([[x + 20, 130.0], [x + 60, 130], [x + 40, 150], [x + 25, 175], [x + 55, 175]])
    return Face(track, box, points, np.full((478, 3), float(x)), raw_points=points.copy())


def test_a_face_goes_on_as_it_moved():
    (moved,) = extrapolated([face(104)], [face(100)], since=0.04, passed=0.06)
    assert np.allclose(moved.box, face(110).box)
    assert np.allclose(moved.points, face(110).points)
    assert moved.mesh is not None and np.allclose(moved.mesh, [110, 104, 104])


def test_a_face_stops_after_a_while_and_never_jumps():
    (waits,) = extrapolated([face(104)], [face(100)], since=0.04, passed=5.0)
    assert np.allclose(waits.box, face(104 + 4 * 0.15 / 0.04).box)
    (far,) = extrapolated([face(160)], [face(100)], since=0.03, passed=0.1)
    assert np.allclose(far.box, face(160 + 0.3 * 80).box)


@pytest.mark.parametrize(("before", "since"), [([], 0.03), ([face(90, track=2)], 0.03), ([face(90)], 1.0)])
def test_a_face_whose_motion_is_unknown_stays(before: list[Face], since: float):
    now = face(100)
    assert extrapolated([now], before, since, 0.1) == (now,)


def test_a_covered_face_grows_with_its_age():
    assert grown(face(100), 0.034).width == 80
    widths = [grown(face(100), age).width for age in (0.07, 0.1, 0.3)]
    assert widths == sorted(widths) and widths[0] > 80 and widths[-1] >= 1.5 * 80
    old = grown(face(100), 0.1)
    assert np.allclose((old.box[:2] + old.box[2:]) / 2, [140, 150])
