"""Persons in the report, from their tracks."""

from __future__ import annotations

import pytest

from rtface.analysis.track_report import TrackReport, persons_of
from rtface.pipeline.proposals import missed_person_notes


def track(number: int, person: str, first: float, last: float, corrected: int) -> TrackReport:
    return TrackReport(number, first, last, 10, 100.0, {}, {}, 1.0, frames_corrected=corrected, person=person)


def test_a_person_has_all_tracks() -> None:
    tracks = [
        track(3, "anna", 4.0, 6.0, 30),
        track(1, "P1", 0.0, 1.0, 0),
        track(2, "anna", 1.0, 2.0, 10),
        track(4, "unknown", 0.0, 9.0, 5),
        track(5, "", 0.0, 9.0, 5),
        track(6, "anna", 7.0, 8.0, 5),
    ]
    first, anna = persons_of(tracks)
    assert (first.person, first.tracks) == ("P1", [1])
    assert (anna.person, anna.tracks, anna.first_s, anna.last_s, anna.seconds) == ("anna", [2, 3, 6], 1.0, 8.0, 4.0)


@pytest.mark.parametrize(
    ("named", "others", "said"),
    [
        ("anna", [("anna", 0.0, 5.0), ("P2", 6.0, 8.0)], "anna was recognised on 1 of 2 tracks that never "
         "appear together; if P2 shows this person, too, add --person anna@P2"),
        ("anna@1=a.jpg", [("anna", 0.0, 5.0), ("unknown", 6.0, 8.0)], "anna was recognised on 1 of 2 tracks that "
         "never appear together; if 2 shows this person, too, add --person anna@1,2=a.jpg"),
        ("anna", [("P1", 0.0, 5.0), ("P2", 0.0, 8.0)],
         "anna was not recognised on any track; if P2 shows this person, add --person anna@P2"),
        ("anna", [("ben", 0.0, 5.0)], "anna was not recognised on any track; all show other persons"),
        ("anna", [("anna", 0.0, 5.0), ("P2", 1.0, 8.0)], ""),  # beside her
        ("anna", [("anna", 0.0, 5.0), ("P2", 6.0, 6.5)], ""),  # short
        ("anna", [("anna", 0.0, 5.0), ("ben", 6.0, 9.0)], ""),
        ("anna", [], ""),
    ],
)  # fmt: skip
def test_a_named_person_who_was_missed_is_said(named: str, others: list[tuple[str, float, float]], said: str) -> None:
    tracks = [track(n, person, first, last, 0) for n, (person, first, last) in enumerate(others, 1)]
    assert list(missed_person_notes([named], tracks)) == ([said] if said else [])
