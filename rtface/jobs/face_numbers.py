"""Numbers a film's faces and persons, for jobs whose options name them.

A worker sees only a part of the film, so its tracks have other numbers than in a run in one piece, and it knows fewer
persons. If options name tracks or persons, the whole film is therefore searched for faces before its segments are made.
The search stores the faces of each frame by segment, each face with box, number and person. A worker gives its faces
the number and person of the stored face at the same place.

The search follows the film's order, because numbers depend on earlier frames. It continues after the last segment that
was searched: exactly as without a break if a scene changes there, otherwise by the places of the previous faces.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rtface.analysis.look_ahead import Undecided, look_ahead
from rtface.concurrency.buffer import buffer, close_with
from rtface.device.cpu.device import CpuDevice
from rtface.device.cpu.fading import all_unfaded
from rtface.errors import Interrupted
from rtface.frame import Face, Float, Frame
from rtface.jobs.film_source import LEAD_IN_S, open_from
from rtface.jobs.folder import JobFolder
from rtface.jobs.plan import JobPlan
from rtface.persons.recogniser import PersonRecogniser
from rtface.pipeline.build import open_tracker
from rtface.pipeline.chain import bytes_of, end_at_faults, split_fields, track
from rtface.pipeline.film_tracking import Update, reads_apart
from rtface.pipeline.persons import open_persons
from rtface.pipeline.plan import FramePlan
from rtface.pipeline.progress import Progress, Show, SpeedMeter
from rtface.pipeline.threads import WAITING
from rtface.protocols import FilmTracker, Tracker, View
from rtface.stages.runner import Stages
from rtface.stats import Stats
from rtface.tracking.identity import same_place


class NumberedFace(NamedTuple):
    """A face that the search found. It has a number, a box in display pixels, and a person (`Face.person`)."""

    number: int
    box: Float
    person: str


class FaceNumbers:
    """Stores the results of the search for faces, by segment.

    Args:
        folder, plan: folder and plan of the job.

    Attributes:
        searched: number of segments searched so far.
        highest: highest number of a face so far.
        persons: state for `PersonRecogniser.restore`; not kept after the search.
    """

    def __init__(self, folder: JobFolder, plan: JobPlan) -> None:
        self._folder = folder
        self._starts = [float(start) for start in plan.starts]
        self._segments: dict[int, dict[float, list[NumberedFace]]] = {}
        state: dict[str, Any] = folder.read(folder.numbers / "state.json") or {}
        self.searched: int = state.get("segments", 0)
        self.highest: int = state.get("highest", 0)
        self.persons: Any = state.get("persons")

    @property
    def complete(self) -> bool:
        """Whether the whole film was searched."""
        return self.searched >= len(self._starts)

    def at(self, time: float) -> Sequence[NumberedFace]:
        """Returns the faces of the frame at `time` (`Frame.time`). Frames that were not searched have none."""
        number = max(0, bisect_right(self._starts, time) - 1)
        if number not in self._segments:
            rows = self._folder.read(self._path(number)) if number < self.searched else None
            self._segments = {index: faces for index, faces in self._segments.items() if abs(index - number) < 2}
            self._segments[number] = {
                at: [NumberedFace(f[0], np.array(f[1:5], np.float64), f[5]) for f in faces] for at, faces in rows or ()
            }
        return self._segments[number].get(time, ())

    def add(self, rows: Sequence[Any], persons: PersonRecogniser | None) -> None:
        """Stores the next segment's faces and the state of the search. Embeddings are stored until the last segment.

        Args:
            rows: [time, [[number, box, person], …]] of each frame with faces.
            persons: the recogniser of persons, if there is one.
        """
        self._folder.write(self._path(self.searched), rows)
        self.searched += 1
        self.highest = max((self.highest, *(face[0] for _, faces in rows for face in faces)))
        self.persons = persons.state() if persons and not self.complete else None
        state = {"segments": self.searched, "highest": self.highest, "persons": self.persons}
        self._folder.write(self._folder.numbers / "state.json", state)

    def _path(self, number: int) -> Path:
        return self._folder.numbers / f"{number:05}.json"


class NumberedTracker:
    """Tracks faces under the numbers and persons of the search (a `rtface.protocols.Tracker`).

    A face that the search did not find gets a number above all others.

    Args:
        tracker: tracker that detects the faces.
        numbers: results of the search.
        fresh: whether the search starts with this tracker; then its own numbers are kept.
    """

    def __init__(self, tracker: Tracker, numbers: FaceNumbers, *, fresh: bool = False) -> None:
        self._tracker, self._numbers = tracker, numbers
        self._by_track: dict[int, int] = {}  # the search's number, by track of the tracker
        self._person_by_number: dict[int, str] = {}  # by the search's number
        self._offset = 0 if fresh else None  # added to the tracker's number of a new face
        self.sparing = self.watchful = self.thorough = False
        self.unfollowed: tuple[Face, ...] = ()
        self.beyond = 0

    def update(self, view: View, time: float, *, cut: bool = False) -> tuple[Face, ...]:
        """Returns the faces on this frame; see `rtface.protocols.Tracker.update`."""
        return self._numbered(self._passed(self._tracker.update, view, time, cut), time)

    def _passed(self, call: Update, view: View, time: float, cut: bool) -> tuple[Face, ...]:
        """Calls the tracker with the run's settings, and stores its other results."""
        self._tracker.sparing, self._tracker.watchful = self.sparing, self.watchful
        faces = call(view, time, cut=cut)
        self.beyond, self.unfollowed = self._tracker.beyond, self._tracker.unfollowed
        return faces

    def _numbered(self, faces: tuple[Face, ...], time: float) -> tuple[Face, ...]:
        """Gives the tracker's faces the numbers and persons of the search."""
        searched = self._numbers.at(time)
        pairs = sorted(
            (_distance(face, other), k, other.number)
            for k, face in enumerate(faces)
            for other in searched
            if same_place(face.box, other.box)
        )
        number: dict[int, int] = {}  # by index in `faces`
        for _, k, candidate in pairs:
            if k not in number and candidate not in number.values():
                number[k] = candidate
        self._person_by_number |= {other.number: other.person for other in searched}
        for k, face in enumerate(faces):
            last = self._by_track.get(face.track_id)
            if k not in number:
                number[k] = (
                    last if last is not None and last not in number.values() else self._new_number(face.track_id)
                )
            self._by_track[face.track_id] = number[k]
        self.unfollowed = tuple(
            replace(face, track_id=self._by_track.get(face.track_id, 0)) for face in self.unfollowed
        )
        return tuple(
            replace(face, track_id=number[k], person=self.person_of(number[k])) for k, face in enumerate(faces)
        )

    def person_of(self, number: int) -> str:
        """Returns the last person with a face's number; empty if unknown."""
        return self._person_by_number.get(number, "")

    def reset(self) -> None:
        self._tracker.reset()
        self._by_track.clear()
        self.unfollowed = ()

    def close(self) -> None:
        self._tracker.close()

    def _new_number(self, track_id: int) -> int:
        if self._offset is None:
            self._offset = self._numbers.highest + 1 - track_id
        return track_id + self._offset


