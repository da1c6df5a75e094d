"""Collects figures of segments, and combines them into the film's report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import inf
from typing import Any

import numpy as np

from rtface.analysis.analyzer import FaceState
from rtface.analysis.track_report import TrackReport
from rtface.analysis.treatment import Treatment
from rtface.enhance.track_figures import TrackFigures
from rtface.enhance.track_store import TrackStore
from rtface.frame import Face, Frame
from rtface.jobs.film_source import LEAD_IN_S
from rtface.media.marks.changed_frames import ChangedFrames
from rtface.media.marks.provenance import Change
from rtface.report import Report
from rtface.stats import Stats
from rtface.tracking.identity import same_place
from rtface.util.foreign import converted
from rtface.util.parse import UNKNOWN_PERSON

Sight = tuple[int, tuple[Face, ...]]
"""A frame's pts and its faces."""
UNUSABLE = LookupError, TypeError, ValueError, AttributeError, ArithmeticError
"""Errors that an unusable segment record may raise."""
# A record contains the faces of its segment's last seconds (slightly more than a lead-in), so that another worker can
# continue tracks and treatments.
_SIGHTS_S = float(LEAD_IN_S) + 0.1
_NEAR_S = 0.2


class SegmentFigures:
    """Collects the figures of one worker's run by segment.

    Earlier steps are some frames ahead of the sink, so their counters and times include frames of the next segment.
    Frames and corrections are counted exactly, at the sink; tracks are counted by the times of their frames.

    Args:
        stats: statistics of the run.
        tracks: tracks of the run.
        origin: start of the input's clock in seconds; the times in a report are relative to it.
    """

    def __init__(self, stats: Stats, tracks: TrackStore, origin: float) -> None:
        self._stats, self._tracks, self._origin = stats, tracks, origin
        self._counters: Counter[str] = stats.counted()
        self._warnings: set[str] = set(stats.warned())
        self._seen_tracks: set[int] = set()  # tracks on frames that reached the sink
        self._recorded: set[int] = set()  # tracks that a record already contains
        self._start_s = self._end_s = 0.0
        self._reset()

    def _reset(self) -> None:
        self.frames = self.corrected = self.with_faces = 0
        self._changed = ChangedFrames()
        self._sights: list[Sight] = []
        self._lead_in_sights: list[Sight] = []

    def lead_in(self, frame: Frame) -> None:
        """Notes the faces of a frame before the first segment."""
        self._lead_in_sights.append((frame.pts, frame.faces))
        while frame.time - _time_at(self._lead_in_sights[0][0], frame) > _SIGHTS_S:
            self._lead_in_sights.pop(0)

    def add(self, frame: Frame) -> None:
        """Counts a frame of the segment."""
        if not self.frames:
            self._start_s = frame.time - self._origin
        self.frames += 1
        self.corrected += frame.corrected
        self._changed.add(frame)
        self.with_faces += bool(frame.faces)
        self._seen_tracks.update(face.track_id for face in frame.faces)
        self._sights.append((frame.pts, frame.faces))
        self._end_s = frame.time
        while self._sights and _time_at(self._sights[0][0], frame) < self._end_s - _SIGHTS_S:
            self._sights.pop(0)

    def take(self, before: float = inf) -> dict[str, Any]:
        """Returns the figures since the last call, for a record. Tracks count only frames before the time `before`."""
        counters, warnings = self._stats.counted(), self._stats.warned()
        new_counters = {
            **(counters - self._counters),
            "frames_in": self.frames,
            "frames_out": self.frames,
            "frames_corrected": self.corrected,
            "frames_with_faces": self.with_faces,
        }
        last_tracks = {face.track_id for _, faces in self._sights for face in faces}
        record = {
            "counters": new_counters,
            "corrected": self.corrected,
            "change": int(self._changed.change),
            "changed": list(self._changed.rows()),
            "warnings": [line for line in warnings if line not in self._warnings],
            "tracks": list(self._track_records(before)),
            "faces_before": _sights_to_json(self._lead_in_sights),
            "faces_last": _sights_to_json(self._sights),
            "treatments": {  # by track, for a worker that continues after the segment
                str(key): state.handed_over(self._end_s - float(LEAD_IN_S), self._end_s)
                for key in last_tracks
                if (state := self._tracks.states.get(key)) is not None
            },
        }
        self._counters, self._warnings = counters, set(warnings)
        self._reset()
        return record

    def _track_records(self, before: float) -> Iterator[dict[str, Any]]:
        for key, state in sorted(self._tracks.states.items()):
            figures, state.figures = state.figures.split(before)
            treatment = state.analyzer.treatment
            if not figures.frames and (key not in self._seen_tracks or key in self._recorded):  # left out by --faces
                continue
            self._recorded.add(key)
            if not figures.frames:
                figures.first_s = max(figures.first_s, self._start_s + self._origin)
            yield {
                "id": key,
                "person": self._tracks.person_of(key),
                "analysis": state.analyzer.analysis_before(before).scores(),
                "figures": (figures if figures.treatment else replace(figures, treatment=treatment)).to_dict(),
            }


def _time_at(pts: int, frame: Frame) -> float:
    """Returns the time of a pts in seconds, rounded like `Frame.time`."""
    return pts * frame.time_base.numerator / frame.time_base.denominator


def _sights_to_json(sights: Iterable[Sight]) -> list[Any]:
    return [
        [pts, [[f.track_id, *(round(float(v), 1) for v in f.box)] for f in faces]] for pts, faces in sights if faces
    ]


def _sights_from_json(values: Iterable[Any]) -> list[Sight]:
    return [(pts, tuple(Face(int(f[0]), np.array(f[1:]), np.zeros((5, 2))) for f in faces)) for pts, faces in values]


