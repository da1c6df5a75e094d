"""A live source being watched, for tests."""

from __future__ import annotations

import io
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np

from rtface.config.addresses import parse_address
from rtface.frame import Frame
from rtface.live.protocols import LiveSource, SoundPacket
from rtface.live.sources.open_source import open_live_source
from rtface.stats import Stats
from tests.live.publish import read_stamp


class Watched:
    """Opens a source, keeps what comes, and closes it.

    Attributes:
        frames: when each came, and the frame.
        made: when the publisher made it, as its frame says, where `stamped`.
        sounds: all.
    """

    def __init__(self, url: str | LiveSource, *, stamped: bool = False, **options: Any) -> None:
        self.stats = Stats()
        self.source = open_live_source(parse_address(url), stats=self.stats, **options) if isinstance(url, str) else url
        self.stamped = stamped
        self.frames: list[tuple[float, Frame]] = []
        self.made: list[float] = []
        self.sounds: list[tuple[float, SoundPacket]] = []
        self.took = 0.0

    def __enter__(self) -> Watched:
        began = time.monotonic()
        self.source.start(self._frame, lambda sound: self.sounds.append((time.monotonic(), sound)))
        self.took = time.monotonic() - began
        return self

    def __exit__(self, *_: object) -> None:
        began = time.monotonic()
        self.source.close()
        assert time.monotonic() - began < 1.0
        assert self.source.health.state == "closed"
        self.source.close()
        count = len(self.frames)
        time.sleep(0.1)
        assert len(self.frames) == count, "a closed source gives nothing"
        pts = [frame.pts for _, frame in self.frames]
        assert pts == sorted(set(pts)), "times rise"

    def _frame(self, frame: Frame) -> None:
        if self.stamped:
            self.made.append(read_stamp(frame.image))
        self.frames.append((time.monotonic(), frame))

    def until(self, condition: Callable[[], bool], seconds: float) -> float:
        """Waits for it; how long it took. Fails after the time."""
        began = time.monotonic()
        while not condition():
            assert time.monotonic() - began < seconds, self.source.health
            time.sleep(0.01)
        return time.monotonic() - began

    def more(self, count: int, seconds: float) -> float:
        """Waits for so many more frames."""
        want = len(self.frames) + count
        return self.until(lambda: len(self.frames) >= want, seconds)

    def state(self, state: str, seconds: float) -> float:
        """Waits for a state of health."""
        return self.until(lambda: self.source.health.state == state, seconds)


def decoded(sounds: list[SoundPacket]) -> np.ndarray:
    """The samples of the first channel."""
    with av.open(io.BytesIO(b"".join(sound.data for sound in sounds)), format="aac") as box:
        return np.concatenate([frame.to_ndarray()[0] for frame in box.decode(audio=0)])


def tones(sounds: list[SoundPacket]) -> list[float]:
    """When the publisher's tones begin, on the times of the sound."""
    blocks = np.abs(decoded(sounds).reshape(-1, 128)).max(axis=1) > 0.1  # eight of a frame
    starts = [i for i, (before, now) in enumerate(itertools.pairwise(blocks), 1) if now and not before]
    return [sounds[i // 8].time + i % 8 / 8 * sounds[i // 8].duration for i in starts if i // 8 < len(sounds)]


def reader_of(pid: int) -> int:
    """The process that reads for another."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == pid and b"rtface.live.sources.read_worker:read" in (entry / "cmdline").read_bytes():
                return int(entry.name)
        except OSError:
            continue
    raise AssertionError("no process reads")
