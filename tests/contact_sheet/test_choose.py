"""Which faces a contact sheet shows, and at which times a film is searched."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from rtface.config.options import Options
from rtface.contact_sheet.choose import choose
from rtface.contact_sheet.search import Sighting, search
from rtface.device.cpu.device import CpuDevice
from rtface.frame import Bytes, Face, Float32
from rtface.media.read.sampler import spread
from rtface.tracking import create_tracker
from tests.persons.made import ANNA, BEN
from tests.pipeline.fakes import portrait
from tests.pipeline.run_media import film, write_film


def face(track: int, gain: float, width: float, scene: int | None = None, time: int = 0) -> Sighting:
    return Sighting(Fraction(time), np.array([0.0, 0.0, width, width]), gain, track, scene or track)


def chosen(faces: list[Sighting], count: int) -> list[int]:
    return [choice.face.track for choice in choose(faces, count)]


def test_the_faces_that_gain_most_come_first() -> None:
    faces = [face(1, 0.3, 100), face(2, 0.9, 60), face(3, 0.2, 300), face(4, 0.6, 80)]
    assert chosen(faces, 4) == [2, 4, 1, 3]
    assert chosen(faces, 2) == [2, 4]


def test_a_track_is_shown_once_by_its_most_telling_frame() -> None:
    faces = [face(1, 0.5, 100, time=1), face(1, 0.8, 90, time=2), face(2, 0.4, 200, time=3), face(2, 0.2, 250, time=4)]
    assert [choice.face.time for choice in choose(faces, 5)] == [2, 3]


def test_other_scenes_come_first() -> None:
    """Another scene is the best sign of another person."""
    faces = [face(1, 0.9, 100, scene=1), face(2, 0.8, 200, scene=1), face(3, 0.5, 90, scene=2)]
    assert chosen(faces, 3) == [1, 3, 2]


def test_each_person_is_shown_before_one_is_shown_again() -> None:
    faces = [
        replace(face(track, 0.9 - track / 10, 100), person=person)
        for track, person in ((1, 1), (2, 1), (3, 2), (4, 0), (5, 1))
    ]
    assert chosen(faces, 5) == [1, 3, 4, 2, 5]


def test_small_and_clean_faces_come_last() -> None:
    faces = [face(1, 0.95, 30), face(2, 0.4, 60), face(3, 0.0, 400), face(4, 0.3, 50)]
    assert chosen(faces, 4) == [2, 4, 3, 1]


def test_a_doubtful_face_comes_last() -> None:
    """One that the tracker was not sure of, unless another sample shows it again."""
    ear = replace(face(1, 0.9, 300), sure=False)
    again = [replace(face(2, 0.7, 90, time=k), sure=False) for k in range(2)]
    assert chosen([ear, *again, face(3, 0.5, 80), face(4, 0.1, 40)], 4) == [2, 3, 4, 1]
    assert chosen([ear], 2) == [1]


def test_a_face_that_the_edge_cuts_comes_last() -> None:
    cut = [replace(face(track, 0.9, 300, time=1), whole=False) for track in (1, 2)]
    assert chosen([*cut, face(2, 0.4, 90, time=2), face(3, 0.3, 80)], 3) == [2, 3, 1]
    assert choose([*cut, face(2, 0.4, 90, time=2)], 1)[0].face.time == 2


def by_tint(chip: Bytes) -> Float32:
    return ANNA if chip[..., 0].mean() > chip[..., 2].mean() else BEN


def test_a_search_joins_the_faces_of_a_person(tmp_path: Path) -> None:
    shots = [
        portrait(320, 180, blur=0.8, shift=(x, 0.0))[0] * tint
        for x, tint in ((-60.0, (1.0, 0.6, 0.5)), (60.0, (0.4, 0.6, 1.0)), (0.0, (1.0, 0.6, 0.5)))
    ]
    source = write_film(tmp_path / "in.mkv", (np.asarray(shots[t // 10], np.uint8) for t in range(30)), rate=10)
    tracker = create_tracker("openvino")
    found = search(
        source, Options(), tracker, CpuDevice(), by_tint, limit_s=60, found=lambda *_: None, stop=lambda: False
    )
    tracker.close()
    faces = [face for sample in found.samples for face in sample.faces]
    assert {int(face.time): (face.track, face.person) for face in faces} == {0: (1, 1), 1: (2, 2), 2: (3, 1)}
    assert all(face.embedding is None for face in faces)


class OnTrial:
    """A tracker that is sure of no face at once."""

    watchful, unfollowed = True, ()

    def __init__(self, tracker: Any) -> None:
        self._tracker, self._new = tracker, True
        self.reset, self.close = tracker.reset, tracker.close

    def update(self, view: Any, time: float, *, cut: bool = False) -> tuple[Face, ...]:
        faces = self._tracker.update(view, time, cut=cut)
        self.unfollowed = faces if cut else ()
        return () if cut else faces


def test_a_face_that_is_confirmed_by_its_own_frame_is_not_sure(tmp_path: Path) -> None:
    source, tracker = film(tmp_path / "in.mkv", frames=30), create_tracker("openvino")

    def faces(tracker: Any) -> list[Sighting]:
        found = search(
            source, Options(), tracker, CpuDevice(), by_tint, limit_s=60, found=lambda *_: None, stop=lambda: False
        )
        return [face for sample in found.samples for face in sample.faces]

    assert [face.sure for face in faces(tracker)] == [True, True]
    assert [face.sure for face in faces(OnTrial(tracker))] == [False, False]
    tracker.close()


def test_a_search_that_ends_early_is_spread_evenly() -> None:
    for count in (4, 8, 16):
        numbers = sorted(spread(100)[:count])
        gaps = np.diff([*numbers, 1.0])
        assert gaps.max() <= 2 / count
    assert len(set(spread(240))) == 240
