"""Restores one face of a film as a run does, and cuts it from the frame before and after.

A face is shown after a lead-in of 1.3 s that begins with the sampled frame: by then its treatment is decided, filters
have settled, and a recurrent engine remembers what it would in a run. Its frames pass the steps of a run.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np

from rtface.analysis.treatment import Treatment
from rtface.contact_sheet.choose import Choice
from rtface.contact_sheet.search import Sighting
from rtface.engine.engine_set import LIGHT
from rtface.enhance.film import FilmEnhancer
from rtface.errors import Interrupted
from rtface.frame import Bytes, Face, Float, Frame
from rtface.media.images import read_image
from rtface.options import Options
from rtface.pipeline.build import RunParts, Threads, open_film, open_repair
from rtface.pipeline.chain import find_faces, split_fields, track_and_enhance
from rtface.protocols import Device, Item, Runtime, Tracker
from rtface.shots.clock import FilmClock
from rtface.stats import Stats
from rtface.tracking.identity import same_place
from rtface.util.urls import Address

LEAD_IN_S = 1.3
_AHEAD_S = 0.6
"""Seconds behind the shown frame that keyframes of a heavy engine need."""
CELL = 320
"""Side of a crop on the sheet, pixels."""
_FOUND_WITHIN = 5  # frames
_ROOM = 1.35
"""Width of what is shown over that of the face, at least, where it is enlarged."""


@dataclass(frozen=True, slots=True)
class Shown:
    """The frame on which a face is shown.

    Attributes:
        pts: of the frame.
        time: seconds from the beginning of the film.
        timecode: of the frame, where the film has timecodes; else "".
        matrix: display → pixels of the crop, float64 2×3.
        side: of the crop in pixels, `CELL` divided by `scale`.
        scale: 1, 2 or 4, how much the sheet enlarges it.
        before: the crop from the untouched frame, uint8 RGB side×side×3.
        box: of the face, display pixels; float64 (4,).
    """

    pts: int
    time: float
    timecode: str
    matrix: Float
    side: int
    scale: int
    before: Bytes
    box: Float

    @property
    def width(self) -> float:
        """Of the face's box, display pixels."""
        return float(self.box[2] - self.box[0])

    def repeats(self, other: Shown) -> bool:
        """Whether it is the same face as another, on the same frame or one close by."""
        return abs(self.time - other.time) < LEAD_IN_S and same_place(self.box, other.box)


@dataclass(frozen=True, slots=True)
class Variant:
    """An engine and a strength.

    Attributes:
        engine: name as the user gives it.
        strength: 0…1.
    """

    engine: str
    strength: float


def usual(variants: Sequence[Variant]) -> Variant:
    """The variant that is nearest to a run without options: the first engine with the highest strength."""
    return max((one for one in variants if one.engine == variants[0].engine), key=lambda one: one.strength)


@dataclass(frozen=True, slots=True)
class Row:
    """One face on the sheet.

    Attributes:
        choice: the face as it was found.
        shown: the frame on which it is shown.
        treatments: what a run with that engine decides for it; None where it was not followed.
        crops: the face at full strength by engine, uint8 RGB as `shown.before`.
    """

    choice: Choice
    shown: Shown
    treatments: dict[str, Treatment | None]
    crops: dict[str, Bytes]


Boxes = dict[tuple[int, Literal[0, 1] | None], Float]
"""Box of one face (display pixels, float64 (4,)) by pts and field of the frame."""


class _OneFace(FilmEnhancer):
    """Corrects one face, wherever its boxes say that it is; the tracker may give it another id than before."""

    def __init__(self, runtime: Runtime, options: Options, stats: Stats, boxes: Boxes) -> None:
        super().__init__(runtime, options, stats, light=LIGHT)
        self._boxes, self._track = boxes, 0

    def chosen(self, frame: Frame) -> tuple[Face, ...]:
        box = self._boxes.get((frame.pts, frame.field))
        same = [face for face in super().chosen(frame) if box is not None and same_place(face.box, box)]
        self._track = same[0].track_id if same else self._track
        return tuple(same[:1])

    @property
    def treatment(self) -> Treatment | None:
        """The treatment of the face; None where it was never found."""
        return self.tracks.treatment_of(self._track)


