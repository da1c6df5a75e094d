"""Figures of a job: what each segment adds to the report, and the report of the whole film."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from fractions import Fraction
from math import inf
from typing import Any

import numpy as np

from rtface.analysis.doubt import Doubt
from rtface.enhance.track_store import TrackStore
from rtface.errors import Message
from rtface.frame import Face, Frame
from rtface.jobs.film_source import LEAD_IN_S
from rtface.media.marks.changed_frames import ChangedFrames
from rtface.media.marks.provenance import Change
from rtface.report import Report, Span, TrackReport
from rtface.stats import Histogram, Stats
from rtface.tracking.identity import same_place
from rtface.util.parse import UNKNOWN_PERSON

Sight = tuple[int, tuple[Face, ...]]
"""A frame's pts and its faces."""
UNUSABLE = LookupError, TypeError, ValueError, AttributeError, ArithmeticError
"""What reading the record of a segment raises that cannot be used."""
# Seconds before the end of a segment whose faces the record keeps: tracks and treatments are continued by them where
# another worker continues. A lead-in, and a little more.
_SIGHTS_S = float(LEAD_IN_S) + 0.1
_NEAR_S = 0.2


class SegmentFigures:
    """Takes the figures of one worker's run segment by segment.

    Counters and times of the steps before the sink run ahead of it by the frames in work, so that a border falls some
    frames early for them. Frames and corrections are counted at the sink, tracks by the times of their frames.

    Args:
        stats: of the run.
        tracks: of the run.
        origin: start of the input's clock in seconds, from which the times of a report count.
    """

    def __init__(self, stats: Stats, tracks: TrackStore, origin: float) -> None:
        self._stats, self._tracks, self._origin = stats, tracks, origin
        self._counters: Counter[str] = stats.counted()
        self._stages = stats.snapshot()
        self._warnings: set[str] = set(stats.warned())
        self._seen: set[int] = set()  # tracks on frames that reached the sink
        self._given: set[int] = set()  # of these, those in records
        self._from_s = self._end_s = 0.0
        self._begin()

    def _begin(self) -> None:
        self.frames = self.corrected = self.with_faces = 0
        self._changed = ChangedFrames()
        self._sights: list[Sight] = []
        self._head: list[Sight] = []

    def lead_in(self, frame: Frame) -> None:
        """Notes the faces of a frame before the first segment."""
        self._head.append((frame.pts, frame.faces))
        while frame.time - _time_at(self._head[0][0], frame) > _SIGHTS_S:
            self._head.pop(0)

    def add(self, frame: Frame) -> None:
        """Counts a frame of the segment."""
        if not self.frames:
            self._from_s = frame.time - self._origin
        self.frames += 1
        self.corrected += frame.corrected
        self._changed.add(frame)
        self.with_faces += bool(frame.faces)
        self._seen.update(face.track_id for face in frame.faces)
        self._sights.append((frame.pts, frame.faces))
        self._end_s = frame.time
        while self._sights and _time_at(self._sights[0][0], frame) < self._end_s - _SIGHTS_S:
            self._sights.pop(0)

    def take(self, before: float = inf) -> dict[str, Any]:
        """The part of the record with the figures since the last call, of tracks up to the frames before this time."""
        counters, stages, warnings = self._stats.counted(), self._stats.snapshot(), self._stats.warned()
        grown = {name: n - self._counters[name] for name, n in counters.items() if n != self._counters[name]}
        grown |= {
            "frames_in": self.frames,
            "frames_out": self.frames,
            "frames_corrected": self.corrected,
            "frames_with_faces": self.with_faces,
        }
        record = {
            "counters": grown,
            "corrected": self.corrected,
            "change": int(self._changed.change),
            "changed": list(self._changed.rows()),
            "stages": {name: _less(now, self._stages.get(name)) for name, now in stages.items()},
            "warnings": [line for line in warnings if line not in self._warnings],
            "tracks": list(self._track_records(before)),
            "faces_before": _sights_out(self._head),
            "faces_last": _sights_out(self._sights),
            "treatments": self._treatments(),
        }
        self._counters, self._stages, self._warnings = counters, stages, set(warnings)
        self._begin()
        return record

    def _treatments(self) -> dict[str, Any]:
        """What a worker that continues behind the segment takes over, by track."""
        shown = {face.track_id for _, faces in self._sights for face in faces}
        return {
            str(key): state.handed_over(self._end_s - float(LEAD_IN_S), self._end_s)
            for key in shown
            if (state := self._tracks.states.get(key)) is not None
        }

    def _track_records(self, before: float) -> Iterator[dict[str, Any]]:
        for key, state in sorted(self._tracks.states.items()):
            figures, state.figures = state.figures.split(before)
            if not figures.frames and (
                key not in self._seen or key in self._given
            ):  # --faces leaves out those not given
                continue
            self._given.add(key)
            report = state.report_of(figures, self._origin, before)
            yield {
                **asdict(report),
                "person": self._tracks.person_of(key),
                "first_s": report.first_s if figures.frames else max(report.first_s, round(self._from_s, 3)),
                "mean_width_px": figures.width_sum / max(1, figures.frames),
                "strength": figures.strength_sum / max(1, figures.corrected),
                "doubts": [
                    (part, asdict(doubt)) for part, doubt in zip(sorted(figures.doubts), report.doubts, strict=True)
                ],
            }


