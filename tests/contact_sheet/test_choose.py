"""Which faces a contact sheet shows, and at which times a film is searched."""

from fractions import Fraction

import numpy as np

from rtface.analysis.measure import Analysis
from rtface.contact_sheet.choose import choose
from rtface.contact_sheet.search import Sighting, spread


def face(track: int, severity: float, width: float, scene: int | None = None, time: int = 0) -> Sighting:
    return Sighting(Fraction(time), np.array([0.0, 0.0, width, width]), Analysis(), severity, track, scene or track)


def chosen(faces: list[Sighting], count: int) -> list[tuple[int, str]]:
    return [(choice.face.track, choice.why) for choice in choose(faces, count)]


def test_worst_and_largest_take_turns() -> None:
    faces = [face(1, 0.3, 100), face(2, 0.9, 60), face(3, 0.2, 300), face(4, 0.6, 80)]
    assert chosen(faces, 4) == [(2, "worst"), (3, "largest"), (4, "worst"), (1, "largest")]
    assert chosen(faces, 2) == [(2, "worst"), (3, "largest")]


def test_a_track_is_shown_once_by_its_most_telling_frame() -> None:
    faces = [face(1, 0.5, 100, time=1), face(1, 0.8, 90, time=2), face(2, 0.4, 200, time=3), face(2, 0.2, 250, time=4)]
    assert [choice.face.time for choice in choose(faces, 5)] == [2, 4]


def test_other_scenes_come_first() -> None:
    """Another scene is the best sign of another person."""
    faces = [face(1, 0.9, 100, scene=1), face(2, 0.8, 200, scene=1), face(3, 0.5, 90, scene=2)]
    assert chosen(faces, 3) == [(1, "worst"), (3, "largest"), (2, "worst")]


def test_small_and_clean_faces_come_last() -> None:
    faces = [face(1, 0.95, 30), face(2, 0.4, 60), face(3, 0.05, 400), face(4, 0.3, 50)]
    assert [track for track, _ in chosen(faces, 4)] == [2, 4, 3, 1]


def test_a_search_that_ends_early_is_spread_evenly() -> None:
    for count in (4, 8, 16):
        numbers = sorted(spread(100)[:count])
        gaps = np.diff([*numbers, 1.0])
        assert gaps.max() <= 2 / count
    assert len(set(spread(240))) == 240
