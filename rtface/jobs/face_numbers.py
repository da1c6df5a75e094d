"""Numbers and persons of a film's faces, for jobs whose options name them.

A worker sees a part of the film, so that its tracks have other numbers than those of a run of one piece, and it knows
fewer persons. Where options name tracks or persons, the whole film is therefore searched for faces once, before its
segments are made: where they are on each frame, with their numbers and persons, is written for each segment. A worker
gives its faces the numbers and persons of those at the same place.

The search is in the order of the film, as numbers depend on what came before. It continues behind the last segment that
was searched: from a scene change exactly as without a break, else by the places of the faces before.
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
from rtface.pipeline.persons import open_persons
from rtface.pipeline.plan import FramePlan
from rtface.pipeline.progress import Progress, Show, SpeedMeter
from rtface.pipeline.threads import WAITING
from rtface.protocols import Tracker, View
from rtface.stages.runner import Stages
from rtface.stats import Stats
from rtface.tracking.identity import same_place


class Known(NamedTuple):
    """A face of the search: its number, its box in display pixels, and its person (as `Face.person`)."""

    number: int
    box: Float
    person: str


class FaceNumbers:
    """What the search has found, segment by segment.

    Args:
        folder, plan: of the job.

    Attributes:
        searched: number of segments that were searched.
        highest: the highest number of a face.
        persons: what is known about persons (`PersonRecogniser.restore`), which nothing keeps after the search.
    """

    def __init__(self, folder: JobFolder, plan: JobPlan) -> None:
        self._folder = folder
        self._starts = [float(start) for start in plan.starts]
        self._segments: dict[int, dict[float, list[Known]]] = {}
        state: dict[str, Any] = folder.read(folder.numbers / "state.json") or {}
        self.searched: int = state.get("segments", 0)
        self.highest: int = state.get("highest", 0)
        self.persons: Any = state.get("persons")

    @property
    def complete(self) -> bool:
        """Whether all of the film was searched."""
        return self.searched >= len(self._starts)

    def at(self, time: float) -> Sequence[Known]:
        """The faces on the frame of this time (`Frame.time`); none where it was not searched."""
        number = max(0, bisect_right(self._starts, time) - 1)
        if number not in self._segments:
            rows = self._folder.read(self._path(number)) if number < self.searched else None
            self._segments = {near: found for near, found in self._segments.items() if abs(near - number) < 2}
            self._segments[number] = {
                at: [Known(f[0], np.array(f[1:5], np.float64), f[5]) for f in faces] for at, faces in rows or ()
            }
        return self._segments[number].get(time, ())

    def add(self, rows: Sequence[Any], persons: PersonRecogniser | None) -> None:
        """Writes the faces of the next segment, and what the search continues from: embeddings until the last segment.

        Args:
            rows: [time, [[number, box, person], …]] of each frame with faces.
            persons: what recognises them.
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
    """A `rtface.protocols.Tracker` whose faces have the numbers and persons of the search.

    A face that the search did not find gets a number above all of them.

    Args:
        tracker: finds the faces.
        numbers: of the search.
        fresh: whether numbers begin with this tracker, so that it keeps its own.
    """

    def __init__(self, tracker: Tracker, numbers: FaceNumbers, *, fresh: bool = False) -> None:
        self._tracker, self._numbers = tracker, numbers
        self._number: dict[int, int] = {}  # by the tracker's own
        self._person: dict[int, str] = {}  # by number
        self._above = 0 if fresh else None  # of numbers that are new, less the tracker's own
        self.sparing = self.watchful = self.thorough = False
        self.unfollowed: tuple[Face, ...] = ()
        self.beyond = 0

    def update(self, view: View, time: float, *, cut: bool = False) -> tuple[Face, ...]:
        """Faces on this frame; see `rtface.protocols.Tracker.update`."""
        self._tracker.sparing, self._tracker.watchful = self.sparing, self.watchful
        faces, known = self._tracker.update(view, time, cut=cut), self._numbers.at(time)
        pairs = sorted(
            (_apart(face, other), k, other.number)
            for k, face in enumerate(faces)
            for other in known
            if same_place(face.box, other.box)
        )
        number: dict[int, int] = {}  # by place in `faces`
        for _, k, found in pairs:
            if k not in number and found not in number.values():
                number[k] = found
        self._person |= {other.number: other.person for other in known}
        for k, face in enumerate(faces):
            own = self._number.get(face.track_id)
            if k not in number:
                number[k] = own if own is not None and own not in number.values() else self._new(face.track_id)
            self._number[face.track_id] = number[k]
        self.beyond = self._tracker.beyond
        self.unfollowed = tuple(
            replace(face, track_id=self._number.get(face.track_id, 0)) for face in self._tracker.unfollowed
        )
        return tuple(
            replace(face, track_id=number[k], person=self.person_of(number[k])) for k, face in enumerate(faces)
        )

    def person_of(self, number: int) -> str:
        """The person whom a face of this number showed last; empty where that is not known."""
        return self._person.get(number, "")

    def reset(self) -> None:
        self._tracker.reset()
        self._number.clear()
        self.unfollowed = ()

    def close(self) -> None:
        self._tracker.close()

    def _new(self, own: int) -> int:
        if self._above is None:
            self._above = self._numbers.highest + 1 - own
        return own + self._above


