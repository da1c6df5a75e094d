"""--faces: which faces of a picture are enhanced."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from rtface.enhance.face_filter import FaceFilter, missing_tracks
from rtface.errors import UsageError
from rtface.frame import Face
from rtface.util.held_faces import HeldFaces


def face(track_id: int, width: float) -> Face:
    return Face(track_id, np.array([0.0, 0.0, width, width]), np.zeros((5, 2)))


FACES = (face(1, 50), face(2, 200), face(7, 120))


@pytest.mark.parametrize(
    ("text", "most", "ids"),
    [
        ("all", 8, [1, 2, 7]),
        ("ALL", 2, [2, 7]),
        ("largest", 8, [2]),
        ("1,7", 8, [1, 7]),
        (" 7 ", 8, [7]),
        ("1,2,7", 1, [2]),
        ("9", 8, []),
    ],
)
def test_choice(text: str, most: int, ids: list[int]) -> None:
    assert [f.track_id for f in FaceFilter.parse(text, most)(FACES, partial(HeldFaces().widest, time=0.0))] == ids


@pytest.mark.parametrize(("text", "most"), [("", 8), ("big est", 8), ("1,-x", 8), ("0", 8), ("-1", 8)])
def test_refused_with_the_way_out(text: str, most: int) -> None:
    with pytest.raises(UsageError, match="--"):
        FaceFilter.parse(text, most)


@pytest.mark.parametrize(
    ("faces", "treated", "found", "said"),
    [
        ("all", [], [1, 2], []),
        ("1", [1], [1], []),
        ("99", [], [1], ["--faces 99 had no effect for track 99: no such face came"]),
        ("1,8,9", [], [1], ["--faces 1,8,9 had no effect for tracks 8, 9"]),
        ("all", [1, 7], [1], ["the treatment file had no effect for track 7"]),
    ],
)
def test_tracks_that_never_came_are_said(faces: str, treated: list[int], found: list[int], said: list[str]) -> None:
    lines = missing_tracks(faces, treated, found)
    assert len(lines) == len(said)
    assert all(line.startswith(start) for line, start in zip(lines, said, strict=True))


def test_persons_of_the_treatment_file_who_never_came_are_said() -> None:
    """P2 is called anna: it is no label of this run."""
    assert missing_tracks("all", [], [1, 2], ["P1", "anna"], ["p1", "p2", "anna"]) == [
        "the treatment file had no effect for P2: this person was not recognised; 'rtface analyze' lists the persons"
    ]
