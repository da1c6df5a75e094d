"""Tracks are joined to persons by the distance of their embeddings, never those that were seen together."""

from __future__ import annotations

import pytest

from rtface.persons.gallery import JOIN, JOIN_ONLY, MARGIN, Gallery, distance
from tests.persons.made import ANNA, BEN, CLEO, at, direction


def labels(gallery: Gallery, *tracks: int) -> list[str | None]:
    found = [gallery.person_of(track) for track in tracks]
    return [person.label if person else None for person in found]


def test_three_people_over_twelve_tracks() -> None:
    gallery = Gallery()
    for track in range(12):
        person = (ANNA, BEN, CLEO)[track % 3]
        gallery.decide(track + 1, at(person, 0.2, axis=40 + track))
    assert labels(gallery, *range(1, 13)) == ["P1", "P2", "P3"] * 4
    assert [sorted(person.tracks) for person in gallery.persons] == [[1, 4, 7, 10], [2, 5, 8, 11], [3, 6, 9, 12]]


@pytest.mark.parametrize(("off", "same"), [(0.9 * JOIN, True), (1.15 * JOIN, False)])
def test_the_distance_decides(off: float, same: bool) -> None:
    gallery = Gallery()
    gallery.decide(1, ANNA)
    gallery.decide(2, direction(off))
    assert (labels(gallery, 2) == ["P1"]) == same


@pytest.mark.parametrize(
    ("others", "off", "label"),
    [("", 0.98, "anna"), ("", 1.02, "P1"), ("name", 0.98, "P1"), ("person", 0.98, "P2"), ("face", 0.98, "P1")],
)
def test_the_only_person_of_a_film_is_taken_for_the_only_name(others: str, off: float, label: str) -> None:
    photos = {"anna": [direction(0.0)]} | ({"cleo": [CLEO]} if others == "name" else {})
    gallery = Gallery(photos)
    if others == "person":
        gallery.decide(8, BEN)
    if others == "face":
        gallery.seen_together([1, 9])
    assert off * JOIN_ONLY > JOIN
    gallery.decide(1, direction(off * JOIN_ONLY))
    assert gallery.label_of(1) == label


def test_persons_and_tracks_are_assigned_by_hand() -> None:
    gallery = Gallery({"anna": [ANNA]}, assigned={"P2": "anna", "4": "anna"})
    for track, person in enumerate((BEN, CLEO, ANNA), 1):
        gallery.decide(track, person)
    assert [gallery.label_of(track) for track in range(1, 6)] == ["P1", "anna", "anna", "anna", "unknown"]
    gallery.decide(6, CLEO)
    assert gallery.label_of(6) == "anna" and len(gallery.persons) == 3  # their faces are not mixed


def test_tracks_seen_together_are_two_persons() -> None:
    gallery = Gallery()
    gallery.seen_together([1, 2])
    gallery.decide(1, ANNA)
    gallery.decide(2, ANNA)
    assert labels(gallery, 1, 2) == ["P1", "P2"]


def test_of_one_person_seen_twice_the_worse_is_released() -> None:
    gallery = Gallery({"anna": [ANNA]})
    gallery.decide(1, at(ANNA, 0.25))
    gallery.decide(2, ANNA)
    assert labels(gallery, 1, 2) == ["anna", "anna"]
    gallery.seen_together([1, 2])
    assert labels(gallery, 1, 2) == [None, "anna"]
    gallery.decide(1, at(ANNA, 0.25))
    assert labels(gallery, 1, 2) == ["P2", "anna"]


def test_between_two_persons_nothing_is_guessed() -> None:
    gallery = Gallery()
    first, second = direction(0.0), direction(1.2 * JOIN)
    gallery.decide(1, first)
    gallery.decide(2, second)
    middle = direction(0.6 * JOIN)
    assert abs(distance(middle, first) - distance(middle, second)) < MARGIN
    assert gallery.decide(3, middle) is None
    assert labels(gallery, 1, 2, 3) == ["P1", "P2", None]


def test_photos_name_a_person_and_others_are_numbered() -> None:
    gallery = Gallery({"ben": [BEN, at(BEN, 0.1)], "zoe": [direction(1.5, 9)]})
    gallery.decide(1, ANNA)
    gallery.decide(2, at(BEN, 0.2))
    gallery.decide(3, CLEO)
    assert labels(gallery, 1, 2, 3) == ["P1", "ben", "P3"]
    assert [person.label for person in gallery.persons] == ["P1", "ben", "P3"]


def test_a_released_track_can_be_of_another_person() -> None:
    gallery = Gallery()
    gallery.decide(1, ANNA)
    gallery.decide(2, BEN)
    gallery.release(2)
    gallery.decide(2, at(ANNA, 0.1))
    assert labels(gallery, 1, 2) == ["P1", "P1"]
    gallery.release(7)
    assert labels(gallery, 7) == [None]
