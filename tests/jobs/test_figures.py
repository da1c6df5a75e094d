"""What the figures of segments say together."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest

from rtface.analysis.analyzer import Analysis, Analyzer, Treatment
from rtface.enhance.strength import Strength
from rtface.enhance.track_figures import TrackFigures
from rtface.enhance.track_store import TrackState, TrackStore
from rtface.frame import Face, Frame
from rtface.jobs.figures import SegmentFigures, same_tracks
from rtface.stats import Stats
from rtface.util.foreign import converted
from tests.pipeline.fakes import face_at, portrait


@pytest.mark.parametrize("ahead", [5, 12])
def test_frames_in_work_do_not_change_a_record(ahead: int) -> None:
    """How many are depends on threads."""
    at_once = records_of(4)
    assert records_of(ahead) == at_once
    (one,), (rest,) = (record["tracks"] for record in at_once)
    mine, later = (converted(part["figures"], TrackFigures) for part in (one, rest))
    assert [(t.frames, t.corrected, t.last_s) for t in (mine, later)] == [(4, 4, 0.12), (8, 8, 0.44)]
    assert (mine.spans[-1].ring, one["analysis"]["noise"]) == (0.25, 0.125)
    assert [part.engine for part in (mine, later)] == ["of 3", "of 11"]
    assert at_once[0]["treatments"]["1"]["treatment"]["ring"] == 0.25


def test_frames_in_work_do_not_change_reasons() -> None:
    """Those of a decision for a correction that did not come about, as of a face that is turned away."""
    (track,) = records_of(10, corrected=False)[0]["tracks"]
    assert (track["figures"]["corrected"], track["figures"]["treatment"]["reasons"]) == (0, ("of 3",))


def records_of(ahead: int, *, corrected: bool = True) -> list[dict[str, Any]]:
    """The records of two segments of 4 and 8 frames; at the border between them so many frames are decided."""
    face = Face(1, np.array([0.0, 0.0, 100.0, 100.0]), np.zeros((5, 2)))
    tracks = TrackStore()
    figures, records = SegmentFigures(Stats(), tracks, 0.0), list[dict[str, Any]]()
    for border, done in (4, range(ahead)), (12, range(ahead, 12)):
        for k in done:
            track = tracks.see(face, k / 25)
            track.analyzer.learn(Analysis(noise=k / 12), 100.0, k / 25)
            track.analyzer.treatment = Treatment(
                True, 1.0, reasons=(f"of {k}",), first=0.5, ring=round(k / 12, 3), gain=0.4
            )
            track.decide(k / 25, counted=True)
            track.figures.note(k / 25).engine = f"of {k}"
            if corrected:
                track.figures.apply(Strength(decided=k / 12), k / 25)
        for k in range(4 if records else 0, border):
            figures.add(Frame(av.VideoFrame(32, 32, "yuv420p"), k, Fraction(1, 25), 1, faces=(face,)))
        records.append(figures.take(border / 25))
    return records


def test_strengths_do_not_jump_at_a_border() -> None:
    """Frames behind it are in work when the segment ends."""
    face = Face(1, np.array([0.0, 0.0, 100.0, 100.0]), np.zeros((5, 2)))
    tracks = TrackStore()
    here, there = tracks.see(face, 0.0), TrackState(1, Analyzer())
    figures, shown = SegmentFigures(Stats(), tracks, 0.0), list[float]()
    here.analyzer.treatment, here.fades = Treatment(True, 1.0), {"ring": 0.0}
    here.analyzer.advance(0.0)
    here.analyzer.strength = 0.0
    for k in range(1, 13):
        shown.append(here.decide(k / 25, counted=True))
        here.fades["ring"] = k / 100
    for k in range(4):
        figures.add(Frame(av.VideoFrame(32, 32, "yuv420p"), k, Fraction(1, 25), 1, faces=(face,)))
    there.take_over(json.loads(json.dumps(figures.take()["treatments"]["1"])))
    assert there.fades == {"ring": 0.03}
    assert {there.decide(k / 25, counted=False) for k in range(4)} == {shown[2]}
    assert [there.decide(k / 25, counted=False) for k in range(4, 13)] == pytest.approx(shown[3:])


def test_tracks_are_known_again_by_their_places() -> None:
    _, points = portrait()

    def sight(pts: int, **places: float) -> tuple[int, Any]:
        return pts, tuple(face_at(points + [dx, 0.0], int(k[1:])) for k, dx in places.items())

    before = [sight(t, a4=0.0 + t, a7=200.0, a9=600.0) for t in range(5)]
    after = [
        sight(1, b1=201.0),
        sight(2, b1=202.0, b2=1.0),
        sight(3, b1=200.0, b2=4.0, b3=400.0),
        sight(4, b1=200.0, b2=4.0, b3=400.0),
        sight(5, b5=600.0),
    ]
    assert same_tracks(before, after) == {1: 7, 2: 4}
    assert same_tracks([], after) == {}
