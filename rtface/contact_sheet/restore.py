"""Restores one face of a film as a run does, and cuts it from the frame before and after.

A face is shown after a lead-in of 1.3 s that begins with the sampled frame: by then its treatment is decided, filters
have settled, and a recurrent engine remembers what it would in a run. Its frames pass the steps of a run.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Literal, TypeVar

import av
import numpy as np

from rtface.contact_sheet.choose import ChosenFace
from rtface.contact_sheet.dissolve import AROUND_S, SIDE, in_dissolve
from rtface.contact_sheet.search import Sighting, is_whole
from rtface.errors import Interrupted
from rtface.frame import Bytes, Face, Float, Frame
from rtface.media.read.enlarge import Enlarger
from rtface.media.stills.images import read_image
from rtface.pipeline.build import FilmNetworks, open_film
from rtface.pipeline.chain import bytes_of, find_faces, split_fields
from rtface.pipeline.film_chain import FilmChain
from rtface.pipeline.plan import FramePlan, check_invented
from rtface.pipeline.show_invented import with_map
from rtface.protocols import Device, Item, Runtime, Tracker
from rtface.report import TrackReport
from rtface.shots.clock import FilmClock
from rtface.stats import Stats
from rtface.tracking.identity import same_place
from rtface.util.av_arrays import copy_image

T = TypeVar("T")

LEAD_IN_S = 1.3
_AHEAD_S = 0.6
"""Seconds behind the shown frame that keyframes of a heavy engine need."""
_NEAR_S = 0.2
"""Seconds before the last frame within which another one is shown, whose edge cuts less."""
CELL = 320
"""Side of a crop on the sheet, pixels."""
_FOUND_WITHIN = 5  # frames
_HELD_BYTES = 512 << 20
"""Memory for the frames of a lead-in; that of larger frames is shorter."""
_MIN_VIEW_WIDTHS = 1.35
"""Width of what is shown over that of the face, at least, where it is enlarged."""


@dataclass(frozen=True, slots=True)
class ShownFace:
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
        whole: whether the picture's edge cuts nothing off the face.
        field: of an interlaced film, the field that is shown: the first one, 0; else None.
    """

    pts: int
    time: float
    timecode: str
    matrix: Float
    side: int
    scale: int
    before: Bytes
    box: Float
    whole: bool = True
    field: Literal[0, 1] | None = None

    @property
    def width(self) -> float:
        """Width of the face's box, display pixels."""
        return float(self.box[2] - self.box[0])

    def repeats(self, other: ShownFace) -> bool:
        """True if it is the same face as another, on the same frame or one close by."""
        return abs(self.time - other.time) < LEAD_IN_S and same_place(self.box, other.box)


@dataclass(frozen=True, slots=True)
class Variant:
    """An engine and a strength.

    Attributes:
        engine: name as the user gives it.
        strength: 0…1.
        invented: whether the map of what was invented is drawn over the face.
    """

    engine: str
    strength: float
    invented: bool = False


def usual(variants: Sequence[Variant]) -> Variant:
    """The variant that is nearest to a run without options: the first engine with the highest strength."""
    return max(
        (one for one in variants if one.engine == variants[0].engine and not one.invented), key=lambda one: one.strength
    )


@dataclass(frozen=True, slots=True)
class SheetRow:
    """One face on the sheet.

    Attributes:
        choice: the face as it was found.
        shown: the frame on which it is shown.
        tracks: what a run with that engine says of it; None where it was not followed.
        crops: the face at full strength by engine, uint8 RGB as `shown.before`.
        maps: the same with the map of what was invented over it, where that is shown.
    """

    choice: ChosenFace
    shown: ShownFace
    tracks: dict[str, TrackReport | None]
    crops: dict[str, Bytes]
    maps: dict[str, Bytes] = field(default_factory=dict[str, Bytes])

    @property
    def corrected(self) -> bool:
        """Whether a run corrects it, by any of the engines."""
        return any(track is not None and track.treatment["on"] for track in self.tracks.values())


@dataclass(frozen=True, slots=True)
class RestoredCrop:
    """One face after a run with one engine at full strength.

    Attributes:
        crop: of the face, uint8 RGB as `ShownFace.before`.
        map: the same with the map of what was invented over it; None where no map was asked for.
        track: what the run says of the face; None where it was not followed.
    """

    crop: Bytes
    map: Bytes | None
    track: TrackReport | None


@dataclass(frozen=True, slots=True)
class Followed:
    """A face that was followed through its lead-in.

    Attributes:
        shown: the frame on which it is shown.
        frames: of the lead-in, untouched, with all faces; fields of interlaced film one by one.
        track: id of the face on them.
    """

    shown: ShownFace
    frames: list[Frame]
    track: int