class NumberedFilmTracker(NumberedTracker):
    """`NumberedTracker` of a `rtface.protocols.FilmTracker`. Only the faces of `smoothed` have numbers."""

    def __init__(self, tracker: FilmTracker, numbers: FaceNumbers, *, fresh: bool = False) -> None:
        super().__init__(tracker, numbers, fresh=fresh)
        self._film = tracker
        self.sees_cut, self.saved, self.restore = tracker.sees_cut, tracker.saved, tracker.restore

    update = NumberedTracker.update

    @property
    def settled(self) -> bool:
        """As in `rtface.protocols.FilmTracker`."""
        return self._film.settled

    def read(self, view: View, time: float, *, cut: bool = False) -> tuple[Face, ...]:
        """Returns the faces before smoothing; see `rtface.protocols.FilmTracker.read`."""
        return self._passed(self._film.read, view, time, cut)

    def smoothed(self, faces: tuple[Face, ...], time: float) -> tuple[Face, ...]:
        """Returns the faces without jitter, numbered."""
        return self._numbered(self._film.smoothed(faces, time), time)


def numbered(tracker: Tracker, numbers: FaceNumbers, *, fresh: bool = False) -> NumberedTracker:
    """Returns a tracker under the numbers of the search. The arguments are those of `NumberedTracker`."""
    kind: Any = NumberedFilmTracker if reads_apart(tracker) else NumberedTracker
    return kind(tracker, numbers, fresh=fresh)


