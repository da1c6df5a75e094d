"""A whole live run between stand-ins for the ends, with the real tracker and engine."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import Future
from contextlib import aclosing
from dataclasses import replace
from fractions import Fraction
from typing import ClassVar

import av
import cv2
import numpy as np
import pytest

from rtface.concurrency.threads import call_in_thread
from rtface.config.addresses import parse_address
from rtface.config.options import Options
from rtface.errors import InputError, InputMissing, Interrupted, OutputError
from rtface.frame import Color, Display, Frame
from rtface.live.protocols import TIME_BASE, SoundFormat, SoundPacket, VideoFormat
from rtface.live.session import Endpoints, LiveSession, run_live
from rtface.live.sinks.record_sink import RecordSink
from rtface.live.sources.open_source import SilentSource
from rtface.live.sources.sound_to_aac import silent_frame
from rtface.media.read.enlarge import Enlarger
from rtface.stats import Stats
from tests.live.live_fakes import FORM, FakeSink, FakeSource, frame

PASSING = Options(tracker="none", device="cpu")
PORTRAIT = VideoFormat(320, 240, "yuv420p", Fraction(2), Color("bt601"))  # time enough on any machine


def portrait(number: int) -> Frame:
    """The astronaut's face, soft, as it would come now."""
    from skimage import data

    rgb = cv2.GaussianBlur(cv2.resize(data.astronaut()[:240, 60:380], (320, 240)), (0, 0), 1.6)
    rgb = np.roll(rgb, number % 3, axis=1)
    image = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(format="yuv420p")
    now = time.monotonic()
    return Frame(image, round(1e6 * now), TIME_BASE, color=PORTRAIT.color, display=Display(), captured_at=now)


class Run:
    """`run_live` on a thread, fed by the test."""

    def __init__(self, options: Options = PASSING, source: FakeSource | None = None, sinks=None, **more) -> None:
        self.source, self.sinks, self.stop = source or FakeSource(), sinks or [FakeSink()], threading.Event()
        self.ends, self.stats = Endpoints(self.source, self.sinks, **more), Stats()
        self.begun, self.report, self.error = threading.Event(), None, None
        self.live: LiveSession | None = None
        self.options = options
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        def look(live: LiveSession) -> None:
            self.live = live
            self.begun.set()

        try:
            self.report = run_live(self.ends, self.options, stats=self.stats, stop=self.stop, monitor=look)
        except BaseException as error:  # noqa: BLE001 - looked at by the test
            self.error = error

    def __enter__(self):
        self._thread.start()
        assert self.begun.wait(30), self.error
        return self

    def __exit__(self, *exc) -> None:
        self.end()

    def end(self) -> float:
        """Stops it; seconds that took."""
        began = time.monotonic()
        self.stop.set()
        self._thread.join(10)
        assert not self._thread.is_alive()
        return time.monotonic() - began


def test_it_ends_within_a_second_of_the_stop_and_closes_its_ends():
    with Run() as run:
        run.source.give(frame(1))
        run.sinks[0].wait_for(1)
        assert run.end() < 1.5
    assert run.source.closed
    assert run.sinks[0].closed
    assert run.error is None


def test_ends_that_do_not_close_do_not_hold_it_up():
    go = threading.Event()

    class Stuck(FakeSink):
        def close(self) -> None:
            go.wait(30)

    with Run(sinks=[Stuck()]) as run:
        assert run.end() < 1.6
    go.set()


def test_a_recording_is_completed_before_the_run_ends(tmp_path, monkeypatch):
    class Late(RecordSink):
        complete = False

        def close(self) -> None:
            threading.Event().wait(0.3)
            self.complete = True

    late = Late(parse_address(str(tmp_path / "a.mkv")), Options(), metadata={})
    monkeypatch.setattr("rtface.live.run_state.CLOSE_S", 0.05)
    Endpoints(FakeSource(), [late]).close()
    assert late.complete


