"""What is reported of a track: what was done, when and why, in bounded memory."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import asdict, replace
from itertools import pairwise

import numpy as np
import pytest

from rtface.analysis.analyzer import Analysis, Analyzer, Treatment
from rtface.analysis.track_report import TrackReport
from rtface.analysis.treatment_file import Treatments
from rtface.config.options import Options
from rtface.correct.keyframe_blend import AHEAD_FRAMES
from rtface.enhance.mode import Mode
from rtface.enhance.strength import Strength
from rtface.enhance.track_figures import IN_WORK, TrackFigures
from rtface.enhance.track_store import TrackRules, TrackState, TrackStore
from rtface.errors import UsageError
from rtface.frame import Face
from rtface.util.foreign import converted

FACE = Face(1, np.array([0.0, 0.0, 100.0, 100.0]), np.zeros((5, 2)))
ON, OFF = Treatment(True, 0.9, ("noise 0.50",)), Treatment(False, 0.0, ("nothing to gain",))
BAD = Analysis(noise=0.6, error=40.0, remaining=10.0)


def record() -> TrackState:
    return TrackState(1, Analyzer())


def shown(track: TrackState, treatment: Treatment, first: int, frames: int) -> TrackState:
    """The track through so many frames on which that is decided and applied, 25 a second."""
    track.analyzer.treatment = treatment
    track.analyzer.strength = treatment.applied[0]
    for k in range(first, first + frames):
        track.figures.see(FACE, k / 25)
        if (strength := track.decide(k / 25, counted=True)) > 0.0:
            track.figures.apply(Strength(decided=strength), k / 25)
    return track


def test_the_report_has_what_was_done_not_the_last_decision() -> None:
    track = shown(shown(shown(record(), OFF, 0, 10), ON, 10, 30), OFF, 40, 10)
    told = track.report()
    assert told.treatment.items() >= {"on": True, "strength": 0.9, "engine": None, "reasons": ["noise 0.50"]}.items()
    assert (told.frames, told.frames_corrected, told.share_of_time) == (50, 30, 0.6)
    assert told.strength == 0.9
    assert [(s.from_s, s.to_s, s.on, s.strength, s.reasons, s.frames) for s in told.spans] == [
        (0.0, 0.36, False, 0.0, ["nothing to gain"], 10),
        (0.4, 1.56, True, 0.9, ["noise 0.50"], 30),
        (1.6, 1.96, False, 0.0, ["nothing to gain"], 10),
    ]
    assert asdict(told)["spans"][0]["reasons"] == ["nothing to gain"]


def test_the_gain_is_that_of_the_decision_that_is_reported() -> None:
    on = Treatment(True, 0.9, ("noise 0.60",), first=0.5, ring=0.3, gain=0.4)
    told = shown(shown(record(), on, 0, 30), Treatment(False, 0.0, ("nothing to gain",), gain=0.01), 30, 10)
    track = told.report()
    assert (
        track.treatment.items()
        >= {"on": True, "reasons": ["noise 0.60"], "gain_db": 0.4, "first": 0.5, "ring": 0.3}.items()
    )
    assert [span.gain_db for span in track.spans] == [0.4, 0.01]


def joined(one: TrackFigures, other: TrackFigures) -> TrackReport:
    """The report of two parts of a film, the second as a job's record has it."""
    other.count()
    one.count()
    one.join(converted(json.loads(json.dumps(other.to_dict())), TrackFigures))
    return one.report(1, Treatment(False), {}, 0.0)


@pytest.mark.parametrize("order", [1, -1])
def test_a_forced_decision_does_not_hide_the_first_stage(order: int) -> None:
    """What the sidecar says of networks is read from the spans, in one run, between segments and of the whole job."""
    predicted, forced = Treatment(True, 0.9, first=0.5, ring=0.3, gain=0.4), Treatment(True, 1.0)
    one, other = (predicted, forced)[::order]
    parts = shown(record(), one, 0, 10).figures, shown(record(), other, 10, 10).figures
    reports = [
        shown(shown(record(), one, 0, 10), other, 10, 10).report(),
        joined(*parts),
    ]
    for told in reports:
        assert [(span.frames, span.first, span.ring, span.gain_db) for span in told.spans] == [(20, 0.5, 0.3, 0.4)]


def test_a_face_that_was_left_alone_says_so() -> None:
    told = shown(record(), OFF, 0, 5).report()
    assert told.treatment["on"] is False and told.treatment["reasons"] == ["nothing to gain"]
    assert (told.frames_corrected, told.strength) == (0, 0.0)


def test_spans_are_bounded_and_lose_no_frame() -> None:
    track = record()
    for k in range(300):
        shown(track, OFF if k % 2 else ON, 10 * k, 10)
    spans = track.report().spans
    assert len(spans) <= 64
    assert sum(span.frames for span in spans) == 3000
    assert all(a.to_s < b.from_s and a.on is not b.on for a, b in pairwise(spans))


def test_a_live_runs_times_count_from_its_beginning() -> None:
    told = shown(record(), ON, 2500, 10).report(origin=100.0)
    assert (told.first_s, told.last_s) == (0.0, 0.36)
    assert [(s.from_s, s.to_s) for s in told.spans] == [(0.0, 0.36)]


def test_tracks_that_come_and_go_leave_their_figures_only() -> None:
    """As after each reconnection of a live source: 60 of them, each corrected on 100 frames."""
    book, grown = TrackStore(mode=Mode.LIVE), list[int]()
    crop = np.zeros((3, 128, 128), np.float32)
    tracemalloc.start()
    for number in range(1, 61):
        for frame in range(100):
            time = 10.0 * number + frame / 25
            track = book.see(replace(FACE, track_id=number), time)
            track.analyzer.learn(BAD, 200, time)
            track.figures.apply(Strength(decided=track.decide(time, counted=True)), time)
        for _ in range(2):
            track.correction.average.update(crop, crop, time)
        book.sweep(time + 5.5)
        grown.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert (grown[59] - grown[19]) / 40 < 30_000
    assert [track.frames for track in book.reports()] == [100] * 60
    assert all(track.analysis["noise"] == pytest.approx(0.6) for track in book.reports())


def test_a_track_that_was_only_looked_ahead_to_stays_open() -> None:
    book = TrackStore()
    book.track_of(FACE, 61.0).analyzer.learn(BAD, 200, 61.0)
    book.sweep(60.0)
    assert not book.track_of(FACE, 61.2).analyzer.decided


def test_all_frames_that_an_option_keeps_in_work_are_remembered() -> None:
    """A film holds frames up to the next keyframe and a few more; there is room for four times as many."""
    apart = 12
    assert Options.of({"keyframe": apart}).keyframe == apart
    with pytest.raises(UsageError, match="12"):
        Options.of({"keyframe": apart + 1})
    assert 4 * (apart + AHEAD_FRAMES) < IN_WORK
    track = record()
    for k in range(IN_WORK):
        track.figures.see(FACE, k / 25)
    assert [part.frames for part in track.figures.split(0.4)] == [10, 0]


@pytest.mark.parametrize(("correct", "on"), [("always", True), ("never", False)])
def test_a_person_decides_for_all_but_the_tracks_of_the_file(correct: str, on: bool) -> None:
    book = TrackStore(TrackRules(Treatments({2: Treatment(not on)})), correct=correct)  # type: ignore[arg-type]
    other = Face(2, FACE.box, FACE.points)
    assert book.track_of(FACE, 0.0).analyzer.treatment.on is on
    assert book.track_of(other, 0.0).analyzer.treatment.on is not on
    assert book.track_of(FACE, 0.0).analyzer.decided
