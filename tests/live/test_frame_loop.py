"""The live loop: no frame is lost, faults pass through, order and controls, no frame is enhanced that is too late."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from rtface.errors import EngineError, MissingComponent
from rtface.frame import Frame
from rtface.live.controls import LiveControls
from rtface.live.frame_loop import FrameLoop
from rtface.stats import Stats
from tests.live.live_fakes import FakeEnhance, FakeTracker, NoFilters, Output, SteppedClock, frame, luma_of


class Rig:
    """A loop with stand-ins around it."""

    def __init__(self, tracker=None, enhance=None, filters=None, **more) -> None:
        self.stats, self.controls, self.out = Stats(), LiveControls(), Output()
        self.tracker, self.enhance = tracker or FakeTracker(), enhance or FakeEnhance()
        more = {"ceiling": 10, "period": 2.0} | more  # whatever else the computer does
        self.loop = FrameLoop(self.tracker, self.enhance, self.controls, self.stats, filters or NoFilters(),
                              self.out.append, **more)

    def run(self, frames: list[Frame]) -> list[Frame]:
        """Puts each frame once the one before has come out."""
        self.loop.start()
        for number, one in enumerate(frames, 1):
            self.loop.put(one)
            self.out.wait_for(number)
        self.loop.drain(5)
        self.loop.close()
        return self.out


def test_pictures_come_out_enhanced_and_in_order():
    rig = Rig()
    out = rig.run([frame(n) for n in range(1, 20)])
    assert [f.pts for f in out] == list(range(1, 20))
    assert [luma_of(f) for f in out] == list(range(2, 21))
    assert rig.stats.counters["frames_in"] == 19


def test_the_queue_in_front_of_a_stuck_step_is_bounded():
    go, enhance = threading.Event(), FakeEnhance()
    process = enhance.process
    enhance.process = lambda frame: (go.wait(20), process(frame))[1]
    rig = Rig(enhance=enhance, period=2.0)  # 20 s of frames, at most 12
    rig.loop.start()
    for n in range(1, 41):
        rig.loop.put(frame(n))
    dropped = rig.stats.counters["dropped:late"]
    go.set()
    rig.loop.drain(20)
    rig.loop.close()
    out = rig.out
    assert len(out) + dropped == 40
    assert dropped > 20
    assert out[-1].pts == 40  # the newest always comes through
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
    rig.tracker.go.set()
    assert [f.pts for f in out] == [33_000 * n for n in range(1, 17)]
    assert rig.stats.counters["dropped:late"] == 0
    assert all(f.touched and f.tracked for f in out)  # the face is where it was seen last
    assert [f.faces_age > 0 for f in out] == [False, False, *[True] * 14]


def test_faces_not_seen_for_long_are_unknown():
    rig = Rig(StuckTracker(1), period=0.02)
    out = rig.run([frame(100_000 * n) for n in range(1, 15)])
    rig.tracker.go.set()
    assert [f.tracked for f in out] == [True] * 11 + [False] * 3  # a second
    assert not any(f.faces or f.touched for f in out[11:])


def test_hidden_faces_not_seen_for_a_moment_are_unknown():
    filters = NoFilters()
    filters.hides = True
    rig = Rig(StuckTracker(1), filters=filters, period=0.02)
    rig.enhance.runtime.device.view = lambda frame: type("View", (), {
        "thumbnail": lambda self, side: (np.full((36, 64, 3), 90, np.uint8), 1.0, 1.0)})()
    out = rig.run([frame(80_000 * n) for n in range(1, 11)])
    rig.tracker.go.set()
    assert [f.tracked for f in out] == [True] * 7 + [False] * 3


def test_what_a_stuck_tracker_reads_is_not_written_to():
    views = []
    rig = Rig(StuckTracker(0), period=0.02)
    rig.enhance.runtime.device.view = lambda frame: views.append(frame.image)
    out = rig.run([frame(33_000)])
    rig.tracker.go.set()
    assert out[0].image is not views[0]
    assert luma_of(out[0]) == luma_of(frame(33_000))


def test_faults_of_any_step_pass_the_frame_and_are_counted():
    enhance = FakeEnhance(fail={1: ValueError("bad"), 2: EngineError("100 frames in a row")})
    rig = Rig(FakeTracker(fail={2}), enhance)
    with pytest.raises(ValueError, match="bad"):  # it counts ordinary faults; it never raises them
        enhance.process(frame(0))
    out = rig.run([frame(n) for n in range(1, 5)])
    assert [f.touched for f in out] == [False, False, True, True]
    assert enhance.resets == 1
    assert rig.stats.counters["faults"] == 2


def test_off_is_off_at_once_and_on_again():
    rig = Rig()
    rig.loop.start()
    touched = []
    for number, enabled in enumerate((True, False, True), 1):
        rig.controls.set("enabled", enabled)
        rig.loop.put(frame(number))
        rig.out.wait_for(number)
        touched.append(rig.out[-1].touched)
    rig.loop.close()
    assert touched == [True, False, True]
    assert rig.tracker.calls == 2


def test_no_work_while_nobody_looks():
    rig = Rig(wanted=lambda: False)
    out = rig.run([frame(n) for n in range(1, 4)])
    assert len(out) == 3
    assert rig.tracker.calls == rig.enhance.calls == 0


def test_stages_that_cover_faces_keep_tracking_on():
    filters = NoFilters()
    filters.needs_faces = True
    for rig in (Rig(filters=filters, wanted=lambda: False), Rig(filters=filters)):
        rig.controls.set("enabled", False)
        out = rig.run([frame(n) for n in range(1, 4)])
        assert all(len(f.faces) == 1 for f in out)
        assert rig.enhance.calls == 0


def test_what_comes_after_a_pause_is_another_scene():
    out = Rig().run([frame(n) for n in (1, 33_000, 1_500_000, 1_533_000)])
    assert [f.cut for f in out] == [False, False, True, False]


def test_strength_is_read_before_every_picture():
    rig = Rig()
    rig.controls.set("strength", 0.3)
    rig.run([frame(1)])
    assert rig.enhance.strength == 0.3


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


def test_no_error_of_the_enhancement_ends_the_loop():
    rig = Rig(enhance=FakeEnhance(fail={1: MissingComponent("no room for the CPU's engines"), 2: MemoryError()}))
    out = rig.run([frame(n) for n in range(1, 4)])
    assert [f.touched for f in out] == [False, False, True]


def test_an_output_that_raises_does_not_end_the_loop():
    rig = Rig()

    def present(frame):
        rig.out.append(frame)
        if frame.pts == 1:
            raise OSError("no room")

    rig.loop._present = present
    assert [f.pts for f in rig.run([frame(n) for n in range(1, 4)])] == [1, 2, 3]
    assert rig.stats.counters["faults"] == 1


def test_a_frame_on_which_tracking_failed_is_known_as_such():
    rig = Rig(FakeTracker(fail={2}))
    assert [f.tracked for f in rig.run([frame(n) for n in range(1, 4)])] == [True, False, True]


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


def test_closing_leaves_a_blocked_step_behind():
    go, begun, enhance = threading.Event(), threading.Event(), FakeEnhance()
    enhance.process = lambda frame: (begun.set(), go.wait(20), frame)[2]
    rig = Rig(enhance=enhance)
    rig.loop.start()
    rig.loop.put(frame(1))
    assert begun.wait(5)
    rig.loop.close(0.1)
    assert not rig.out
    go.set()
