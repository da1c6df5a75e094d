"""The live loop: no frame is lost, faults pass through, order and controls, no frame is enhanced that is too late."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from rtface.errors import EngineError, MissingComponent
from rtface.frame import Frame
from rtface.live.controls import LiveControls
from rtface.live.frame_loop import FrameLoop
from rtface.quality.governor import QualityGovernor
from rtface.stats import Stats
from tests.live.live_fakes import (
    FakeEnhance,
    FakeSink,
    FakeTracker,
    NoFilters,
    PlainView,
    SteppedClock,
    frame,
    luma_of,
    run_state,
)


class Rig:
    """A loop with stand-ins around it."""

    def __init__(
        self, tracker=None, enhance=None, filters=None, present=None, *, ceiling=10.0, period=2.0, watched=True, **more
    ) -> None:  # time enough, whatever else the computer does
        self.stats, self.controls, self.sink = Stats(), LiveControls(), FakeSink()
        self.out, self.sink.wanted = self.sink.frames, watched
        self.tracker, self.enhance = tracker or FakeTracker(), enhance or FakeEnhance()
        self.loop = FrameLoop(
            run_state([self.sink], controls=self.controls, stats=self.stats),
            self.tracker,
            self.enhance,
            QualityGovernor(period, ceiling),
            filters or NoFilters(),
            SimpleNamespace(put=present or self.sink.write),
            **more,
        )

    def run(self, frames: list[Frame]) -> list[Frame]:
        """Puts each frame once the one before has come out."""
        self.loop.start()
        for number, one in enumerate(frames, 1):
            self.loop.put(one)
            self.sink.wait_for(number)
        self.loop.drain(5)
        if isinstance(self.tracker, StuckTracker):
            self.tracker.go.set()
        self.loop.close()
        return self.out


def test_pictures_come_out_enhanced_and_in_order():
    rig = Rig()
    out = rig.run([frame(n) for n in range(1, 20)])
    assert [f.pts for f in out] == list(range(1, 20))
    assert [luma_of(f) for f in out] == list(range(2, 21))
    assert rig.stats.counters["frames_in"] == 19


def test_the_queue_in_front_of_a_stuck_step_is_bounded():
    stuck, go, enhance = threading.Event(), threading.Event(), FakeEnhance()
    process = enhance.process
    enhance.process = lambda frame: (stuck.set(), go.wait(20), process(frame))[2]
    rig = Rig(enhance=enhance, period=2.0)  # at most 12 frames wait
    rig.loop.start()
    first = 0
    while not stuck.wait(0.05) and first < 100:  # frames without a face pass until the tracker has found it
        first += 1
        rig.loop.put(frame(first))
    for n in range(first + 1, first + 41):
        rig.loop.put(frame(n))
    dropped = rig.stats.counters["dropped:late"]
    go.set()
    rig.loop.drain(20)
    rig.loop.close()
    out = rig.out
    assert len(out) + dropped == first + 40
    assert dropped > 20
    assert out[-1].pts == first + 40  # the newest always comes through
    assert [f.pts for f in out] == sorted(f.pts for f in out)


def test_frames_over_the_ceiling_and_far_over_it():
    rig = Rig(ceiling=10, clock=SteppedClock(100.0))
    out = rig.run([frame(1, at=50.0), frame(2, at=85.0), frame(3, at=100.0)])
    assert [f.touched for f in out] == [False, True, True]
    assert rig.stats.counters["passed:late"] == rig.stats.counters["frames_late"] == 1
    assert rig.enhance.bare == [1]


class StuckTracker(FakeTracker):
    """Answers `good` times, then not before it is let go."""

    def __init__(self, good: int) -> None:
        super().__init__()
        self._good, self.go = good, threading.Event()

    def update(self, view, time, *, cut=False):
        faces = super().update(view, time, cut=cut)
        if self.calls > self._good:
            self.go.wait(20)
        return faces


def test_no_frame_waits_for_a_tracker_that_is_stuck():
    rig = Rig(StuckTracker(2), period=0.02)
    out = rig.run([frame(33_000 * n) for n in range(1, 17)])
    assert [f.pts for f in out] == [33_000 * n for n in range(1, 17)]
    assert rig.stats.counters["dropped:late"] == 0
    assert all(f.touched and f.tracked for f in out)  # the face is where it was seen last
    assert [f.faces_age > 0 for f in out] == [False, False, *[True] * 14]


@pytest.mark.parametrize(("hides", "step", "known"), [(False, 100_000, 11), (True, 80_000, 7)])
def test_faces_not_seen_for_long_are_unknown(hides, step, known):
    filters = NoFilters()
    filters.hides = hides  # where a stage hides faces, half a second is long
    rig = Rig(StuckTracker(1), filters=filters, period=0.02)
    rig.enhance.runtime.device.view = lambda frame: PlainView()
    out = rig.run([frame(step * n) for n in range(1, known + 4)])
    assert [f.tracked for f in out] == [True] * known + [False] * 3
    assert not any(f.faces or f.touched for f in out[known:])


def test_what_a_stuck_tracker_reads_is_not_written_to():
    views = []
    rig = Rig(StuckTracker(0), period=0.02)
    rig.enhance.runtime.device.view = lambda frame: views.append(frame.image)
    out = rig.run([frame(33_000)])
    assert out[0].image is not views[0]
    assert luma_of(out[0]) == luma_of(frame(33_000))


def test_faults_of_any_step_pass_the_frame_and_are_counted():
    errors = [ValueError("bad"), EngineError("100 frames in a row"), MissingComponent("no CPU engine"), MemoryError()]
    enhance = FakeEnhance(fail=dict(enumerate(errors, 1)))
    rig = Rig(FakeTracker(fail={2}), enhance)
    out = rig.run([frame(n) for n in range(1, 7)])
    assert [f.touched for f in out] == [False] * 5 + [True]
    assert [f.tracked for f in out] == [True, False, *[True] * 4]
    assert enhance.resets == 4
    assert rig.stats.counters["faults"] == 5


def test_controls_are_read_before_every_frame():
    rig = Rig()
    rig.loop.start()
    touched = []
    for number, enabled in enumerate((True, False, True), 1):
        rig.controls.set("enabled", enabled)
        rig.controls.set("strength", number / 10)
        rig.controls.set("look", ("clear", "faithful", "vivid")[number - 1])
        rig.loop.put(frame(number))
        rig.sink.wait_for(number)
        touched.append(rig.out[-1].touched)
    rig.loop.close()
    assert touched == [frame.enhancing for frame in rig.out] == [True, False, True]
    assert (rig.enhance.strength, rig.enhance.select.detail) == (0.3, 1.5)
    assert rig.tracker.calls == 2


def test_no_work_while_nobody_looks():
    rig = Rig(watched=False)
    out = rig.run([frame(n) for n in range(1, 4)])
    assert len(out) == 3
    assert rig.tracker.calls == rig.enhance.calls == 0


def test_stages_that_cover_faces_keep_tracking_on():
    filters = NoFilters()
    filters.needs_faces = True
    for rig in (Rig(filters=filters, watched=False), Rig(filters=filters)):
        rig.controls.set("enabled", False)
        out = rig.run([frame(n) for n in range(1, 4)])
        assert all(len(f.faces) == 1 for f in out)
        assert rig.enhance.calls == 0


def test_what_comes_after_a_pause_is_another_scene():
    out = Rig().run([frame(n) for n in (1, 33_000, 1_500_000, 1_533_000)])
    assert [f.cut for f in out] == [False, False, True, False]


class Recorder(NoFilters):
    """Remembers what it was given; fails for the second frame."""

    def __init__(self) -> None:
        self.came_with: list[tuple[int, float, int]] = []

    def before(self, frame, light, faces):
        self.came_with.append((luma_of(frame), light, len(faces)))
        return frame

    def after(self, frame):
        if frame.pts == 2:
            raise RuntimeError("the stage fails here")
        return frame


def test_frame_filters_get_the_original_and_may_fail():
    filters = Recorder()
    rig = Rig(filters=filters)
    rig.controls.set("light", 0.5)
    out = rig.run([frame(n) for n in range(1, 4)])
    assert filters.came_with == [(1, 0.5, 0), (2, 0.5, 1), (3, 0.5, 1)]
    assert [luma_of(f) for f in out] == [2, 3, 4]
    assert rig.stats.counters["faults"] == 1


def test_a_frame_that_could_not_be_covered_is_not_shown():
    filters = Recorder()
    filters.hides = True
    rig = Rig(filters=filters)
    rig.loop.start()
    for number in (1, 2, 3):
        rig.loop.put(frame(number))
    rig.loop.drain(5)
    assert [f.pts for f in rig.out] == [1, 3]
    assert rig.stats.counters["dropped:stages"] == 1
