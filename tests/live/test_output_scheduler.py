"""The presenter: delay held constant, hold and slate when the source is away, sinks that fail, other sizes."""

from __future__ import annotations

import time
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from rtface.frame import Color
from rtface.live import output_scheduler as module
from rtface.live.letterbox import Letterbox, fits, form_of
from rtface.live.output_scheduler import OutputScheduler
from rtface.live.protocols import SoundPacket, VideoFormat
from rtface.stats import Stats
from tests.live.live_fakes import FORM, FakeSink, frame, luma_of


def present(frames, gap=0.0, sinks=None, wait=None, **more):
    sinks = sinks or [FakeSink()]
    stats = Stats()
    presenter = OutputScheduler(sinks, FORM, stats, **more)
    for one in frames:
        presenter.put(replace(one, captured_at=time.monotonic()) if gap else one)
        time.sleep(gap)
    sinks[-1].wait_for(len(frames) if wait is None else wait)
    presenter.close()
    return sinks[-1], stats


def test_pictures_go_out_at_once_and_the_latency_is_measured():
    sink, stats = present([frame(n) for n in (1, 2)], gap=0.01)
    assert [f.pts for f in sink.frames] == [1, 2]
    assert stats.counters["frames_out"] == 2
    assert 0 < stats.stages["latency"].max < 0.5


def test_the_delay_is_constant_however_long_the_work_took():
    sink, stats = FakeSink(), Stats()
    presenter = OutputScheduler([sink], FORM, stats, delay=0.15)
    captured = []
    for number, work in enumerate((0.0, 0.06, 0.02, 0.09, 0.01), 1):
        now = time.monotonic()
        captured.append(now)
        time.sleep(work)
        presenter.put(frame(number, at=now))
    sink.wait_for(5)
    presenter.close()
    lags = np.array(sink.times) - captured
    assert lags.min() >= 0.149
    assert np.median(lags) < 0.165  # half a frame of 30 a second


def test_the_delay_includes_the_jitter_buffer():
    sink, stats = FakeSink(), Stats()
    presenter = OutputScheduler([sink], FORM, stats, delay=0.7, buffered=0.6)
    presenter.put(frame(1))
    sink.wait_for(1)
    presenter.close()
    assert 0.099 <= sink.times[0] - sink.frames[0].captured_at < 0.5
    assert 0.699 <= stats.stages["latency"].max < 1.1


def test_what_is_later_than_the_delay_goes_out_at_once():
    sink, _ = present([frame(1, at=time.monotonic() - 1)], delay=0.1)
    assert sink.times[0] - sink.frames[0].captured_at < 1.5


def test_order_is_kept_and_what_comes_from_before_is_dropped():
    sink, stats = present([frame(n) for n in (1, 3, 2, 4)], gap=0.01, wait=3)
    assert [f.pts for f in sink.frames] == [1, 3, 4]
    assert stats.counters["dropped:order"] == 1


def test_a_lost_source_shows_its_last_frame_then_a_slate(monkeypatch):
    monkeypatch.setattr(module, "_SLATE_S", 0.8)  # long enough for some pictures on a busy machine
    sink, stats, lost = FakeSink(), Stats(), [False]
    presenter = OutputScheduler([sink], FORM, stats, lost=lambda: lost[0])
    presenter.put(frame(1_000_000, luma=90))
    sink.wait_for(36, repeated=True)
    assert {luma_of(f) for f in sink.frames} == {90}  # a source that stands still is not away
    lost[0] = True
    sink.wait_for(60, repeated=True)
    presenter.put(frame(9_000_000, luma=91))
    time.sleep(0.1)
    presenter.close()
    pts = [f.pts for f in sink.frames]
    assert pts == sorted(set(pts)) and max(np.diff(pts[:50])) < 300_000
    held = [n for n, f in enumerate(sink.frames) if luma_of(f) == 90]
    dark = [n for n, f in enumerate(sink.frames) if luma_of(f) < 60]
    assert held[0] == 0 and dark and dark[0] > held[-1]
    assert 25_000 < np.median(np.diff(pts[1:held[-1]])) < 60_000  # the usual pace
    assert any(luma_of(f) == 91 for f in sink.frames)
    assert stats.stages["latency"].count == 2  # made-up pictures have none
    assert stats.counters["frames_repeated"] >= 12


