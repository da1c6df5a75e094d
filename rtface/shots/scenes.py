"""Detects the scenes of a film as its frames pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TypedDict

from rtface.analysis.scene_cuts import CutDetector
from rtface.frame import Frame
from rtface.protocols import Device, Item
from rtface.shots.clock import FilmClock


@dataclass(slots=True)
class Scene:
    """Describes the frames from one scene change to the next.

    Attributes:
        begin, end: seconds of the input's own clock; `end` is the end of its last frame.
        frames: number of frames.
    """

    begin: Fraction
    end: Fraction
    frames: int = 0


class SceneTable(TypedDict):
    """Describes a scene in JSON, in seconds from the film's beginning."""

    start_s: float
    end_s: float
    timecode: str
    frames: int


class SceneRecorder:
    """Records the scenes of a film, using the trackers' cut detector.

    Attributes:
        scenes: scenes so far, in order of time.
        clock: clock of the film; None until the film is opened.
    """

    def __init__(self) -> None:
        self.scenes: list[Scene] = []
        self.clock: FilmClock | None = None
        self._detector = CutDetector()

    def noted(self, items: Iterable[Item], device: Device) -> Iterator[Item]:
        """Yields the items unchanged, and records their scenes. `device` reads the frames."""
        for item in items:
            if isinstance(item, Frame):
                self._record(item, device)
            yield item

    def _record(self, frame: Frame, device: Device) -> None:
        time = frame.pts * frame.time_base
        step = frame.duration * frame.time_base if frame.duration else Fraction(0)
        cut = self._detector.sees_cut(frame, device)
        if not self.scenes or cut or frame.new:
            if self.scenes:
                self.scenes[-1].end = time
            self.scenes.append(Scene(time, time))
        scene = self.scenes[-1]
        scene.frames += 1
        scene.end = time + (step or (1 / self.clock.rate if self.clock else Fraction(0)))

    @property
    def even(self) -> bool:
        """True if frames are evenly spaced. Scenes then start exactly at their timecodes."""
        if self.clock is None or not self.scenes:
            return True
        first = self.clock.frame_at(self.scenes[0].begin)
        for scene in self.scenes:
            if self.clock.frame_at(scene.begin) != first:
                return False
            first += scene.frames
        return True

    def table(self) -> list[SceneTable]:
        """Returns the scenes as JSON values."""
        clock = self.clock or FilmClock(Fraction(25))
        return [
            {
                "start_s": round(float(scene.begin - clock.begin), 6) + 0.0,  # turns -0.0 into 0.0
                "end_s": round(float(scene.end - clock.begin), 6),
                "timecode": str(clock.timecode_at(scene.begin)),
                "frames": scene.frames,
            }
            for scene in self.scenes
        ]
