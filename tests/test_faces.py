"""--faces: which faces of a picture are enhanced."""

from __future__ import annotations

import numpy as np
import pytest

from rtface.errors import UsageError
from rtface.faces import FaceChoice
from rtface.frame import Face


def face(track_id: int, width: float) -> Face:
    return Face(track_id, np.array([0.0, 0.0, width, width]), np.zeros((5, 2)))


FACES = (face(1, 50), face(2, 200), face(7, 120))


@pytest.mark.parametrize(("text", "most", "ids"), [
    ("all", 8, [1, 2, 7]), ("ALL", 2, [2, 7]), ("largest", 8, [2]), ("1,7", 8, [1, 7]), (" 7 ", 8, [7]),
    ("1,2,7", 1, [2]), ("9", 8, []),
])
def test_choice(text: str, most: int, ids: list[int]) -> None:
    assert [f.track_id for f in FaceChoice.parse(text, most)(FACES)] == ids


@pytest.mark.parametrize(("text", "most"), [("", 8), ("biggest", 8), ("1,x", 8), ("0", 8), ("-1", 8), ("all", 0)])
def test_refused_with_the_way_out(text: str, most: int) -> None:
    with pytest.raises(UsageError, match="--"):
        FaceChoice.parse(text, most)