def _time_at(pts: int, frame: Frame) -> float:
    """The time of a pts of a frame's unit, rounded as `Frame.time`."""
    return pts * frame.time_base.numerator / frame.time_base.denominator


def _less(now: Histogram, before: Histogram | None) -> dict[str, Any]:
    bins = now.bins - before.bins if before is not None else now.bins
    return {
        "bins": {str(k): int(bins[k]) for k in np.flatnonzero(bins)},
        "total": now.total - (before.total if before else 0.0),
        "count": now.count - (before.count if before else 0),
        "max": now.max,
    }


def _sights_out(sights: Iterable[Sight]) -> list[Any]:
    return [
        [pts, [[f.track_id, *(round(float(v), 1) for v in f.box)] for f in faces]] for pts, faces in sights if faces
    ]


def _sights_in(values: Iterable[Any]) -> list[Sight]:
    return [(pts, tuple(Face(int(f[0]), np.array(f[1:]), np.zeros((5, 2))) for f in faces)) for pts, faces in values]


class KnownFaces:
    """Faces at the end of a segment, and what their worker had decided about them.

    Args:
        record: of the segment.
        base: seconds of one unit of `Frame.pts`.

    Raises:
        one of `UNUSABLE`: the record cannot be used.
    """

    def __init__(self, record: Mapping[str, Any], base: Fraction) -> None:
        self._sights = [(float(pts * base), faces) for pts, faces in _sights_in(record["faces_last"])]
        self._treatments: dict[str, Any] = dict(record["treatments"])

    def __call__(self, face: Face, time: float) -> dict[str, Any] | None:
        """What was decided about the face at the same place at this time; None where there was none."""
        near = min(self._sights, key=lambda sight: abs(sight[0] - time), default=None)
        if near is None or abs(near[0] - time) > _NEAR_S:
            return None
        same = next((known for known in near[1] if same_place(face.box, known.box)), None)
        return None if same is None else self._treatments.pop(str(same.track_id), None)


class JobFigures:
    """Adds the figures of all segments, in their order, to statistics and tracks of the film.

    Args:
        numbered: highest number that the film's faces had before segments were made (`rtface.jobs.face_numbers`):
            tracks up to it have the same number in all segments.
    """

    def __init__(self, numbered: int = 0) -> None:
        self._numbered = numbered
        self.stats = Stats()
        self.engines: dict[str, None] = {}
        self.devices: dict[str, None] = {}
        self.changed = ChangedFrames()
        self.copied = list[tuple[int, int]]()
        self.seconds = 0.0
        self._tracks: dict[int, TrackReport] = {}
        self._doubts: dict[int, dict[int, Doubt]] = {}  # by track and half second
        self._run: str | None = None
        self._names: dict[int, int] = {}
        self._last: list[Sight] = []

    def add(self, record: Mapping[str, Any]) -> None:
        """Adds the record of the next segment; one of `UNUSABLE` where it cannot be used."""
        before = self.stats.counted()["frames_out"]
        for first, last in record.get("copied", ()):
            together = bool(self.copied) and self.copied[-1][1] == before + first - 1
            self.copied.append((self.copied.pop()[0] if together else before + first, before + last))
        for name, n in record["counters"].items():
            self.stats.count(name, n)
        for name, stage in record["stages"].items():
            self.stats.merge(
                name, {int(k): n for k, n in stage["bins"].items()}, stage["total"], stage["count"], stage["max"]
            )
        for line in record["warnings"]:
            self.stats.warnings.setdefault(line, line)  # its worker has said it
        self.engines[record["engine"]] = self.devices[record["device"]] = None
        self.changed.change |= Change(record["change"])
        self.changed.extend(record["counters"].get("frames_out", 0), record["changed"])
        self.seconds += record["seconds"]
        if record["run"] != self._run:
            self._names = same_tracks(self._last, _sights_in(record["faces_before"]))
            self._run = record["run"]
        for values in record["tracks"]:
            self._add_track(values)
        self._last = [
            (pts, tuple(Face(self._number(f.track_id) or -1, f.box, f.points) for f in faces))
            for pts, faces in _sights_in(record["faces_last"])
        ]

    def _number(self, track_id: int) -> int | None:
        """The film's number of a track of the run that made the segment; None where it has none yet."""
        return track_id if track_id <= self._numbered else self._names.get(track_id)

    def _add_track(self, values: dict[str, Any]) -> None:
        number = self._number(values["id"])
        if number is None:
            number = self._names[values["id"]] = max((self._numbered, *self._tracks, *self._names.values())) + 1
        spans = [Span(**span) for span in values["spans"]]
        doubts = self._doubts.setdefault(number, {})
        for part, found in values.get("doubts", ()):
            doubt = Doubt.of(found)
            doubts[part] = doubts[part].joined(doubt) if part in doubts else doubt
        more: dict[str, Any] = {"id": number, "spans": spans, "doubts": []}
        later = TrackReport(**{**values, **more})
        mine = self._tracks.get(number)
        self._tracks[number] = later if mine is None else merged(mine, later)

    def fill(self, report: Report) -> None:
        """Fills a report, as a run of one process fills its own."""
        report.engine = "+".join(self.engines) or report.engine
        report.device = ", ".join(self.devices) or report.device
        if len(self.devices) > 1:
            report.notes.append(
                Message(
                    "the segments were computed in different ways, so that their frames differ by a few code values: "
                    "for the same ones everywhere give every worker the same {--threads}",
                    code="segments_unlike",
                )
            )
        report.tracks = [_rounded(self._tracks[key]) for key in sorted(self._tracks)]
        for track in report.tracks:
            track.doubts = [doubt for _, doubt in sorted(self._doubts[track.id].items())]
        report.frames_out = self.stats.counted()["frames_out"]