class KnownFaces:
    """Finds faces that an earlier worker treated at a segment's end.

    Args:
        record: record of that segment.
        base: time base of `Frame.pts` in seconds.

    Raises:
        one of `UNUSABLE`: the record cannot be used.
    """

    def __init__(self, record: Mapping[str, Any], base: Fraction) -> None:
        self._sights = [(float(pts * base), faces) for pts, faces in _sights_from_json(record["faces_last"])]
        self._treatments: dict[str, FaceState] = dict(record["treatments"])

    def __call__(self, face: Face, time: float) -> FaceState | None:
        """Returns the treatment of the face at this place and time. Returns None if the record has none."""
        nearest = min(self._sights, key=lambda sight: abs(sight[0] - time), default=None)
        if nearest is None or abs(nearest[0] - time) > _NEAR_S:
            return None
        match = next((other for other in nearest[1] if same_place(face.box, other.box)), None)
        return None if match is None else self._treatments.pop(str(match.track_id), None)


@dataclass(slots=True)
class _Track:
    """Collects one track of the film over its segments.

    Attributes:
        figures: figures over all frames.
        analysis: sum of each score over the frames.
        weight: number of these frames.
        person: name of the person.
    """

    figures: TrackFigures = field(default_factory=TrackFigures)
    analysis: dict[str, float] = field(default_factory=dict[str, float])
    weight: int = 0
    person: str = ""

    def report(self, number: int, origin: float) -> TrackReport:
        """Reports the track like a run in one process."""
        scores = {name: total / self.weight for name, total in self.analysis.items()}
        return replace(self.figures.report(number, Treatment(False), scores, origin), person=self.person)


class JobFigures:
    """Adds up the figures of all segments, in order.

    Args:
        numbered: highest number given to the film's faces before segments were made (`rtface.jobs.face_numbers`):
            tracks up to this number have the same number in all segments.
        origin: start of the input's clock in seconds; the times in a report are relative to it.
    """

    def __init__(self, numbered: int = 0, origin: float = 0.0) -> None:
        self._numbered, self._origin = numbered, origin
        self.stats = Stats()
        self.engines: dict[str, None] = {}
        self.devices: dict[str, None] = {}
        self.changed = ChangedFrames()
        self.copied = list[tuple[int, int]]()
        self._tracks: dict[int, _Track] = {}
        self._run_id: str | None = None
        self._in_film: dict[int, int] = {}
        self._last_sights: list[Sight] = []

    def add(self, record: Mapping[str, Any]) -> None:
        """Adds the record of the next segment. Raises one of `UNUSABLE` if it cannot be used."""
        before = self.stats.counted()["frames_out"]
        for first, last in record.get("copied", ()):
            together = bool(self.copied) and self.copied[-1][1] == before + first - 1
            self.copied.append((self.copied.pop()[0] if together else before + first, before + last))
        for name, n in record["counters"].items():
            self.stats.count(name, n)
        for line in record["warnings"]:
            self.stats.warnings.setdefault(line, line)  # already reported by the segment's worker
        self.engines[record["engine"]] = self.devices[record["device"]] = None
        self.changed.change |= Change(record["change"])
        self.changed.extend(record["counters"].get("frames_out", 0), record["changed"])
        if record["run"] != self._run_id:
            self._in_film = same_tracks(self._last_sights, _sights_from_json(record["faces_before"]))
            self._run_id = record["run"]
        for values in record["tracks"]:
            self._add_track(values)
        self._last_sights = [
            (pts, tuple(Face(self._number(f.track_id) or -1, f.box, f.points) for f in faces))
            for pts, faces in _sights_from_json(record["faces_last"])
        ]

    def _number(self, track_id: int) -> int | None:
        """Returns the film's number of a run's track. Returns None if it has none yet."""
        return track_id if track_id <= self._numbered else self._in_film.get(track_id)

    def _add_track(self, values: dict[str, Any]) -> None:
        number = self._number(values["id"])
        if number is None:
            number = self._in_film[values["id"]] = max((self._numbered, *self._tracks, *self._in_film.values())) + 1
        track = self._tracks.setdefault(number, _Track())
        figures = converted(values["figures"], TrackFigures)
        weight = max(1, figures.frames)
        track.weight += weight
        for name, score in values["analysis"].items():
            track.analysis[name] = track.analysis.get(name, 0.0) + score * weight
        if values["person"] not in ("", UNKNOWN_PERSON) or not track.person:
            track.person = values["person"]
        track.figures.join(figures)

    def fill(self, report: Report, stats: Stats) -> None:
        """Fills in a run's report and statistics, as a single process does."""
        counted = self.stats.counted()
        counted["frames_out"] -= stats.counted()["frames_out"]  # the join has counted these already
        for name, n in counted.items():
            stats.count(name, n)
        for key, line in self.stats.warnings.items():
            stats.warnings.setdefault(key, line)
        report.engine = "+".join(self.engines) or report.engine
        report.device = ", ".join(self.devices) or report.device
        report.tracks = [self._tracks[number].report(number, self._origin) for number in sorted(self._tracks)]
        report.frames_out = self.stats.counted()["frames_out"]


def same_tracks(before: Iterable[Sight], after: Iterable[Sight]) -> dict[int, int]:
    """Maps track IDs of `after` to overlapping tracks of `before`. The number of common frames decides."""
    faces_before = dict(before)
    together: Counter[tuple[int, int]] = Counter()
    for pts, faces in after:
        for face in faces:
            for old in faces_before.get(pts, ()):
                together[face.track_id, old.track_id] += same_place(face.box, old.box)
    numbers: dict[int, int] = {}
    for (new, old), times in together.most_common():
        if times and new not in numbers and old not in numbers.values():
            numbers[new] = old
    return numbers
