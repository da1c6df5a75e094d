"""The output scheduler with a stepped clock: delay, repeated frames, slate, sinks that fail, other sizes."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest

from rtface.frame import Color
from rtface.live.output_scheduler import SLATE_S, OutputScheduler
from rtface.live.protocols import SoundPacket, VideoFormat
from rtface.live.reshape import Letterbox
from rtface.stats import Stats
from tests.live.live_fakes import FakeSink, FakeSource, SteppedClock, frame, live_status, luma_of


class Rig:
    """A scheduler whose clock the test steps, with its sinks."""

    def __init__(self, sinks=None, **more) -> None:
        self.clock, self.stats, self.source, self.shown = SteppedClock(100.0), Stats(), FakeSource(), []
        self.sinks = sinks or [FakeSink(clock=self.clock)]
        named = [(sink.described, sink) for sink in self.sinks]
        self.status = live_status(("a source", self.source), named, stats=self.stats, clock=self.clock, **more)
        filters = SimpleNamespace(shown=self.shown.append)
        self.scheduler = OutputScheduler(self.status.state, filters, self.status, clock=self.clock)

    def put(self, number: int, *, age: float = 0.0, **more) -> None:
        self.scheduler.put(frame(number, at=self.clock() - age, **more))
        self.scheduler.write_due()

    def run(self, seconds: float) -> None:
        """Steps the clock by milliseconds."""
        for _ in range(round(seconds * 1000)):
            self.clock.step(0.001)
            self.scheduler.write_due()

    @property
    def frames(self):
        return self.sinks[-1].frames

    @property
    def pts(self):
        return [f.pts for f in self.frames]


def test_frames_go_out_at_once_and_latency_is_measured():
    rig = Rig()
    for number in (1, 2):
        rig.put(number, age=0.02)
    assert rig.pts == [1, 2]
    assert rig.stats.counters["frames_out"] == 2
    assert rig.stats.stages["latency"].max == pytest.approx(0.02)


def test_latency_is_the_age_also_of_what_waited_at_the_source():
    rig = Rig()
    rig.source.health = replace(rig.source.health, backlog=1.5, buffer=0.5)  # frames that wait in the buffer come late
    rig.put(1, age=0.02)
    assert rig.stats.stages["latency"].max == pytest.approx(1.02)


def test_while_nobody_looks_the_last_frame_is_seldom_repeated():
    rig = Rig()
    rig.put(1)
    rig.run(1.0)
    assert len(rig.frames) > 20
    rig.sinks[0].wanted, before = False, len(rig.frames)
    rig.run(10.0)
    assert len(rig.frames) - before == 10
    rig.sinks[0].wanted, before = True, len(rig.frames)
    rig.run(0.3)
    assert len(rig.frames) - before >= 2


def test_the_delay_is_constant_for_any_processing_time():
    rig = Rig(delay=0.15)
    captured = []
    for number, work in enumerate((0.0, 0.06, 0.02, 0.09, 0.01), 1):
        captured.append(rig.clock())
        rig.run(work)
        rig.scheduler.put(frame(number, at=captured[-1]))
    rig.run(0.2)
    lags = np.array(rig.sinks[0].times)[:5] - captured
    assert lags.min() >= 0.15
    assert lags.max() < 0.152


def test_the_delay_includes_the_jitter_buffer():
    rig = Rig(delay=0.7, buffer=0.6)
    rig.put(1)
    rig.run(0.15)
    assert rig.sinks[0].times[0] == pytest.approx(100.1, abs=0.002)
    assert rig.stats.stages["latency"].max == pytest.approx(0.7, abs=0.002)


def test_a_frame_later_than_the_delay_goes_out_at_once():
    rig = Rig(delay=0.1)
    rig.put(1, age=1.0)
    assert rig.pts == [1]


def test_order_is_kept_and_older_frames_are_dropped():
    rig = Rig()
    for number in (1, 3, 2, 4):
        rig.put(number)
    assert rig.pts == [1, 3, 4]
    assert rig.stats.counters["dropped:order"] == 1


def test_the_last_frame_repeats_then_a_slate_while_lost():
    rig = Rig()
    rig.put(1_000_000, luma=90)
    rig.run(SLATE_S + 1)
    assert {luma_of(f) for f in rig.frames} == {90}  # a source that stands still is not away
    rig.source.lose()
    rig.run(0.5)
    rig.put(9_000_000, luma=91)
    steps = np.diff(rig.pts[1:100])
    assert steps.min() >= 33_000 and steps.max() <= 35_000  # the usual pace
    lumas = [luma_of(f) for f in rig.frames]
    dark = [n for n, luma in enumerate(lumas) if luma < 60]
    assert dark and lumas[: dark[0]] == [90] * dark[0] and lumas[dark[-1] + 1 :] == [91]
    assert rig.pts == sorted(set(rig.pts)) and max(np.diff(rig.pts[:-1])) < 202_000
    assert rig.stats.stages["latency"].count == 2  # repeated frames have none
    assert rig.stats.counters["frames_repeated"] == len(rig.frames) - 2


def test_a_frame_that_comes_late_after_a_pause_is_shown():
    """A repetition has taken its time; sound keeps its distance to within that pause."""
    rig = Rig()
    rig.put(1_000_000, luma=90)
    rig.run(0.3)
    rig.put(1_010_000, luma=91)
    rig.put(1_020_000, luma=92)
    assert [luma_of(f) for f in rig.frames[-2:]] == [91, 92]
    assert not rig.stats.counters["dropped:order"]
    assert min(np.diff(rig.pts)) > 10_000


def test_a_failing_sink_does_not_stop_the_next():
    rig = Rig([bad := FakeSink("bad", fail=True), FakeSink()])
    del bad.described  # a plugin's may fail too
    for number in range(3):
        rig.put(number)
    assert len(rig.frames) == 3
    assert (rig.stats.counters["faults"], rig.stats.counters["dropped:sink"]) == (3, 3)
    assert "this sink always fails" in rig.stats.warnings["sink bad_fault"]


def test_frames_beyond_the_delay_are_dropped_oldest_first():
    rig = Rig(delay=0.1)
    for number in range(20):
        rig.scheduler.put(frame(number, at=rig.clock()))
    assert rig.stats.counters["dropped:output"] == 20 - 11
    rig.run(0.11)
    assert rig.pts == list(range(9, 20))


def test_sound_goes_to_every_sink_unchanged():
    rig = Rig([FakeSink(), FakeSink()], delay=1.0)
    packet = SoundPacket(b"aac", 12.5, 0.02)
    rig.scheduler.sound(packet)
    assert [s.sounds for s in rig.sinks] == [[packet], [packet]]


def test_the_thread_writes_and_closing_drops_what_waits():
    sink, filters = FakeSink(), SimpleNamespace(shown=lambda frame: None)
    status = live_status(("a source", FakeSource()), [("a sink", sink)], delay=30.0)
    scheduler = OutputScheduler(status.state, filters, status)
    scheduler.start()
    scheduler.put(frame(1, at=0.0))
    sink.wait_for(1)
    scheduler.put(frame(2))
    scheduler.close()
    scheduler.close()
    assert [f.pts for f in sink.frames] == [1]


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "nv12", "yuv422p10le", "rgb24", "gray"])
def test_a_frame_of_another_size_is_letterboxed(pix_fmt):
    form = VideoFormat(160, 90, "yuv420p", Fraction(30), Color("bt709"))
    other = VideoFormat(64, 64, pix_fmt, Fraction(30), Color("rgb", True) if pix_fmt == "rgb24" else Color("bt601"))
    given = frame(5, luma=180, form=other)
    if pix_fmt == "rgb24":
        given.image.planes[0].update(bytes([180]) * given.image.planes[0].buffer_size)
    fitted = Letterbox(form)(given)
    assert (fitted.image.width, fitted.image.height, fitted.color) == (form.width, form.height, form.color)
    luma = np.frombuffer(fitted.image.planes[0], np.uint8).reshape(90, -1)[:, :160]
    assert (luma[:, :34] == 16).all()
    assert (luma[:, -34:] == 16).all()
    assert np.ptp(luma[:, 40:120]) <= 1
    assert luma[45, 80] > 150 or pix_fmt == "yuv422p10le"
    same = frame(6, form=form)
    assert Letterbox(form)(same) is same