def test_frames_are_enlarged_for_every_output_and_size():
    small = VideoFormat(32, 24, "yuv420p", Fraction(30), FORM.color)
    with Run(Options(tracker="none", device="cpu", scale="96p"), sinks=[FakeSink(), FakeSink()]) as run:
        for number, form in enumerate((FORM, small, replace(FORM, width=144, height=108)), 1):
            run.source.give(frame(number * 1_000_000, form=form))
            run.sinks[1].wait_for(number)
    for sink in run.sinks:
        assert (sink.form.width, sink.form.height) == (128, 96)
        assert {(f.image.width, f.image.height) for f in sink.frames} == {(128, 96)}


@pytest.mark.parametrize(
    ("options", "size", "corner"),
    [
        ({}, (64, 48), (0, 0)),
        ({"turn": "90"}, (48, 64), (0, -1)),
        ({"turn": 180}, (64, 48), (-1, -1)),
        ({"turn": "270"}, (48, 64), (-1, 0)),
        ({"mirror": True}, (64, 48), (0, -1)),
        ({"turn": "90", "mirror": True, "scale": "128p"}, (96, 128), (0, 0)),
    ],
)
def test_frames_are_turned_and_mirrored_for_every_output(options, size, corner):
    marked = frame(1_000_000, luma=40)
    samples = np.frombuffer(marked.image.planes[0], np.uint8).reshape(-1, marked.image.planes[0].line_size)
    samples[:8, :8] = 200  # up on the left
    with Run(Options.of({"tracker": "none", "device": "cpu"} | options), sinks=[FakeSink(), FakeSink()]) as run:
        run.source.give(marked)
        for sink in run.sinks:
            sink.wait_for(1)
            assert (sink.form.width, sink.form.height) == size
            shown = sink.frames[0].image.to_ndarray(format="gray8")
            assert shown.shape == size[::-1] and shown[corner] > 150 and (shown > 110).mean() < 0.05


@pytest.mark.parametrize("why", ["size", "fault"])
def test_a_source_that_cannot_be_enlarged_is_said_once(why, monkeypatch):
    class Enlarging(Enlarger):
        def __call__(self, frame):
            if why == "fault" and frame.image.width == 144:
                raise av.FFmpegError(12, "no memory")
            return super().__call__(frame)

    monkeypatch.setattr("rtface.live.session.Enlarger", Enlarging)
    with Run(Options(tracker="none", device="cpu", scale="96p")) as run:
        for number, form in enumerate((FORM, replace(FORM, width=144, height=108), replace(FORM, width=144), FORM), 1):
            run.source.give(frame(number * 1_000_000, form=form))
            run.sinks[0].wait_for(number)
        (told,) = run.live.status.snapshot()["messages"]
    assert told["message"] in run.report.warnings and "are not enlarged; outputs keep their size" in told["message"]


def test_every_end_is_in_the_report():
    with Run(sound=SilentSource(), names=("camera:0", "null:"), sound_name="sound silent") as run:
        run.source.give(frame(1))
        run.sinks[0].wait_for(1)
    assert [end["name"] for end in run.report.ends] == ["camera:0", "sound silent", "null:"]


def test_sound_reaches_the_sinks_after_silence_unless_off():
    form = SoundFormat(48_000, 1)
    for silent in (False, True):
        source = FakeSource()
        source.sound_format = form
        with Run(source=source, silent=silent) as run:
            at = time.monotonic()
            source.give_sound(SoundPacket(b"early", at - 1, 0.02))
            source.give(frame(round(1e6 * at), at=at))
            packet = SoundPacket(b"x", at + 0.2, 0.02)
            source.give_sound(packet)
        heard = run.sinks[0].sounds
        assert [s.data for s in heard if s.data in (b"early", b"x")] == ([] if silent else [b"x"])
        assert all(s.data == silent_frame(form) for s in heard[:8])
        assert silent or heard[0].time == pytest.approx(at, abs=0.01)


def test_a_film_that_ends_ends_the_run():
    run = Run()
    with run:
        run.source.give(frame(1))
        run.source.ended = True
        run._thread.join(5)
        assert not run._thread.is_alive()
    assert run.report.frames_out == 1