class FaceRestorer:
    """Restores faces of one film, still or folder of stills.

    Args:
        plan: of the run; the engine comes with each call.
        tracker: follows the faces, one after the other.
        stop: as for `rtface.pipeline.build.open_film`.
        clock_start: start of the input's own clock in seconds.
        ahead: whether an engine is heavy, so that frames behind the shown one are needed for its keyframes.
    """

    def __init__(
        self,
        plan: FramePlan,
        tracker: Tracker,
        stop: threading.Event,
        clock_start: Fraction = Fraction(0),
        *,
        ahead: bool = False,
    ) -> None:
        self._plan, self._input, self._options, self._tracker = plan, plan.input, plan.options, tracker
        self._stop, self._clock_start, self._ahead = stop, clock_start, ahead

    def follow(self, face: Sighting, device: Device) -> Followed | None:
        """Reads and tracks the lead-in of a face; None where the tracker does not find it again, or sees it in a
        dissolve only.

        Raises as a run; Interrupted.
        """
        stats, frames, thumbnails = Stats(), list[Frame](), list[tuple[float, Bytes]]()
        with ExitStack() as stack:
            items, clock = self._items(face, stats, stack)
            self._tracker.reset()
            track: int | None = None
            seen = list[tuple[Frame, Face]]()
            begin, held, over = float(face.time), 0, False
            for item in split_fields(items):
                if not isinstance(item, Frame):
                    continue
                if face.image is None and item.field != 1:
                    thumbnails.append((item.time, device.view(item).thumbnail(SIDE)[0]))
                over = over or (item.time - begin > LEAD_IN_S and not self._ahead)
                if over and (not seen or item.time - seen[-1][0].time > AROUND_S):
                    break
                if over or (face.image is None and item.time < begin):
                    continue
                frame = find_faces(item, self._tracker, device, stats)
                held += 0 if frame.field == 1 else bytes_of(frame)
                frames.append(frame)
                if track is None:
                    track = next((one.track_id for one in frame.faces if same_place(one.box, face.box)), None)
                    if track is None and len(frames) > _FOUND_WITHIN:
                        return None
                mine = next((one for one in frame.faces if one.track_id == track), None)
                if mine is not None and frame.time - begin <= LEAD_IN_S and frame.field != 1:
                    seen.append((frame, mine))
                over = held > _HELD_BYTES or (mine is None and bool(seen))
            clear = [one for one in reversed(seen) if not (thumbnails and in_dissolve(one[0].time, thumbnails))]
            if not clear or track is None:
                return None
            late = [one for one in clear if clear[0][0].time - one[0].time <= _NEAR_S]  # the engine remembers there
            frame, mine = next((one for one in late if is_whole(one[1], device.view(one[0]))), clear[0])
            return Followed(_shown(frame, mine, clock, device), frames, track)

    def restore(self, followed: Followed, engine: str, runtime: Runtime, *, invented: bool = False) -> RestoredCrop:
        """The face after a run with full strength; `invented` asks for its map. Raises as a run, or Interrupted."""
        stats, shown = Stats(), followed.shown
        options = replace(
            self._options,
            engine=engine,
            strength=1.0,
            faces=str(followed.track),
            stages=(),
            show="invented" if invented else self._options.show,
        )
        check_invented(options, followed.frames[0].color.transfer)
        plan = replace(self._plan, options=options)  # a policy was asked about the user's options, not about these
        crop = drawn = shown.before
        with ExitStack() as stack:
            steps = FilmChain(plan, None, FilmNetworks(self._tracker, runtime), stats, stack)
            for item in steps.enhanced(self._copied(followed.frames)):
                if isinstance(item, Frame) and item.pts == shown.pts:
                    crop = drawn = _cut(item, shown, runtime.device)
                    if invented:
                        drawn = _cut(with_map(item, None), shown, runtime.device)
        state = steps.tracks.states.get(followed.track)
        return RestoredCrop(crop, drawn if invented else None, state and state.report())

    def _items(self, face: Sighting, stats: Stats, stack: ExitStack) -> tuple[Iterator[Item], FilmClock | None]:
        """The frames of a face's lead-in and around it, as a run reads them, and the times of the film."""
        if face.image is not None:
            return iter([Enlarger(self._options.scale)(read_image(face.image).frame)]), None
        # Whole microseconds, rounded down: the sampled frame is the first one.
        start = math.floor((face.time - self._clock_start) * 1_000_000) / 1_000_000
        end = start + LEAD_IN_S + (_AHEAD_S if self._ahead else AROUND_S)
        if self._options.end is not None:
            end = max(min(end, self._options.end), start + 1e-3)
        options = replace(self._options, start=max(0.0, start - AROUND_S), end=end)
        source = open_film(self._input, options, self._plan.threads, stats, self._stop, stack)
        return self._until_stopped(source), FilmClock.of(source.info, self._options.timecode)

    def _copied(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Copies of frames, to be written to; two fields share one."""
        image: av.VideoFrame | None = None
        for frame in self._until_stopped(frames):
            image = copy_image(frame.image) if image is None or frame.field != 1 else image
            yield replace(frame, image=image)

    def _until_stopped(self, items: Iterable[T]) -> Iterator[T]:
        for item in items:
            if self._stop.is_set():
                raise Interrupted
            yield item


def at_strength(before: Bytes, after: Bytes, strength: float) -> Bytes:
    """The crop of a run with another strength than 1: the correction is scaled, which is linear but for rounding."""
    return np.rint(before + (after.astype(np.float32) - before) * np.float32(strength)).astype(np.uint8)


def _cut(frame: Frame, shown: ShownFace, device: Device) -> Bytes:
    return device.view(replace(frame, field=shown.field)).crop(shown.matrix, (shown.side, shown.side))


def _shown(frame: Frame, face: Face, clock: FilmClock | None, device: Device) -> ShownFace:
    scale = next((scale for scale in (4, 2) if face.width * _MIN_VIEW_WIDTHS <= CELL / scale), 1)
    side = CELL // scale
    x, y = (round(float(face.box[k] + face.box[k + 2]) / 2 - side / 2) for k in (0, 1))
    matrix = np.array([(1.0, 0.0, -x), (0.0, 1.0, -y)])
    at = frame.pts * frame.time_base
    timecode = str(clock.timecode_at(at)) if clock is not None and clock.start is not None else ""
    return ShownFace(
        frame.pts,
        float(at - (clock.begin if clock else 0)),
        timecode,
        matrix,
        side,
        scale,
        device.view(frame).crop(matrix, (side, side)),
        face.box,
        is_whole(face, device.view(frame)),
        frame.field,
    )