def _apart(face: Face, other: Known) -> float:
    """Distance of two centres in display pixels."""
    return float(np.linalg.norm(face.box[:2] + face.box[2:] - other.box[:2] - other.box[2:])) / 2


def find_numbers(
    folder: JobFolder, plan: JobPlan, frames: FramePlan, *, progress: Show | None = None, stop: threading.Event
) -> None:
    """Searches the film for faces, as far as no call before did.

    Args:
        folder, plan: of the job.
        frames: what is done with its frames.
        progress: called after frames.
        stop: ends the search when set.

    Raises:
        Interrupted: `stop` was set.
        InputError: the film, or a photo of a person, cannot be used.
        MissingComponent: a network is not there.
        OutputError: the folder cannot be written to.
    """
    numbers = FaceNumbers(folder, plan)
    first, stats, meter, options = numbers.searched, Stats(), SpeedMeter(), frames.options
    with ExitStack() as stack:
        source = open_from(plan, first, LEAD_IN_S, frames, stats, stop, stack)
        device = CpuDevice(frames.threads.engines.opencv, warn=stats.warn)
        own = open_tracker(options, stack)
        persons = open_persons(options, stats, wanted=bool(frames.treatments.by_person))
        tracker = NumberedTracker(own, numbers, fresh=not first)
        stages = Stages.unbegun(options.stages, commercial_use=options.commercial_use)
        stages.check_tracker(options.tracker)
        if persons is not None and numbers.persons is not None:
            persons.restore(numbers.persons)

        def examined(frame: Frame) -> Sequence[Undecided]:
            return persons(frame, device.view) if persons is not None else ()

        decoded = close_with(
            stack,
            buffer(all_unfaded(source, plan.curve), WAITING, name="decode", weigh=bytes_of, stop=stop.is_set),
        )
        tracked = track(split_fields(decoded), tracker, device, stats, watchful=stages.hides)
        items = look_ahead(end_at_faults(tracked, stats, hold=False), examined)
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
                _note(persons.label(frame) if persons is not None else frame, rows)
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


def _note(frame: Frame, rows: list[Any]) -> None:
    """Adds the faces of a frame to the rows of its segment; those of a second field that the first has not, too."""
    if not rows or rows[-1][0] != frame.time:
        rows.append([frame.time, []])
    known = {face[0] for face in rows[-1][1]}
    rows[-1][1].extend(
        [face.track_id, *(round(float(v), 1) for v in face.box), face.person]
        for face in frame.faces
        if face.track_id not in known
    )
