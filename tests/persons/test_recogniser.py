"""From frames with faces to persons: which crops are taken, when a track is decided, what stays unknown."""

from __future__ import annotations

import numpy as np
import pytest

from rtface.frame import Bytes, Face, Float32
from rtface.persons.gallery import Gallery
from rtface.persons.recogniser import MAX_KEPT_CROPS, PersonRecogniser
from rtface.stats import Stats
from tests.persons.made import ANNA, BEN, NumberedView, at, face, frame

PERIOD = 1 / 25


class Scene:
    """Feeds frames to a recogniser whose network knows who stands where: the left half shows `left`."""

    def __init__(self, **photos: list[Float32]) -> None:
        self.left, self.right, self.asked = ANNA, BEN, 0
        self.step = PersonRecogniser(self.embed, Gallery(photos), Stats())
        self.now = 0.0

    def embed(self, chip: Bytes) -> Float32:
        self.asked += 1
        person = self.left if chip[0, 0, 0] < 128 else self.right
        return at(person, 0.1, axis=60 + self.asked % 20)

    def show(self, seconds: float, *faces: Face) -> None:
        for _ in range(round(seconds / PERIOD)):
            self.step(frame(self.now, *faces), lambda shown: NumberedView())
            self.now += PERIOD

    def labels(self, *tracks: int) -> list[str]:
        return [self.step.gallery.label_of(track) for track in tracks]


def test_a_track_is_decided_by_three_crops() -> None:
    scene = Scene()
    scene.show(0.2, face(1))
    assert scene.labels(1) == ["unknown"]
    assert not scene.step.tracks[1].decided
    scene.show(0.2, face(1))
    assert scene.labels(1) == ["P1"]
    assert scene.step.tracks[1].decided


def test_a_decided_face_is_asked_about_seldom() -> None:
    scene = Scene()
    scene.show(3, face(1))
    before = scene.asked
    scene.show(60, face(1))
    assert before <= 8
    assert scene.asked - before <= 21
    assert len(scene.step.tracks[1].crops) == MAX_KEPT_CROPS


def test_persons_are_joined_across_cuts() -> None:
    scene = Scene()
    for track in range(1, 7):
        scene.show(0.5, face(track, x=200 if track % 2 else 450))
    assert scene.labels(1, 2, 3, 4, 5, 6) == ["P1", "P2"] * 3


@pytest.mark.parametrize("poor", [face(1, 30), face(1, yaw=60), face(1, x=30), face(1, x=638)])
def test_a_poor_face_stays_unknown(poor: Face) -> None:
    scene = Scene(anna=[ANNA])
    scene.show(2, poor)
    track = scene.step.tracks[1]
    track.settle()
    assert scene.labels(1) == ["unknown"]
    assert scene.asked == 0


def test_a_dark_face_stays_unknown() -> None:
    class Dark(NumberedView):
        def crop(self, matrix: np.ndarray, size: tuple[int, int]) -> Bytes:
            return super().crop(matrix, size) // 32

    scene = Scene()
    for number in range(10):
        scene.step(frame(number * 0.2, face(1)), lambda shown: Dark())
    assert scene.asked == 0


def test_a_short_track_is_decided_when_it_settles() -> None:
    scene = Scene(anna=[ANNA])
    scene.show(0.1, face(1))
    scene.step.tracks[1].settle()
    assert scene.labels(1) == ["anna"]


def test_a_still_is_decided_at_once() -> None:
    scene = Scene()
    scene.step(frame(0.0, face(1), face(2, x=450), new=True), lambda shown: NumberedView())
    assert scene.labels(1, 2) == ["P1", "P2"]


def test_people_who_change_places_are_followed() -> None:
    scene = Scene(anna=[ANNA], ben=[BEN])
    scene.show(4, face(1), face(2, x=450))
    assert scene.labels(1, 2) == ["anna", "ben"]
    scene.left, scene.right = scene.right, scene.left
    scene.show(9, face(1), face(2, x=450))
    assert scene.labels(1, 2) == ["ben", "anna"]


def test_one_stray_crop_changes_nothing() -> None:
    scene = Scene(anna=[ANNA], ben=[BEN])
    scene.show(4, face(1))
    scene.left = BEN
    while scene.asked == (asked := scene.asked):
        scene.show(PERIOD, face(1))
        if scene.asked > asked:
            break
    scene.left = ANNA
    scene.show(10, face(1))
    assert scene.labels(1) == ["anna"]


def test_faces_carry_their_person() -> None:
    scene = Scene(anna=[ANNA])
    scene.show(0.5, face(1))
    shown = scene.step.label(frame(scene.now, face(1), face(9)))
    assert [one.person for one in shown.faces] == ["anna", "unknown"]


def test_tracks_are_forgotten_and_their_persons_are_not() -> None:
    scene = Scene()
    for track in range(1, 31):
        scene.show(1.0, face(track, x=200 if track % 2 else 450))
    assert len(scene.step.tracks) <= 22
    assert scene.labels(1, 2, 29, 30) == ["P1", "P2", "P1", "P2"]


def test_images_are_kept_of_some_tracks_of_each_person() -> None:
    scene = Scene()
    scene.step = PersonRecogniser(scene.embed, Gallery(), Stats(), keep_faces=8)
    for track in range(1, 31):
        scene.show(1.0, face(track, x=200 if track % 2 else 450))
    kept = scene.step.faces()
    assert len(kept) == 16
    assert all(image.shape == (256, 256, 3) for image in kept.values())
