"""Collects the figures of a track for its report, in bounded memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from math import inf
from typing import Any

from rtface.analysis.doubt import EVERY_S, Doubt
from rtface.analysis.track_report import Span, TrackReport
from rtface.analysis.treatment import Treatment
from rtface.enhance.strength import Strength
from rtface.frame import Face

# Maximum number of spans; beyond it, the shortest is merged with its neighbours.
_MAX_SPANS = 64
# Maximum number of frames with separate notes; more than are in flight between the enhancement and the output.
IN_WORK = 128


@dataclass(slots=True)
class FrameNote:
    """Notes on a face on one frame, until they are counted.

    Attributes:
        width: width of the face; None if the frame was counted already.
        treatment: the decided treatment.
        engine: name of the engine that ran; None if no engine ran.
        strength: factors of the correction; None if the face was not to be corrected.
        applied: the strength that was applied; None if the face was not corrected.
        guarded: whether the identity guard weakened the correction.
        doubt: how doubtful the correction is; None without a correction.
    """

    width: float | None = None
    treatment: Treatment | None = None
    engine: str | None = None
    strength: Strength | None = None
    applied: float | None = None
    guarded: bool = False
    doubt: Doubt | None = None


@dataclass(slots=True)
class TrackFigures:
    """Figures of one track. A frame in flight has a note, which is counted later (`count`).

    Attributes:
        notes: notes on frames that are not counted yet, by frame time.
        first_s, last_s: times at which the face was seen first and last, in seconds of the input's clock.
        frames: number of frames with the face.
        width_sum: sum of the face's widths on these frames.
        corrected: number of frames on which the face was corrected.
        guarded: number of frames on which the identity guard weakened the correction.
        strength_sum: sum of the applied strengths.
        factors: sum of each strength factor by name, including frames with strength 0; "" counts the frames.
        engine: name of the engine last used.
        treatment: the last decision.
        spans: the decisions over time.
        doubts: the most doubtful frame of each `EVERY_S`.
    """

    first_s: float = 0.0
    last_s: float = 0.0
    frames: int = 0
    width_sum: float = 0.0
    corrected: int = 0
    guarded: int = 0
    strength_sum: float = 0.0
    factors: dict[str, float] = field(default_factory=dict[str, float])
    engine: str | None = None
    treatment: Treatment | None = None
    spans: list[Span] = field(default_factory=list[Span])
    doubts: dict[int, Doubt] = field(default_factory=dict[int, Doubt])
    notes: dict[float, FrameNote] = field(default_factory=dict[float, FrameNote])

    def note(self, time: float) -> FrameNote:
        """Returns the notes on the frame at this time."""
        if len(self.notes) > IN_WORK:
            self._count(min(tuple(self.notes)))
        return self.notes.setdefault(time, FrameNote())

    def see(self, face: Face, time: float) -> None:
        """Notes a frame with the face."""
        if time in self.notes:  # an earlier frame with the same time
            self._count(time)
        self.note(time).width = face.width

    def apply(self, strength: Strength | None, time: float) -> None:
        """Notes a frame with a corrected face. `strength` is None if only the first stage corrected the face."""
        if self.note(time).applied is not None:
            self._count(time)
        note = self.note(time)
        note.strength, note.applied = strength or note.strength, strength.applied if strength else 0.0

    def count(self, before: float = inf) -> None:
        """Counts the frames before this time."""
        for time in sorted(self.notes):
            if time < before:
                self._count(time)

    def split(self, time: float) -> tuple[TrackFigures, TrackFigures]:
        """Returns the figures before this time, and those of later frames."""
        self.count(time)
        return replace(self, notes={}), TrackFigures(
            self.last_s, self.last_s, engine=self.engine, treatment=self.treatment, notes=self.notes
        )

    def join(self, later: TrackFigures) -> None:
        """Adds the figures of the same face on later frames."""
        if later.frames or not self.frames:
            self.first_s, self.last_s = self.first_s if self.frames else later.first_s, later.last_s
        self.frames += later.frames
        self.width_sum += later.width_sum
        self.corrected += later.corrected
        self.guarded += later.guarded
        self.strength_sum += later.strength_sum
        for name, total in later.factors.items():
            self.factors[name] = self.factors.get(name, 0.0) + total
        self.engine, self.treatment = later.engine or self.engine, later.treatment or self.treatment
        for span in later.spans:
            self._continue(span)
        for part, doubt in later.doubts.items():
            self.doubts[part] = self.doubts[part].joined(doubt) if part in self.doubts else doubt

    def to_dict(self) -> dict[str, Any]:
        """Returns counted figures as JSON values for `rtface.util.foreign.converted`."""
        return asdict(replace(self, notes={}))

    def _count(self, time: float) -> None:
        if (note := self.notes.pop(time, None)) is None:
            return
        if note.width is not None:
            self.first_s, self.last_s = self.first_s if self.frames else time, time
            self.frames += 1
            self.width_sum += note.width
        if note.treatment is not None:
            self.treatment = note.treatment
            self._decide(note.treatment, round(time, 3))
        self.engine = note.engine or self.engine
        if note.strength is not None:
            for name, value in {**asdict(note.strength), "": 1.0}.items():
                self.factors[name] = self.factors.get(name, 0.0) + value
        if note.applied is not None:
            self.corrected += 1
            self.strength_sum += note.applied
        self.guarded += note.guarded
        if note.doubt is not None:
            part = int(time // EVERY_S)
            self.doubts[part] = self.doubts[part].joined(note.doubt) if part in self.doubts else note.doubt

    def _decide(self, treatment: Treatment, at: float) -> None:
        engine, first, ring = treatment.applied
        span = Span(
            at,
            at,
            treatment.on,
            engine,
            list(treatment.reasons),
            1,
            first=first,
            ring=ring,
            gain_db=treatment.gain,
            detail=treatment.detail,
        )
        self._continue(span)

    def _continue(self, span: Span) -> None:
        """Adds a later span. Merges it with the last span if both have the same kind."""
        last = self.spans[-1] if self.spans else None
        if last is not None and last.kind == span.kind:
            span.from_s, span.frames = last.from_s, last.frames + span.frames
            span.keep_first(last)
            self.spans[-1] = span
        else:
            self.spans.append(span)
            if len(self.spans) > _MAX_SPANS:
                short = min(range(1, len(self.spans) - 1), key=lambda k: self.spans[k].frames)
                previous, shortest, following = self.spans[short - 1 : short + 2]
                previous.extend(shortest)
                previous.extend(following)
                del self.spans[short : short + 2]

    def report(self, number: int, decided: Treatment, scores: Mapping[str, float], origin: float) -> TrackReport:
        """Returns the report of the figures.

        Args:
            number: id of the track.
            decided: treatment of the track, used if no frame had one.
            scores: scores of the face's degradation, by name.
            origin: time in seconds that counts as 0.
        """
        self.count()
        treatment = self.treatment or decided
        on = self.corrected > 0
        longest = max(
            (span for span in self.spans if span.on == on),
            key=lambda span: span.frames,
            default=Span(
                0.0,
                0.0,
                on,
                0.0,
                list(treatment.reasons),
                0,
                first=treatment.first,
                ring=treatment.ring,
                gain_db=treatment.gain,
                detail=treatment.detail,
            ),
        )
        strength = round(self.strength_sum / self.corrected, 3) if self.corrected else 0.0
        return TrackReport(
            id=number,
            first_s=round(self.first_s - origin, 3) + 0.0,  # no -0.0
            last_s=round(self.last_s - origin, 3),
            frames=self.frames,
            mean_width_px=round(self.width_sum / max(self.frames, 1), 1),
            analysis={name: round(value, 3) for name, value in scores.items()},
            treatment={
                "on": on,
                "strength": strength,
                "engine": self.engine,
                "first": longest.first,
                "ring": longest.ring,
                "detail": longest.detail,
                "gain_db": longest.gain_db,
                "reasons": longest.reasons,
            },
            strength=strength,
            factors={name: round(total / self.factors[""], 3) for name, total in self.factors.items() if name},
            frames_corrected=self.corrected,
            frames_guarded=self.guarded,
            share_of_time=round(self.corrected / max(self.frames, 1), 3),
            spans=[
                replace(span, from_s=round(span.from_s - origin, 3), to_s=round(span.to_s - origin, 3))
                for span in self.spans
            ],
            doubts=[doubt.since(origin) for _, doubt in sorted(self.doubts.items())],
        )
