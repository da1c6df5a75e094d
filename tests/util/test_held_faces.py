"""Which of several faces is chosen, frame after frame."""

from __future__ import annotations

import numpy as np
import pytest

from rtface.frame import Face
from rtface.util.held_faces import HeldFaces


def chosen(widths: list[dict[int, float]], most: int = 1, rate: float = 30.0) -> list[set[int]]:
    """The tracks chosen on each frame, of faces whose widths are given by track."""
    held = HeldFaces()
    return [
        {
            f.track_id
            for f in held.widest(
                [Face(track, np.array([0.0, 0.0, width, width]), np.zeros((5, 2))) for track, width in faces.items()],
                most,
                k / rate,
            )
        }
        for k, faces in enumerate(widths)
    ]


@pytest.mark.parametrize("most", [1, 2])
def test_a_face_is_held_until_another_is_wider_by_a_fifth(most):
    third = {} if most == 1 else {3: 300.0}
    pairs = [{1: 100.0, 2: 99.0 + k, **third} for k in range(30)]
    shown = chosen(pairs, most)
    assert shown == [{1, *third}] * 22 + [{2, *third}] * 8


def test_its_place_is_kept_for_a_second_from_those_passed_over():
    both, guest = {1: 110.0, 2: 100.0}, {2: 100.0}
    shown = chosen([both, *[guest] * 5, both, *[guest] * 40])
    assert shown[:7] == [{1}, *[set()] * 5, {1}]
    assert shown[7:37].count(set()) == 29
    assert shown[-1] == {2}


def test_a_face_that_was_not_there_takes_the_place_at_once():
    assert chosen([{1: 110.0, 2: 100.0}, {2: 100.0, 3: 108.0}, {4: 50.0}]) == [{1}, {3}, {4}]


def test_a_lost_face_under_another_number_takes_its_place():
    """A tracker shows the lost one beside the new one for a while."""
    first, second = {1: 120.0, 2: 110.0}, {1: 120.0, 2: 110.0, 3: 110.0}
    shown = chosen([*[first] * 30, *[second] * 4, *[{1: 120.0, 3: 110.0}] * 3], most=2)
    assert shown == [{1, 2}] * 34 + [{1, 3}] * 3
