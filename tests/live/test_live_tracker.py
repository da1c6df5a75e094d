"""The live tracker: which frames are tracked, by a scripted clock, and what the others get."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from rtface.frame import Face, Frame
from rtface.live.live_tracker import LiveTracker
from rtface.live.run_state import RunState
from tests.live.live_fakes import FakeEnhance, FakeTracker, PlainView, frame, run_state

PERIOD = 1 / 30


class Timed(FakeTracker):
    """Takes `cost` seconds of a clock of its own; answers while `go` is set; fails where it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.faces: tuple[Face, ...] | None = None
        self.cost, self.now, self.broken, self.go = 0.005, 0.0, False, threading.Event()
        self.go.set()

    def update(self, view, time, *, cut=False):
        self.go.wait(20)
        self.now += self.cost
        if self.broken:
            raise RuntimeError("broken")
        found = super().update(view, time, cut=cut)
        return found if self.faces is None else self.faces


@contextmanager
def working(
    tracker: Timed, period: float = 30.0, view: object = None, state: RunState | None = None
) -> Iterator[LiveTracker]:
    """By default its frames are so far apart that it always waits for the tracker."""
    enhance = FakeEnhance()
    enhance.runtime.device.view = lambda frame: view
    subject = LiveTracker(state or run_state(), tracker, enhance, period, clock=lambda: tracker.now)
    subject.start()
    yield subject
    tracker.go.set()
    subject.close(5)


def at(seconds: float) -> Frame:
    return frame(round(1e6 * seconds))


def settled(subject: LiveTracker) -> None:
    assert subject.wait(5)


def test_what_tracking_costs_decides_how_many_frames_are_tracked():
    tracker = Timed()
    with working(tracker, PERIOD) as subject:
        for share, every in ((0.1, 1), (0.9, 2), (3.0, 4), (0.1, 1)):
            tracker.cost = share * PERIOD
            for k in range(200):
                subject.faces_of(at(k * PERIOD))
                settled(subject)
            assert subject.every == every, share


def test_where_nobody_is_few_frames_are_tracked():
    tracker = Timed()
    with working(tracker, PERIOD) as subject:

        def tracked(first: int, faces: tuple[Face, ...]) -> int:
            tracker.faces, before = faces, tracker.calls
            for k in range(first, first + 60):
                subject.faces_of(at(k * PERIOD))
                settled(subject)
            return tracker.calls - before

        assert tracked(0, ()) == 60
        assert tracked(330, ()) == 15  # after eleven seconds; every fourth frame
        assert tracked(390, (Face(1, np.array([10.0, 10.0, 50.0, 40.0]), np.zeros((5, 2))),)) >= 57
        assert tracked(500, ()) == 60


def test_while_newer_frames_wait_the_tracker_rests_for_a_moment():
    tracker = Timed()
    with working(tracker) as subject:
        subject.faces_of(at(0.0))
        late = [subject.faces_of(at(k * PERIOD), hurry=True) for k in range(1, 6)]
        assert tracker.calls == 1
        assert all(len(f.faces) == 1 and f.faces_age > 0 for f in late)
        subject.faces_of(at(0.25), hurry=True)
        settled(subject)
    assert tracker.calls == 2


def test_frames_for_which_there_is_no_time_are_counted():
    tracker, state = Timed(), run_state()
    with working(tracker, PERIOD, state=state) as subject:
        tracker.go.clear()
        frames = [subject.faces_of(at(k * PERIOD), hurry=True) for k in range(71)]
        assert state.stats.counters["frames_unseen"] == 40 and not any(one.tracked for one in frames)
        tracker.go.set()
        settled(subject)
        assert subject.faces_of(at(0.1), hurry=True).tracked
    assert state.stats.counters["frames_unseen"] == 40


def test_a_tracker_that_begins_or_begins_again_is_not_slow():
    tracker, state = Timed(), run_state()
    with working(tracker, PERIOD, state=state) as subject:
        for start in (0.0, 60.0):  # after a time in which nobody watched
            tracker.go.clear()
            assert not any(subject.faces_of(at(start + k * PERIOD), hurry=True).tracked for k in range(30))
            tracker.go.set()
            settled(subject)
            assert subject.faces_of(at(start + 1.0), hurry=True).tracked
            settled(subject)
    assert not state.stats.counters["frames_unseen"]


def test_after_a_failure_faces_are_unknown_until_seen_again():
    tracker = Timed()
    seen: list[Frame] = []
    with working(tracker) as subject:
        for k, broken in enumerate((False, True, False)):
            tracker.broken = broken
            seen.append(subject.faces_of(at(k * PERIOD)))
    assert [(len(f.faces), f.tracked) for f in seen] == [(1, True), (0, False), (1, True)]


def test_a_cut_leaves_the_faces_of_the_scene_before_behind():
    tracker = Timed()
    with working(tracker) as subject:
        subject.faces_of(at(0.0))
        tracker.go.clear()
        assert subject.faces_of(at(PERIOD), hurry=True).faces
        cut = subject.faces_of(replace(at(2 * PERIOD), cut=True), hurry=True)
        assert not cut.faces and not cut.tracked
        tracker.go.set()
        settled(subject)
        assert subject.faces_of(at(3 * PERIOD), hurry=True).faces


@pytest.mark.parametrize(("hides", "calls"), [(False, 4), (True, 7)])
def test_only_some_frames_are_tracked_where_that_is_enough(calls: int, *, hides: bool):
    tracker = Timed()
    with working(tracker, PERIOD, view=PlainView()) as subject:
        found: list[Frame] = []
        for k in range(13):
            found.append(subject.faces_of(at(k * PERIOD), every=4, hides=hides))
            settled(subject)
    assert tracker.calls == calls
    assert all(len(f.faces) == 1 and f.tracked for f in found[1:])


def test_a_rate_that_falls_does_not_spread_tracked_frames():
    tracker, time, asked, calls = Timed(), 0.0, [0.0], 0
    with working(tracker, PERIOD) as subject:
        for rate in (30.0, 15.0, 7.5, 30.0):
            for _ in range(24):
                time += 1 / rate
                subject.faces_of(at(time), every=4)
                settled(subject)
                if tracker.calls > calls:
                    calls = tracker.calls
                    asked.append(time)
    assert np.diff(asked).max() < 0.27
