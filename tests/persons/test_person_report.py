"""Persons in the report, from their tracks."""

from __future__ import annotations

from rtface.report import TrackReport, persons_of


def track(number: int, person: str, first: float, last: float, corrected: int, invented: float | None) -> TrackReport:
    return TrackReport(
        number, first, last, 10, 100.0, {}, {}, 1.0, frames_corrected=corrected, person=person, invented=invented
    )


def test_a_person_has_all_tracks_and_their_share_invented() -> None:
    tracks = [
        track(3, "anna", 4.0, 6.0, 30, 0.4),
        track(1, "P1", 0.0, 1.0, 0, None),
        track(2, "anna", 1.0, 2.0, 10, 0.2),
        track(4, "unknown", 0.0, 9.0, 5, 0.9),
        track(5, "", 0.0, 9.0, 5, 0.9),
        track(6, "anna", 7.0, 8.0, 5, None),
    ]
    first, anna = persons_of(tracks)
    assert (first.person, first.tracks, first.invented) == ("P1", [1], None)
    assert (anna.person, anna.tracks, anna.first_s, anna.last_s, anna.seconds) == ("anna", [2, 3, 6], 1.0, 8.0, 4.0)
    assert anna.invented == 0.35  # of 40 frames with a map
