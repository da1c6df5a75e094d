"""A source that is lost and opened again, and the watch over its process; clock and process are stand-ins."""

from __future__ import annotations

import gc
import queue
import threading
from collections import Counter
from fractions import Fraction
from typing import Any
from weakref import WeakSet

import pytest

from rtface.concurrency.shared_frames import FrameLayout
from rtface.errors import InputError, InputMissing, Message
from rtface.frame import Color, Display, Frame
from rtface.live.messages import (
    Heartbeat,
    SoundPacketReady,
    SourceOpened,
    SourceRequest,
    VideoFrameReady,
)
from rtface.live.protocols import SoundFormat
from rtface.live.sources.read_process import MUTE_S, OPENING_S, ReadProcess
from rtface.live.sources.reconnecting_source import ReconnectingSource
from rtface.stats import Stats
from tests.live.live_fakes import SteppedClock, flat_image

OPENED = SourceOpened("h264, 30 fps", Fraction(30), (), SoundFormat(), film=False)
LAYOUT = FrameLayout.of(flat_image())


class StandInProcess:
    """In place of `ReadProcess`: ends when the test says why."""

    refusal: InputError | None = None
    over = False
    heartbeat = Heartbeat()

    def __init__(self, request: SourceRequest, frame: Any, sound: Any, hush: Any) -> None:
        self.request, self.frame, self.sound, self.hush = request, frame, sound, hush
        self.opened: SourceOpened | None = None
        self.frames = self.sounds = 0
        self.ended: queue.Queue[str] = queue.Queue()

    def run_until(self, closed: threading.Event) -> str:
        while not closed.is_set():
            try:
                return self.ended.get(timeout=0.01)
            except queue.Empty:
                continue
        return ""

    def follow(self, request: SourceRequest) -> None:
        self.request = request

    def show(self, at: float, stamp: float | None = None) -> None:
        self.opened, self.frames = OPENED, self.frames + 1
        self.frame(VideoFrameReady(0, LAYOUT, stamp, at, Color(), Display()), flat_image())

    def hear(self, at: float, stamp: float) -> None:
        self.sound(SoundPacketReady(b"aac", stamp, at, 1024 / 48_000))


class Rig:
    """A source whose processes the test plays."""

    def __init__(self, variant: str = "best") -> None:
        self.clock, self.processes = SteppedClock(100.0), queue.Queue[StandInProcess]()
        self.frames: list[Frame] = []
        self.sounds: list[Any] = []
        self.stats = Stats()
        self.source = ReconnectingSource(
            SourceRequest("stream", "rtmp://h/a/k", variant=variant),
            "rtmp://h/a/…",
            stats=self.stats,
            clock=self.clock,
            process=self._made,
        )
        self.result: queue.Queue[BaseException | None] = queue.Queue()
        threading.Thread(target=self._start, daemon=True).start()

    def _made(self, *arguments: Any, **more: Any) -> Any:
        self.processes.put(process := StandInProcess(*arguments, **more))
        return process

    def _start(self) -> None:
        try:
            self.source.start(self.frames.append, self.sounds.append)
            self.result.put(None)
        except BaseException as error:  # noqa: BLE001 - for the test
            self.result.put(error)

    def process(self) -> StandInProcess:
        return self.processes.get(timeout=5)


def test_a_lost_source_is_opened_again_and_keeps_its_clock():
    rig = Rig()
    first = rig.process()
    first.show(100.0, 5.0)
    assert rig.result.get(timeout=5) is None
    first.hear(100.01, 5.0)
    first.ended.put("no data for 3.6 s")
    second = rig.process()
    health = rig.source.health
    assert (health.state, health.detail, health.reopened) == ("away", "no data for 3.6 s", 0)
    rig.clock.step(4.0)
    second.hear(104.0, 0.0)  # before its first frame: left out
    second.show(104.0, 0.0)
    second.hear(104.02, 0.02)
    assert rig.source.health.state == "live" and rig.source.health.reopened == 1
    second.show(103.9, -0.1)  # its clock went back a little
    assert [f.pts for f in rig.frames] == [100_000_000, 104_000_000, 104_000_001]
    assert [s.time for s in rig.sounds] == [pytest.approx(100.0), pytest.approx(104.02)]
    rig.source.close()
    assert rig.source.health.state == "closed"


def test_the_hold_ends_also_for_a_process_that_begins_then():
    rig = Rig()
    rig.source.hold(True)
    first = rig.process()
    first.show(100.0, 5.0)
    assert rig.result.get(timeout=5) is None
    rig.source.hold(False)
    assert not first.request.held and rig.source.health.frames == 1  # no film: it goes on
    first.ended.put("no data for 3.6 s")
    assert not rig.process().request.held
    rig.source.close()


