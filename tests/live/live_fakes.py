"""Sources, sinks, trackers and steps with known behaviour, for the live loop."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import av
import numpy as np

from rtface.frame import Color, Display, Face, Frame
from rtface.live.control.preview import Preview
from rtface.live.control.status import LiveStatus
from rtface.live.controls import LiveControls
from rtface.live.protocols import TIME_BASE, EndpointHealth, SoundFormat, SoundPacket, VideoFormat
from rtface.live.run_state import Endpoints, RunState
from rtface.stats import Stats
from rtface.tracking import NoTracker

FORM = VideoFormat(64, 48, "yuv420p", Fraction(30), Color("bt601"))


def flat_image(luma: int = 100, form: VideoFormat = FORM) -> av.VideoFrame:
    """A flat frame."""
    image = av.VideoFrame(form.width, form.height, form.pix_fmt)
    for plane, value in zip(image.planes, (luma, 128, 128), strict=False):
        plane.update(bytes([value]) * plane.buffer_size)
    return image


def luma_of(frame: Frame) -> int:
    """The first luma sample of a frame."""
    return memoryview(frame.image.planes[0])[0]


def frame(number: int, *, luma: int | None = None, at: float | None = None, form: VideoFormat = FORM) -> Frame:
    """The frame captured `at` (now), with its number as pts."""
    captured = time.monotonic() if at is None else at
    return Frame(
        flat_image(number % 256 if luma is None else luma, form),
        number,
        TIME_BASE,
        color=form.color,
        display=Display(),
        captured_at=captured,
    )


class SteppedClock:
    """A clock that only a test moves."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def step(self, seconds: float) -> None:
        self.now += seconds


class FakeSource:
    """Gives what a test puts."""

    described, sound_format, ended = "fake source", None, False

    def __init__(self, form: VideoFormat = FORM) -> None:
        self.video_format, self.notes, self.closed = form, [], False
        self.rests: list[bool] = []
        self.health = EndpointHealth("opening", "not begun", time.monotonic())
        self.give: Callable[[Frame], None] = lambda frame: None
        self.give_sound: Callable[[SoundPacket], None] = lambda sound: None

    def start(self, frame: Callable[[Frame], None], sound: Callable[[SoundPacket], None]) -> None:
        self.give, self.give_sound = frame, sound
        self.health = replace(self.health, state="live")

    def hold(self, held: bool) -> None:
        return

    def rest(self, resting: bool) -> None:
        self.rests.append(resting)

    def lose(self, why: str = "unplugged") -> None:
        self.health = EndpointHealth("away", why, time.monotonic())

    def close(self) -> None:
        self.closed = True


class FakeSink:
    """Remembers what it got, and when."""

    def __init__(
        self, name: str = "fake sink", *, fail: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self.described, self.notes, self.wanted, self.fail = name, [], True, fail
        self.health = EndpointHealth("live", "", time.monotonic())
        self.frames: list[Frame] = []
        self.times: list[float] = []
        self.sounds: list[SoundPacket] = []
        self.form: VideoFormat | None = None
        self.closed = False
        self._changed = threading.Condition()

    def open(self, form: VideoFormat, *, sound: SoundFormat | None) -> None:
        self.form = form

    def write(self, frame: Frame) -> None:
        if self.fail:
            raise OSError("this sink always fails")
        with self._changed:
            self.frames.append(frame)
            self.times.append(self._clock())
            self._changed.notify_all()

    def sound(self, packet: SoundPacket) -> None:
        self.sounds.append(packet)

    def close(self) -> None:
        self.closed = True

    def wait_for(self, count: int, timeout: float = 5.0, *, repeated: bool = False) -> None:
        """For so many frames of the source, or `repeated` ones too."""

        def came() -> int:
            return sum(repeated or frame.captured_at is not None for frame in self.frames)

        with self._changed:
            assert self._changed.wait_for(lambda: came() >= count, timeout), f"only {came()} came"


class PlainView:
    """A view of a grey frame, for the detector of cuts."""

    def thumbnail(self, side: int) -> tuple[np.ndarray, float, float]:
        return np.full((36, side, 3), 90, np.uint8), 1.0, 1.0


class FakeTracker(NoTracker):
    """One face in the middle; raises on the calls named."""

    def __init__(self, fail: set[int] | None = None) -> None:
        self.calls, self._fail = 0, fail or set()

    def update(self, view: object, time: float, *, cut: bool = False) -> tuple[Face, ...]:
        self.calls += 1
        if self.calls in self._fail:
            raise RuntimeError("the fake tracker fails here")
        return (Face(1, np.array([10.0, 10.0, 50.0, 40.0]), np.zeros((5, 2))),)


class FakeEnhance:
    """Adds 1 to the first luma sample; raises on the calls named."""

    def __init__(self, fail: dict[int, Exception] | None = None) -> None:
        self.calls, self.strength, self._fail = 0, 1.0, fail or {}
        self.runtime = type("Runtime", (), {"device": type("Device", (), {"view": lambda self, frame: None})()})()
        self.resets = 0
        self.tracks, self.select = SimpleNamespace(strengths={}), SimpleNamespace()
        self.bare: list[int] = []

    def label(self, frame: Frame) -> Frame:
        return frame

    def passed(self, frame: Frame) -> None:
        self.bare.append(frame.pts)

    def process(self, frame: Frame) -> Frame:
        self.calls += 1
        if self.calls in self._fail:
            raise self._fail[self.calls]
        frame.image.make_writable()
        memoryview(frame.image.planes[0])[0] = (luma_of(frame) + 1) % 256
        return replace(frame, touched=True)

    def reset(self) -> None:
        self.resets += 1


class NoFilters:
    """In place of `FrameFilters`."""

    needs_faces = hides = False

    def before(self, frame: Frame, light: float | None, faces: tuple[Face, ...]) -> Frame:
        return frame

    def after(self, frame: Frame) -> Frame:
        return frame


def run_state(sinks=(), *, source=None, controls=None, stats=None, form=FORM, delay=None, **ends) -> RunState:
    """The state of a run between these ends."""
    ends = Endpoints(source or FakeSource(form), list(sinks), **ends)
    return RunState(ends, controls or LiveControls(), stats or Stats(), Preview(), form, delay)


def live_status(
    source,
    sinks,
    *,
    sound=(None, None),
    levels=(),
    guard=None,
    processor=None,
    machine=None,
    tracks=None,
    light=None,
    clock=time.monotonic,
    **more,
):
    """The status of a run whose ends are given with their names, and whose faces are on these quality levels."""
    names, sinks = (source[0], *(name for name, _ in sinks)), [sink for _, sink in sinks]
    state = run_state(sinks, source=source[1], names=names, sound=sound[1], sound_name=sound[0], **more)
    faces, persons = SimpleNamespace(levels=levels), SimpleNamespace(listed=lambda: None)
    meters = {"processor": processor, "machine": machine, "light": light}
    return LiveStatus(state, faces, persons, tracks=tracks, guard=guard, clock=clock, **meters)


def ask(port: int, method: str, path: str, body: str | None = None, **headers: str) -> tuple[int, Any, Any]:
    """Status, JSON (or bytes of another kind) and headers that a server of this machine answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        data = answer.read()
        is_json = data and answer.headers["Content-Type"] == "application/json"
        return answer.status, json.loads(data) if is_json else data, answer.headers
    finally:
        connection.close()
