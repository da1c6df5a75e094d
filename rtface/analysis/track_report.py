"""Reports tracks and persons of a run in figures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import TypedDict

from rtface.analysis.doubt import Doubt
from rtface.analysis.treatment import HIDDEN
from rtface.analysis.verdict import Verdict, verdict_on
from rtface.errors import Message
from rtface.util.parse import UNKNOWN_PERSON
from rtface.util.text import counted


@dataclass(slots=True)
class Span:
    """An interval with the same decision about a face.

    Attributes:
        from_s, to_s: times of its first and last frame, seconds in the input.
        on: whether the face was to be corrected.
        strength: decided strength, 0…1.5, without the run's own factor; 0 if off.
        reasons: reasons of the decision.
        frames: number of frames with the face.
        first, ring: strengths of the first stage in the face and round it, by the last decision that used it.
        gain_db: expected gain of that decision in the face; None if no decision predicted it.
        detail: share of the look's detail, by that decision.
    """

    from_s: float
    to_s: float
    on: bool
    strength: float
    reasons: list[str]
    frames: int
    first: float = 0.0
    ring: float = 0.0
    gain_db: float | None = None
    detail: float = 1.0

    @property
    def kind(self) -> tuple[bool, bool]:
        """Whether the face was to be corrected, and whether hidden on purpose."""
        return self.on, [*HIDDEN.reasons] == self.reasons

    def extend(self, later: Span) -> None:
        """Extends this span to the end of a later one. The decision stays this span's."""
        self.to_s, self.frames = later.to_s, self.frames + later.frames
        self.keep_first(later)

    def keep_first(self, other: Span) -> None:
        """Takes over a merged span's first-stage values, if this span has none."""
        if self.gain_db is None and not self.first and not self.ring:
            self.first, self.ring, self.gain_db, self.detail = other.first, other.ring, other.gain_db, other.detail


def hidden_line(faces: int, track: int, from_s: float) -> str:
    """Returns the warning about faces hidden on purpose. `track` and `from_s` are those of the first face."""
    return Message(
        "{count} left as they are, hidden by a blur or a mosaic, the first from {time} s on (track {track}); "
        "{--correct:always} corrects them anyway",
        code="faces_hidden",
        count=counted(faces, "face"),
        time=f"{from_s:.2f}",
        track=track,
    )


class TrackTreatment(TypedDict):
    """The treatment of a track in a run.

    Attributes:
        on: whether the face was corrected on any frame.
        strength: mean applied strength.
        engine: the last engine; None if no engine was used.
        first, ring, detail, gain_db, reasons: the values that applied longest, as in `Span`.
    """

    on: bool
    strength: float
    engine: str | None
    first: float
    ring: float
    detail: float
    gain_db: float | None
    reasons: list[str]


@dataclass(slots=True)
class TrackReport:
    """One face over the whole run.

    Attributes:
        id: the track's id, as used by `--faces` and `--treatment`.
        first_s, last_s: first and last time the face was seen, seconds in the input.
        frames: number of frames on which the face was seen.
        mean_width_px: mean width of the face's box in display pixels.
        analysis: degradation scores 0…1 by name (see `rtface.analysis.analyzer`).
        treatment: the face's treatment.
        strength: mean applied strength 0…1.5 over the corrected frames.
        frames_corrected: number of frames on which it was corrected.
        share_of_time: their share of `frames`, 0…1.
        frames_guarded: number of corrected frames on which the identity guard weakened the correction (`--guard`).
        spans: the decisions over time.
        person: the person: a name, P and a number, or "unknown"; empty if persons were not requested.
        doubts: for a film or still, the most doubtful frame of each half second on which the face was corrected.
        factors: mean of each strength factor (`rtface.enhance.strength`) over the frames to be corrected.
    """

    id: int
    first_s: float
    last_s: float
    frames: int
    mean_width_px: float
    analysis: dict[str, float]
    treatment: TrackTreatment
    strength: float
    frames_corrected: int = 0
    share_of_time: float = 0.0
    spans: list[Span] = field(default_factory=list[Span])
    person: str = ""
    frames_guarded: int = 0
    doubts: list[Doubt] = field(default_factory=list[Doubt])
    factors: dict[str, float] = field(default_factory=dict[str, float])

    @property
    def verdict(self) -> Verdict:
        """Verdict on the face, for all outputs."""
        return verdict_on(
            self.treatment,
            applied=self.strength,
            factors=self.factors,
            scores=self.analysis,
            width=self.mean_width_px,
            share_of_time=self.share_of_time,
        )

    def to_dict(self) -> dict[str, object]:
        """Returns the track as plain values, with its verdict."""
        return {**asdict(self), "verdict": self.verdict.to_dict()}


@dataclass(slots=True)
class PersonReport:
    """One person over the whole run.

    Attributes:
        person: name, or P and a number.
        tracks: ids of the person's tracks.
        first_s, last_s: first and last time the person was seen, seconds in the input.
        seconds: total duration of the tracks.
    """

    person: str
    tracks: list[int]
    first_s: float
    last_s: float
    seconds: float


def persons_of(tracks: Iterable[TrackReport]) -> list[PersonReport]:
    """Returns the persons of tracks, in order of appearance. Unknown persons are left out."""
    by_person: dict[str, list[TrackReport]] = {}
    for track in sorted(tracks, key=lambda track: (track.first_s, track.id)):
        if track.person not in ("", UNKNOWN_PERSON):
            by_person.setdefault(track.person, []).append(track)
    return [
        PersonReport(
            person,
            [track.id for track in appearances],
            appearances[0].first_s,
            max(track.last_s for track in appearances),
            round(sum(track.last_s - track.first_s for track in appearances), 3),
        )
        for person, appearances in by_person.items()
    ]
