"""--faces: which faces of a picture are enhanced."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from rtface.analysis.track_report import TrackReport
from rtface.analysis.treatment import Treatment
from rtface.analysis.treatment_file import Treatments
from rtface.enhance.face_filter import FaceFilter, unseen
from rtface.errors import UsageError
from rtface.frame import Face
from rtface.util.held_faces import HeldFaces


def face(track_id: int, width: float) -> Face:
    return Face(track_id, np.array([0.0, 0.0, width, width]), np.zeros((5, 2)))


ON = Treatment(True)
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
    ("faces", "person", "treated", "said"),
    [
        ("all", "anna@P2,1", {}, []),
        ("1,anna", "anna", {1: ON}, []),
        ("1,8,P9", "anna", {}, ["--faces 1,8,P9 had no effect for 8, P9: no such face appeared"]),
        ("all", "anna@P2,P7,12", {}, ["--person had no effect for 12, P7: no such face appeared"]),
        ("all", "anna", {1: ON, 7: ON}, ["the treatment file had no effect for 7, P2: no such face appeared"]),
    ],
)
def test_faces_that_never_came_are_said(
    faces: str, person: str, treated: dict[int, Treatment], said: list[str]
) -> None:
    """P2 is called anna: it is no label of this run."""
    persons = {"p1": ON, "p2": ON, "anna": ON} if said and treated else {}
    tracks = [TrackReport(k, 0, 1, 25, 90.0, {}, {}, 1.0, person=name) for k, name in ((1, "P1"), (2, "anna"))]
    lines = unseen(faces, [person], Treatments(treated, persons), tracks)
    assert [str(line).startswith(start) for line, start in zip(lines, said, strict=True)] == [True] * len(said)