def test_a_film_starts_when_its_outputs_are_open():
    class Film(FakeSource):
        held: ClassVar[list[tuple[bool, bool]]] = []

        def start(self, give, sound) -> None:
            super().start(give, sound)
            give(frame(1))

        def hold(self, held) -> None:
            self.held.append((held, sink.form is not None))
            for number in (1, 2, 3) if not held else ():
                self.give(frame(number))

    sink = FakeSink()
    with Run(source=Film(), sinks=[sink]) as run:
        sink.wait_for(3)
    assert run.report.frames_in == 3
    assert [f.pts for f in sink.frames if f.captured_at is not None] == [1, 2, 3]
    assert Film.held == [(True, False), (False, True)]


class Missing(FakeSource):
    def start(self, frame, sound) -> None:
        raise InputMissing("camera 3 is not there")


class NoPlace(FakeSink):
    def open(self, form, *, sound) -> None:
        raise OutputError("no virtual camera")


@pytest.mark.parametrize(
    ("source", "sink", "error"), [(Missing(), FakeSink(), InputMissing), (FakeSource(), NoPlace(), OutputError)]
)
def test_a_missing_input_is_reported_and_all_is_closed(source, sink, error):
    with pytest.raises(error):
        run_live(Endpoints(source, [sink]), PASSING)
    assert source.closed
    assert sink.closed


def test_stopping_does_not_wait_for_a_source_that_opens():
    stop, go = threading.Event(), threading.Event()

    class Slow(FakeSource):
        def start(self, frame, sound) -> None:
            stop.set()
            go.wait(20)

    began = time.monotonic()
    with pytest.raises(Interrupted):
        run_live(Endpoints(Slow(), [FakeSink()]), PASSING, stop=stop)
    assert time.monotonic() - began < 2.0
    go.set()


def test_who_looks_at_the_preview_sees_enhanced_frames():
    sink = FakeSink()
    sink.wanted = False
    with Run(Options(device="cpu"), FakeSource(PORTRAIT), [sink]) as run:
        first, gone = Future(), threading.Event()

        async def look():
            async with aclosing(run.live.filters.preview.watch()) as pairs:
                first.set_result(await anext(pairs) or await anext(pairs))
                await asyncio.to_thread(gone.wait)

        looking = call_in_thread("viewer", asyncio.run, look())
        for number in range(20):
            run.source.give(portrait(number))
            sink.wait_for(number + 1)
            if first.done():
                break
        assert first.result(5)
        assert run.stats.stages["composite"].count
        assert run.live.status.paused == ""
        gone.set()
        looking.result(5)


def test_the_source_rests_while_nobody_looks():
    with Run() as run:
        run.live.follow_viewers()
        assert run.source.rests == []
        run.sinks[0].wanted = False
        run.live.follow_viewers()
        assert run.source.rests == [True]
        run.sinks[0].wanted = True
        run.live.follow_viewers()
        assert run.source.rests == [True, False]


def test_a_person_is_recognised_by_a_photo(tmp_path):
    photo = tmp_path / "anna.png"
    cv2.imwrite(str(photo), portrait(0).image.to_ndarray(format="bgr24"))
    options = Options(device="cpu", faces="anna", person=(f"anna={photo}",), correct="always", latency=5000)
    source = FakeSource(PORTRAIT)
    with Run(options, source) as run:
        for number in range(40):
            source.give(portrait(number))
            run.sinks[0].wait_for(number + 1, 20)
            if run.stats.counters["frames_corrected"]:
                break
            time.sleep(0.05)
        assert run.live.enhance.persons.gallery.persons[0].label == "anna"
    assert run.stats.counters["frames_corrected"] > 0


def test_a_photo_that_cannot_serve_opens_no_output(tmp_path):
    photo = tmp_path / "anna.png"
    cv2.imwrite(str(photo), np.full((90, 160, 3), 90, np.uint8))
    sink = FakeSink()
    with pytest.raises(InputError, match="shows no face"):
        run_live(Endpoints(FakeSource(PORTRAIT), [sink]), Options(device="cpu", person=(f"anna={photo}",)))
    assert sink.form is None