def test_nothing_is_kept_of_connections_that_ended(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("rtface.live.backoff.Retry.wait", lambda _, stop: stop.is_set())
    rig, kept = Rig(), WeakSet[StandInProcess]()
    for number in range(60):
        process = rig.process()
        process.show(100.0 + number)
        process.hear(100.0 + number, 5.0)
        kept.add(process)
        process.ended.put("the source ended the stream")
    last = rig.process()
    last.show(160.0)
    del process
    rig.frames.clear()
    gc.collect()
    assert not kept and rig.source.health.reopened == 60
    rig.source.close()


def test_a_list_that_lost_its_variant_gives_its_best():
    rig = Rig(variant="720")
    first = rig.process()
    first.show(100.0, 5.0)
    assert rig.result.get(timeout=5) is None
    first.ended.put("no data for 3.6 s")
    second = rig.process()
    assert second.request.variant == "720"
    second.ended.put(Message("has no variant 720", code="no_variant"))
    assert rig.process().request.variant == "best"
    rig.source.close()


def test_what_a_source_lost_is_counted_and_said_once():
    rig = Rig()
    process = rig.process()
    process.show(100.0)
    for missing in (3, 5):
        process.heartbeat = Heartbeat(counts=Counter(packets_undecoded=1, frames_missing=missing))
        assert rig.source.health.state == "live"
    assert rig.stats.counters["packets_lost"] == 6
    assert len(rig.stats.warned()) == 1 and "missing" in rig.stats.warned()[0]
    rig.source.close()


def test_what_waits_on_the_way_is_said_until_the_source_is_away():
    rig = Rig()
    process = rig.process()
    process.show(100.0)
    process.heartbeat = Heartbeat(backlog=0.9)
    assert rig.source.health.backlog == 0.9 and not rig.stats.warned()
    process.heartbeat = Heartbeat(backlog=1.42)
    assert rig.source.health.backlog == 1.42
    assert "1.4 s later" in rig.stats.warned()[0]
    process.ended.put("no data for 3.6 s")
    rig.process()
    assert rig.source.health.backlog == 0.0
    rig.source.close()


@pytest.mark.parametrize(("why", "over"), [("no frame came within 10 s", False), ("the source ended the stream", True)])
def test_a_source_without_a_frame_is_an_error_at_the_start(why: str, *, over: bool):
    rig = Rig()
    process = rig.process()
    process.heartbeat = Heartbeat(over=over)
    process.ended.put(why)
    error = rig.result.get(timeout=5)
    assert isinstance(error, InputError) and why in str(error)


ENDED = Message("the source ended the stream", code="source_ended")


def test_a_stream_that_ends_before_its_first_frame_is_waited_for():
    rig = Rig()
    (first := rig.process()).opened = OPENED
    first.ended.put(ENDED)
    second = rig.process()
    second.refusal = InputMissing("rtmp://h/a/…: nothing is listening there")  # it is being started again
    second.ended.put("nothing is listening there")
    rig.process().show(100.0)
    assert rig.result.get(timeout=5) is None
    (said,) = rig.stats.warned()
    assert "ended before its first frame; rtface tries to reopen it" in said
    rig.source.close()


def test_a_stream_that_never_shows_a_frame_is_refused():
    rig = Rig()
    for _ in range(2):
        (process := rig.process()).opened = OPENED
        process.sounds = 1
        rig.clock.step(11.0)
        process.ended.put(ENDED)
    assert "the source ended the stream" in str(rig.result.get(timeout=5)) and rig.processes.empty()


class Watch:
    """A `ReadProcess` whose child the test plays."""

    def __init__(self, **request: Any) -> None:
        self.clock = SteppedClock(100.0)
        self.killed, self.alive = False, False
        self.process = ReadProcess(
            SourceRequest("stream", "rtmp://h/a/k", video=False, **request),
            lambda *_: None,
            lambda _: None,
            lambda _: None,
            clock=self.clock,
            start=self._start,
        )
        self.reason: queue.Queue[str] = queue.Queue()
        self._begun = threading.Event()
        threading.Thread(target=lambda: self.reason.put(self.process.run_until(threading.Event())), daemon=True).start()
        assert self._begun.wait(5)

    def _start(self, *_: Any, on_message: Any, on_end: Any, **__: Any) -> Any:
        self.send, self.end = on_message, on_end
        self._begun.set()
        return self

    def kill(self, wait: float) -> None:
        self.killed = True


def test_a_process_that_says_nothing_is_killed():
    watch = Watch()
    watch.send(Heartbeat())
    watch.clock.step(OPENING_S + 1)
    assert watch.reason.get(timeout=5) == "the reading process does not respond" and watch.killed


def test_a_halt_of_this_process_does_not_blame_the_child():
    watch = Watch()
    watch.send(OPENED)
    watch.send(SoundPacketReady(b"", 0.0, 100.0, 0.02))
    watch.clock.step(MUTE_S + 1)  # as after SIGSTOP or sleep: what the child sent is not read yet
    watch.send(Heartbeat())
    with pytest.raises(queue.Empty):
        watch.reason.get(timeout=0.5)
    watch.clock.step(MUTE_S + 1)
    assert watch.reason.get(timeout=5) == "the reading process does not respond"


def test_a_source_without_data_is_lost():
    watch = Watch()
    watch.send(OPENED)
    watch.send(SoundPacketReady(b"", 0.0, 100.0, 0.02))
    watch.send(beat := Heartbeat(3.6, Counter(bytes=10), 0.25))
    assert watch.reason.get(timeout=5) == "no data for 3.6 s"
    assert watch.process.sounds == 1 and watch.process.heartbeat == beat


def test_a_refusal_and_a_crash_give_their_reason():
    watch = Watch()
    watch.send(InputMissing("nothing is listening there"))
    watch.end("")
    assert watch.reason.get(timeout=5) == "nothing is listening there"
    assert isinstance(watch.process.refusal, InputMissing)
    watch = Watch()
    watch.end("its process was ended by SIGSEGV")
    assert watch.reason.get(timeout=5) == "reading failed (its process was ended by SIGSEGV)"
