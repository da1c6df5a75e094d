"""Which faces a contact sheet shows, and at which times a film is searched."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from rtface.config.options import Options
from rtface.contact_sheet.search import Sighting, next_face, search
from rtface.device.cpu.device import CpuDevice
from rtface.frame import Bytes, Float32
from rtface.tracking import create_tracker
from tests.persons.made import ANNA, BEN
from tests.pipeline.fakes import portrait
from tests.pipeline.run_media import write_film

VIEW, OTHER = (
    np.kron(np.random.default_rng(k).integers(0, 255, (4, 8, 3), np.uint8), np.ones((9, 8, 1), np.uint8))
    for k in (1, 2)
)


def face(gain: float, width: float, person: Float32 | None = None, time: int = 0) -> Sighting:
    return Sighting(Fraction(time), np.array([0.0, 0.0, width, width]), gain, VIEW, embedding=person)


def chosen(faces: list[Sighting], count: int) -> list[int]:
    """The numbers of the faces that are shown, in this order."""
    left, shown = list(faces), list[Sighting]()
    for _ in range(count):
        shown.append(next_face(left, shown))
        left = [one for one in left if one is not shown[-1]]
    return [next(k for k, one in enumerate(faces) if one is other) for other in shown]


def test_the_faces_that_gain_most_come_first() -> None:
    assert chosen([face(0.3, 100), face(0.9, 60), face(0.2, 300), face(0.6, 80)], 4) == [1, 3, 0, 2]


def test_each_person_is_shown_before_one_is_shown_again() -> None:
    faces = [face(0.9, 100, ANNA), face(0.8, 100, ANNA), face(0.7, 100, BEN), face(0.6, 100), face(0.5, 100, ANNA)]
    assert chosen(faces, 5) == [0, 2, 3, 1, 4]


def test_small_and_clean_faces_come_last() -> None:
    assert chosen([face(0.95, 30), face(0.4, 60), face(0.0, 400), face(0.3, 50)], 4)[:2] == [1, 3]


def test_a_face_repeats_itself_in_its_scene_only() -> None:
    one = face(0.9, 100, ANNA)
    assert face(0.5, 80, ANNA, time=2).repeats(one), "the same person, elsewhere in the picture"
    assert face(0.5, 100, BEN, time=2).repeats(one), "the same place"
    aside = replace(face(0.5, 100, BEN), box=np.array([200.0, 0.0, 300.0, 100.0]))
    assert not aside.repeats(one)
    assert not replace(face(0.5, 100, ANNA), thumbnail=OTHER).repeats(one), "another scene"
    assert not replace(face(0.5, 100, ANNA), image=Path("a.png")).repeats(one), "another photo"


def by_tint(chip: Bytes) -> Float32:
    return ANNA if chip[..., 0].mean() > chip[..., 2].mean() else BEN


def test_a_search_tells_persons_apart(tmp_path: Path) -> None:
    shots = [
        portrait(320, 180, blur=0.8, shift=(x, 0.0))[0] * tint
        for x, tint in ((-60.0, (1.0, 0.6, 0.5)), (60.0, (0.4, 0.6, 1.0)), (0.0, (1.0, 0.6, 0.5)))
    ]
    source = write_film(tmp_path / "in.mkv", (np.asarray(shots[t // 10], np.uint8) for t in range(30)), rate=10)
    tracker = create_tracker("openvino")
    found = list(search(source, Options(), tracker, CpuDevice(), by_tint))
    tracker.close()
    assert len(found) > 3
    faces = [face for each in found for face in each]
    first, second, third = (next(one for one in faces if int(one.time) == t) for t in range(3))
    assert third.shows_person_of(first) and not second.shows_person_of(first)