class FaceRestorer:
    """Restores faces of one film, still or folder of stills.

    Args:
        input: what is read.
        options: of the run; the engine comes with each call.
        tracker: of all runs, one after the other.
        threads, stop: as for `rtface.pipeline.build.open_film`.
        clock_start: start of the input's own clock in seconds.
    """

    def __init__(self, input: Path | Address, options: Options, tracker: Tracker, threads: Threads,
                 stop: threading.Event, clock_start: Fraction = Fraction(0)) -> None:
        self._input, self._options, self._tracker = input, options, tracker
        self._threads, self._stop, self._clock_start = threads, stop, clock_start

    def find(self, face: Sighting, device: Device) -> tuple[Shown, Boxes] | None:
        """Follows a face through its lead-in: the frame on which it is shown, and where it is on each frame.

        None where the tracker does not find it again. Raises as a run; Interrupted.
        """
        stats = Stats()
        with ExitStack() as stack:
            frames, clock = self._frames(face, stats, stack)
            self._tracker.reset()
            track: int | None = None
            last: tuple[Frame, Face] | None = None
            boxes: Boxes = {}
            for number, item in enumerate(frame for frame in split_fields(frames) if isinstance(frame, Frame)):
                faces = find_faces(item, self._tracker, device, stats).faces
                if track is None:
                    track = next((one.track_id for one in faces if same_place(one.box, face.box)), None)
                    if track is None and number > _FOUND_WITHIN:
                        return None
                mine = next((one for one in faces if one.track_id == track), None)
                if mine is not None:
                    boxes[item.pts, item.field] = mine.box
                    last = (item, mine) if item.field != 1 else last
                elif last is not None:
                    break
            return (_shown(*last, clock, device), boxes) if last is not None else None

    def restore(self, face: Sighting, shown: Shown, boxes: Boxes, engine: str,
                runtime: Runtime) -> tuple[Bytes, Treatment | None]:
        """The crop of the face after a run with full strength, and its treatment; raises as a run, or Interrupted."""
        stats = Stats()
        options = replace(self._options, engine=engine, strength=1.0)
        ahead = _AHEAD_S if runtime.engines.pick(face.width).heavy else 0.0
        with ExitStack() as stack:
            frames, _ = self._frames(face, stats, stack, ahead=ahead)
            self._tracker.reset()
            enhance = _OneFace(runtime, options, stats, boxes)
            parts: RunParts[FilmEnhancer] = RunParts(self._tracker, enhance, open_repair(options, stats))
            crop = shown.before
            for item in track_and_enhance(frames, parts, stats, stack):
                if isinstance(item, Frame) and item.pts == shown.pts:
                    crop = runtime.device.view(item).crop(shown.matrix, (shown.side, shown.side))
            return crop, enhance.treatment

    def _frames(self, face: Sighting, stats: Stats, stack: ExitStack, *,
                ahead: float = 0.0) -> tuple[Iterator[Item], FilmClock | None]:
        """The frames of a face's lead-in, as a run reads them, and the times of the film."""
        if face.image is not None:
            return iter([read_image(face.image).frame]), None
        # Whole microseconds, rounded down: the sampled frame is the first one.
        start = math.floor((face.time - self._clock_start) * 1_000_000) / 1_000_000
        end = start + LEAD_IN_S + ahead
        if self._options.end is not None:
            end = max(min(end, self._options.end), start + 1e-3)
        source = open_film(self._input, replace(self._options, start=max(0.0, start), end=end), self._threads, stats,
                           self._stop, stack)
        return self._until_stopped(iter(source)), FilmClock.of(source.info, self._options.timecode)

    def _until_stopped(self, items: Iterator[Item]) -> Iterator[Item]:
        for item in items:
            if self._stop.is_set():
                raise Interrupted
            yield item


def at_strength(before: Bytes, after: Bytes, strength: float) -> Bytes:
    """The crop of a run with another strength than 1: the correction is scaled, which is linear but for rounding."""
    mixed = before + (after.astype(np.float32) - before) * np.float32(strength)
    return np.rint(mixed).astype(np.uint8)


def _shown(frame: Frame, face: Face, clock: FilmClock | None, device: Device) -> Shown:
    scale = next((scale for scale in (4, 2) if face.width * _ROOM <= CELL / scale), 1)
    side = CELL // scale
    x, y = (round(float(face.box[k] + face.box[k + 2]) / 2 - side / 2) for k in (0, 1))
    matrix = np.array([(1.0, 0.0, -x), (0.0, 1.0, -y)])
    at = frame.pts * frame.time_base
    timecode = str(clock.timecode_at(at)) if clock is not None and clock.start is not None else ""
    return Shown(frame.pts, float(at - (clock.begin if clock else 0)), timecode, matrix, side, scale,
                 device.view(frame).crop(matrix, (side, side)), face.box)
