"""Restores one face as a run would, with crops before and after.

The shown frame follows a lead-in of 1.3 s that begins with the sampled frame. By then the treatment is decided, filters
have settled, and a recurrent engine has the same state as in a run. The frames pass through the steps of a run.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import av
import numpy as np

from rtface.analysis.track_report import TrackReport
from rtface.contact_sheet.search import Sighting
from rtface.frame import Bytes, Frame
from rtface.media.read.enlarge import Enlarger
from rtface.media.stills.images import read_image
from rtface.pipeline.build import FilmNetworks, open_film
from rtface.pipeline.chain import bytes_of, find_faces, split_fields, until
from rtface.pipeline.film_chain import FilmChain
from rtface.pipeline.plan import FramePlan
from rtface.protocols import Item, Runtime, Tracker
from rtface.stats import Stats
from rtface.tracking.identity import same_place
from rtface.util.av_arrays import copy_image

LEAD_IN_S = 1.3
_AHEAD_S = 0.6
"""Seconds after the shown frame that keyframes of a heavy engine need."""
CELL = 320
"""Side of a crop on the sheet, pixels."""
_SEARCH_FRAMES = 5
"""Frames within which the tracker has to find the face again."""
_BUFFER_BYTES = 512 << 20
"""Memory for the frames of a lead-in; larger frames shorten it."""
_MIN_VIEW_WIDTHS = 1.35
"""Minimum width of an enlarged crop, in face widths."""


@dataclass(frozen=True, slots=True)
class SheetRow:
    """Holds one face on the sheet.

    Attributes:
        face: the face as it was sampled.
        pts, time: pts of the shown frame, and its seconds from the beginning of the film.
        width: width of the face on that frame, display pixels.
        origin: the crop's upper left corner, display pixels x, y.
        scale: factor by which the sheet enlarges the crop: 1, 2 or 4.
        before: the crop from the untouched frame, uint8 RGB h×h×3 with h = `CELL` / `scale`.
        crops: the same crop after a correction at full strength, by engine.
        tracks: report of the face by engine; None if a run did not follow it.
    """

    face: Sighting
    pts: int
    time: float
    width: float
    origin: tuple[int, int]
    scale: int
    before: Bytes
    crops: dict[str, Bytes] = field(default_factory=dict[str, Bytes])
    tracks: dict[str, TrackReport | None] = field(default_factory=dict[str, TrackReport | None])

    @property
    def corrected(self) -> bool:
        """Whether any engine corrects the face in a run."""
        return any(track is not None and track.treatment["on"] for track in self.tracks.values())


def restore_face(
    face: Sighting,
    plan: FramePlan,
    tracker: Tracker,
    runtimes: Mapping[str, Runtime],
    stop: threading.Event,
) -> SheetRow | None:
    """Restores a face with each engine. Returns None if the tracker does not find it again.

    Args:
        face: face as it was sampled.
        plan: plan of the run.
        tracker: follows the face.
        runtimes: runtimes by engine name.
        stop: when set, ends the restoration.

    Raises:
        UsageError, MissingComponent, InputError, EngineError: see `rtface.run`.
        Interrupted: `stop` was set.
    """
    device, stats = next(iter(runtimes.values())).device, Stats()
    with ExitStack() as stack:
        if face.image is not None:
            items: Iterator[Item] = iter([Enlarger(plan.options.scale)(read_image(face.image).frame)])
        else:
            heavy = any(runtime.engines.pick(face.width).heavy for runtime in runtimes.values())
            # Rounded down to whole microseconds, so that the sampled frame is the first one.
            start = max(0.0, math.floor(face.time * 1_000_000) / 1_000_000)
            end = min(start + LEAD_IN_S + _AHEAD_S * heavy, plan.options.end or math.inf)
            options = replace(plan.options, start=start, end=max(end, start + 1e-3))
            source = open_film(plan.input, options, plan.threads, stats, stop, stack)
            items = iter(source)
        tracker.reset()
        frames, track, buffered = list[Frame](), None, 0
        for item in split_fields(until(stop, items)):
            if isinstance(item, Frame):
                frame = find_faces(item, tracker, device, stats)
                frames.append(frame)
                if track is None and len(frames) <= _SEARCH_FRAMES:
                    track = next((one.track_id for one in frame.faces if same_place(one.box, face.box)), None)
                buffered += 0 if frame.field == 1 else bytes_of(frame)
                if buffered > _BUFFER_BYTES or (track is None and len(frames) > _SEARCH_FRAMES):
                    break
    sightings = [
        (frame, one)
        for frame in frames
        if frame.field != 1 and frame.time - frames[0].time <= LEAD_IN_S
        for one in frame.faces
        if one.track_id == track
    ]
    if track is None or not sightings:
        return None
    last_frame, last_face = sightings[-1]
    scale = next((scale for scale in (4, 2) if last_face.width * _MIN_VIEW_WIDTHS <= CELL / scale), 1)
    side, time = CELL // scale, float(face.time) + last_frame.time - frames[0].time
    x, y = (round(float(last_face.box[k] + last_face.box[k + 2]) / 2 - side / 2) for k in (0, 1))

    def cut(frame: Frame) -> Bytes:
        view = device.view(replace(frame, field=last_frame.field))
        return view.crop(np.array([(1.0, 0.0, -x), (0.0, 1.0, -y)]), (side, side))

    row = SheetRow(face, last_frame.pts, time, last_face.width, (x, y), scale, cut(last_frame))
    for engine, runtime in runtimes.items():
        options = replace(plan.options, engine=engine, strength=1.0, faces=str(track), stages=(), invented=None)
        row.crops[engine] = row.before
        with ExitStack() as stack:
            networks = FilmNetworks(tracker, runtime)
            steps = FilmChain(replace(plan, options=options), None, networks, stats, stack)
            for item in steps.enhanced(until(stop, _copies(frames))):
                if isinstance(item, Frame) and item.pts == last_frame.pts:
                    row.crops[engine] = cut(item)
        state = steps.tracks.states.get(track)
        row.tracks[engine] = state and state.report()
    return row


def _copies(frames: Sequence[Frame]) -> Iterator[Frame]:
    """Yields writable copies of frames. The two fields of a frame share one."""
    image: av.VideoFrame | None = None
    for frame in frames:
        image = copy_image(frame.image) if image is None or frame.field != 1 else image
        yield replace(frame, image=image)
