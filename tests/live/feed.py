"""Feeds a sink with frames that carry the time, and with sound, as a live run would."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext

from rtface.frame import Color, Frame
from rtface.live.protocols import TIME_BASE, LiveSink, SoundFormat, SoundPacket, VideoFormat
from rtface.util.av_arrays import plane_rows
from tests.live.publish import stamped_image, tone

RATE = 48_000
MONO = SoundFormat(RATE, 1)


def form(width: int = 640, height: int = 360, rate: int = 30, **more: Any) -> VideoFormat:
    """Frames of a feed."""
    return VideoFormat(width, height, "yuv420p", Fraction(rate), Color(primaries=1), **more)


def adts(body: bytes, channels: int = 1) -> bytes:
    """A frame of AAC-LC of 48 kHz with its header."""
    size = len(body) + 7
    return bytes(
        [0xFF, 0xF1, 0x40 | 3 << 2, channels << 6 | size >> 11, size >> 3 & 255, (size & 7) << 5 | 31, 0xFC, *body]
    )


def _waits() -> int:
    """How often this thread has waited so far; always another number where the platform does not say."""
    if sys.platform == "linux":
        import resource

        return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
    return time.monotonic_ns()


class Voice:
    """AAC of the tone of `publish.tone`, in time with the clock."""

    def __init__(self, start: float, channels: int = 1) -> None:
        self._start, self._samples, self._channels = start, 0, channels
        context = AudioCodecContext.create("aac", "w")
        assert isinstance(context, AudioCodecContext)
        self._layout = {1: "mono", 2: "stereo"}[channels]
        context.layout, context.sample_rate, context.format = self._layout, RATE, "fltp"
        context.time_base, context.bit_rate = Fraction(1, RATE), 128_000
        self._context = context

    def until(self, now: float) -> Iterator[SoundPacket]:
        """What is due by now."""
        while self._start + (self._samples + 1024) / RATE <= now:
            samples = tone(self._start + self._samples / RATE, 1024, RATE)[None].repeat(self._channels, 0)
            frame = av.AudioFrame.from_ndarray(samples, "fltp", self._layout)
            frame.sample_rate, frame.pts, frame.time_base = RATE, self._samples, Fraction(1, RATE)
            self._samples += 1024
            for packet in self._context.encode(frame):
                assert packet.pts is not None
                yield SoundPacket(
                    adts(bytes(packet), self._channels),
                    self._start + packet.pts / RATE,
                    1024 / RATE,
                )


class Feed:
    """Gives a sink frames at an even pace, on the caller's thread.

    Args:
        texture: covers the frames with grain that moves, so that they fill a file.
        corrected: whether the frames say that a face was corrected on them.

    Attributes:
        calls: seconds of every call of the sink, 0 for those that waited for nothing.
        health: when it changed, and into what.
    """

    def __init__(
        self, sink: LiveSink, like: VideoFormat, *, sound: bool = True, texture: bool = False, corrected: bool = False
    ) -> None:
        self.sink, self._form = sink, like
        grain = np.random.default_rng(1).integers(0, 60, (like.height - 16, like.width + 64), np.uint8)
        self._grain = grain if texture else None
        self.voice = Voice(time.monotonic()) if sound else None
        self._frames, self._corrected = 0, corrected
        self._began: float | None = None
        self.calls: list[float] = []
        self.health: list[tuple[float, str, str]] = []

    def run(self, seconds: float, at: dict[float, Callable[[], object]] | None = None) -> None:
        """Feeds for a time; `at` are things to do meanwhile, on threads of their own."""
        timers = [threading.Timer(when, what) for when, what in (at or {}).items()]
        for timer in timers:
            timer.start()
        rate = float(self._form.rate)
        self._began = self._began or time.monotonic()
        until = time.monotonic() + seconds
        while (now := time.monotonic()) < until:
            due = self._began + self._frames / rate
            if now < due:
                time.sleep(due - now)
            image = stamped_image(self._form.width, self._form.height, due)
            self._frames += 1
            if self._grain is not None:
                luma = plane_rows(image.planes[0])[16:, : self._form.width]
                luma += self._grain[:, self._frames % 64 :][:, : self._form.width]
            frame = Frame(image, round(due * 1_000_000), TIME_BASE, captured_at=due, corrected=self._corrected)
            self._timed(lambda frame=frame: self.sink.write(frame))
            for sound in self.voice.until(time.monotonic()) if self.voice else ():
                self._timed(lambda sound=sound: self.sink.sound(sound))
            health = self.sink.health
            if not self.health or self.health[-1][1] != health.state:
                self.health.append((time.monotonic(), health.state, health.detail))
        for timer in timers:
            timer.join()

    def became(self, state: str, after: float) -> float:
        """When the sink was first in a state after a time."""
        return next(at for at, said, _ in self.health if said == state and at >= after)

    def _timed(self, call: Callable[[], object]) -> None:
        switches, before = _waits(), time.monotonic()
        call()
        took = time.monotonic() - before
        # A thread that was only kept from the processor did not wait.
        self.calls.append(0.0 if _waits() == switches else took)

    def until(self, state: str, seconds: float) -> float:
        """Feeds until the sink is in a state, and says how long that took."""
        before = time.monotonic()
        while self.sink.health.state != state:
            assert time.monotonic() - before < seconds, self.sink.health
            self.run(0.1)
        return time.monotonic() - before

    def until_seen(self, watcher: Watcher, after: float, count: int = 1) -> None:
        """Feeds until a watcher has got so many frames after a time."""
        until = time.monotonic() + 20
        while sum(e["at"] > after for e in watcher.seen()) < count:
            assert time.monotonic() < until, f"{len(watcher.seen())} frames were seen, the last ones too early"
            self.run(0.2)

    def check_that_no_call_waited(self) -> None:
        """For anything but the processor and the interpreter, which other threads want too."""
        assert statistics.median(self.calls) < 0.01 and max(self.calls) < 0.3, sorted(self.calls)[-20:]


class Watcher:
    """`watch.py` on a URL, and what it saw; it leaves at the end of the block."""

    def __init__(self, url: str, folder: Path, *options: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._out = folder / f"watched-{time.monotonic_ns()}.jsonl"
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("watch.py")), url, str(self._out), *options],
            stderr=(folder / "watch.log").open("ab"),
        )

    def __enter__(self) -> Watcher:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def seen(self, kind: str = "video") -> list[dict[str, Any]]:
        """Its packets so far, one kind of them."""
        if not self._out.exists():
            return []
        lines = self._out.read_text().splitlines(keepends=True)
        return [e for e in (json.loads(line) for line in lines if line.endswith("\n")) if e["kind"] == kind]


def at_once(*calls: Callable[[], object]) -> None:
    """Does things that mostly wait beside each other."""
    with ThreadPoolExecutor(len(calls)) as pool:
        for done in [pool.submit(call) for call in calls]:
            done.result()


def offsets(watcher: Watcher) -> list[tuple[float, float]]:
    """By second of the stream: when a frame lies on the feed's clock, and when its tones do, each as the clock's
    time minus the stream's, in seconds modulo 1."""
    stamps = {round(e["pts"]): (e["stamp"] - e["pts"]) for e in watcher.seen() if e["stamp"] is not None}
    tones = {round(e["onset"]): -e["onset"] for e in watcher.seen("tone")}
    return [(stamps[k] % 1, tones[k] % 1) for k in sorted(stamps.keys() & tones.keys())]