def merged(one: TrackReport, later: TrackReport) -> TrackReport:
    """The figures of one face in two parts of a film."""
    frames, corrected = one.frames + later.frames, one.frames_corrected + later.frames_corrected
    share = later.frames / frames if frames else 0.0
    strength = (
        (one.strength * one.frames_corrected + later.strength * later.frames_corrected) / corrected
        if corrected
        else 0.0
    )
    counted, more = (sum(span.frames for span in part.spans if span.on) for part in (one, later))
    decided = more / (counted + more) if more else 0.0  # share of the later one in the frames that factors count
    spans = list(one.spans)
    for span in later.spans:
        if spans and spans[-1].kind == span.kind:
            before = spans[-1]
            spans[-1] = replace(span, from_s=before.from_s, frames=before.frames + span.frames)
            spans[-1].keep_first(before)
        else:
            spans.append(span)
    telling = [part for part in (one, later) if part.treatment["on"] == (corrected > 0)] or [one, later]
    held = max(telling, key=lambda part: part.frames)
    person = later.person if later.person not in ("", UNKNOWN_PERSON) else one.person
    return TrackReport(
        one.id,
        min(one.first_s, later.first_s),
        max(one.last_s, later.last_s),
        frames,
        one.mean_width_px * (1 - share) + later.mean_width_px * share,
        {
            name: one.analysis.get(name, 0.0) * (1 - share) + later.analysis.get(name, 0.0) * share
            for name in {**one.analysis, **later.analysis}
        },
        {**held.treatment, "on": corrected > 0, "strength": round(strength, 3)},
        strength,
        corrected,
        round(corrected / frames, 3) if frames else 0.0,
        spans,
        person,
        frames_guarded=one.frames_guarded + later.frames_guarded,
        factors={
            name: one.factors.get(name, value) * (1 - decided) + later.factors.get(name, value) * decided
            for name, value in {**one.factors, **later.factors}.items()
        },
    )


def _rounded(track: TrackReport) -> TrackReport:
    track.mean_width_px, track.strength = round(track.mean_width_px, 1), round(track.strength, 3)
    track.analysis = {name: round(value, 3) for name, value in track.analysis.items()}
    track.factors = {name: round(value, 3) for name, value in track.factors.items()}
    track.share_of_time = round(track.frames_corrected / max(1, track.frames), 3)
    track.treatment = {**track.treatment, "on": track.frames_corrected > 0, "strength": track.strength}
    return track


def same_tracks(before: Iterable[Sight], after: Iterable[Sight]) -> dict[int, int]:
    """The ids before by those after, of tracks whose boxes overlap on most frames that both saw."""
    seen = dict(before)
    together: Counter[tuple[int, int]] = Counter()
    for pts, faces in after:
        for face in faces:
            for old in seen.get(pts, ()):
                together[face.track_id, old.track_id] += same_place(face.box, old.box)
    names: dict[int, int] = {}
    for (new, old), times in together.most_common():
        if times and new not in names and old not in names.values():
            names[new] = old
    return names