def test_a_picture_that_comes_late_after_a_pause_is_shown():
    """Its place was taken by the last picture again; sound keeps its distance to within that pause."""
    sink, stats = FakeSink(), Stats()
    presenter = OutputScheduler([sink], FORM, stats)
    presenter.put(frame(1_000_000, luma=90))
    sink.wait_for(5, repeated=True)
    presenter.put(frame(1_010_000, luma=91))
    presenter.put(frame(1_020_000, luma=92))
    time.sleep(0.1)
    presenter.close()
    shown = [luma_of(f) for f in sink.frames]
    assert 91 in shown and 92 in shown and not stats.counters["dropped:order"]
    assert min(np.diff([f.pts for f in sink.frames])) > 10_000  # no two for the same moment


def test_a_failing_sink_does_not_block_the_next():
    bad, good = FakeSink("bad", fail=True), FakeSink()
    sink, stats = present([frame(n) for n in range(3)], sinks=[bad, good], gap=0.01)
    assert len(sink.frames) == 3
    assert stats.counters["faults"] == 3
    assert "this sink always fails" in stats.warnings["sink_fault:bad"]


def test_faces_are_counted_of_pictures_that_are_fitted_too():
    faces = []
    other = VideoFormat(64, 64, "yuv420p", Fraction(30), Color("bt709"))
    one = replace(frame(1, form=other), faces=("a face", "another"))
    present([one], wrote=lambda latency, count: faces.append(count))
    assert faces == [2]


def test_who_looks_on_sees_what_the_sinks_get(monkeypatch):
    monkeypatch.setattr(module, "_SLATE_S", 0.4)
    seen = []
    sink = FakeSink()
    presenter = OutputScheduler([sink], FORM, Stats(), lost=lambda: True, shown=seen.append)
    presenter.put(frame(1_000_000, luma=90))
    sink.wait_for(20, repeated=True)
    presenter.close()
    assert [f.image for f in seen] == [f.image for f in sink.frames]
    assert luma_of(seen[0]) == 90 and luma_of(seen[-1]) < 60


def test_sound_goes_to_every_sink_as_it_is():
    sinks = [FakeSink(), FakeSink()]
    presenter = OutputScheduler(sinks, FORM, Stats(), delay=1.0)
    packet = SoundPacket(b"aac", 12.5, 0.02, 48000, 2)
    presenter.sound(packet)
    presenter.close()
    assert [s.sounds for s in sinks] == [[packet], [packet]]


def test_closing_gives_up_what_waits_for_its_time():
    sink = FakeSink()
    presenter = OutputScheduler([sink], FORM, Stats(), delay=30.0)
    presenter.put(frame(1))
    began = time.monotonic()
    presenter.close()
    assert time.monotonic() - began < 0.5
    assert not sink.frames


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "nv12", "yuv422p10le", "rgb24", "gray"])
def test_a_frame_of_another_size_is_letterboxed(pix_fmt):
    form = VideoFormat(160, 90, "yuv420p", Fraction(30), Color("bt709"))
    other = VideoFormat(64, 64, pix_fmt, Fraction(30), Color("rgb", True) if pix_fmt == "rgb24" else Color("bt601"))
    given = frame(5, luma=180, form=other)
    if pix_fmt == "rgb24":
        given.image.planes[0].update(bytes([180]) * given.image.planes[0].buffer_size)
    fitted = Letterbox(form)(given)
    assert fits(fitted, form)
    assert form_of(fitted, Fraction(30)) == form
    luma = np.frombuffer(fitted.image.planes[0], np.uint8).reshape(90, -1)[:, :160]
    assert (luma[:, :34] == 16).all()
    assert (luma[:, -34:] == 16).all()
    assert np.ptp(luma[:, 40:120]) <= 1
    assert luma[45, 80] > 150 or pix_fmt == "yuv422p10le"
    same = frame(6, form=form)
    assert Letterbox(form)(same) is same