def _distance(face: Face, other: NumberedFace) -> float:
    """Returns the distance of two centres in display pixels."""
    return float(np.linalg.norm(face.box[:2] + face.box[2:] - other.box[:2] - other.box[2:])) / 2


def find_numbers(
    folder: JobFolder, plan: JobPlan, frames: FramePlan, *, progress: Show | None = None, stop: threading.Event
) -> None:
    """Searches the film for faces, starting where an earlier call stopped.

    Args:
        folder, plan: folder and plan of the job.
        frames: plan for the film's frames.
        progress: called after frames.
        stop: ends the search when set.

    Raises:
        Interrupted: `stop` was set.
        InputError: the film, or a photo of a person, cannot be used.
        MissingComponent: a network is missing.
        OutputError: the folder cannot be written to.
    """
    numbers = FaceNumbers(folder, plan)
    first, stats, meter, options = numbers.searched, Stats(), SpeedMeter(), frames.options
    with ExitStack() as stack:
        source = open_from(plan, first, LEAD_IN_S, frames, stats, stop, stack)
        device = CpuDevice(frames.threads.engines.opencv, warn=stats.warn)
        base_tracker = open_tracker(options, stack)
        persons = open_persons(options, stats, wanted=bool(frames.treatments.by_person))
        tracker = numbered(base_tracker, numbers, fresh=not first)
        stages = Stages.unbegun(options.stages, commercial_use=options.commercial_use)
        stages.check_tracker(options.tracker)
        if persons is not None and numbers.persons is not None:
            persons.restore(numbers.persons)

        def examine(frame: Frame) -> Sequence[Undecided]:
            return persons(frame, device.view) if persons is not None else ()

        decoded = close_with(
            stack,
            buffer(all_unfaded(source, plan.curve), WAITING, name="decode", weigh=bytes_of, stop=stop.is_set),
        )
        tracked = track(split_fields(decoded), tracker, device, stats, watchful=stages.hides)
        items = look_ahead(end_at_faults(tracked, stats, hold=False), examine)
        firsts = plan.first_pts(source.info.time_base)
        rows = list[Any]()
        for searched, frame in enumerate((item for item in items if isinstance(item, Frame)), 1):
            if stop.is_set():
                raise Interrupted
            number = max(0, bisect_right(firsts, frame.pts) - 1)
            while first <= numbers.searched < number:
                numbers.add(rows, persons)
                rows = []
            if number >= first:
                _add_faces(persons.label(frame) if persons is not None else frame, rows)
            if progress:
                progress(
                    Progress(
                        searched,
                        frame.time - float(plan.starts[0]),
                        plan.duration_s,
                        meter.tick(),
                        len(frame.faces),
                        float(plan.starts[first] - plan.starts[0]),
                    )
                )
                meter.leave_out()
        if stop.is_set():
            raise Interrupted
        while not numbers.complete:
            numbers.add(rows, persons)
            rows = []


def _add_faces(frame: Frame, rows: list[Any]) -> None:
    """Adds the faces of a frame to the rows of its segment. The second field of a frame adds only new faces."""
    if not rows or rows[-1][0] != frame.time:
        rows.append([frame.time, []])
    present = {face[0] for face in rows[-1][1]}
    rows[-1][1].extend(
        [face.track_id, *(round(float(v), 1) for v in face.box), face.person]
        for face in frame.faces
        if face.track_id not in present
    )
