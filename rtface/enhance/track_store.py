"""Stores the analysis, treatment and correction state of each track."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from math import inf, nan
from typing import Any, Literal

from rtface.analysis.analyzer import MEMORY_S, Analyzer, FaceState
from rtface.analysis.track_report import TrackReport
from rtface.analysis.treatment import FORCED, Treatment
from rtface.analysis.treatment_file import Treatments
from rtface.correct import CorrectionState
from rtface.enhance.keyframes.scheduler import KeyframeTrack
from rtface.enhance.mode import Mode
from rtface.enhance.strength import Strength
from rtface.enhance.track_figures import IN_WORK, TrackFigures
from rtface.frame import Face, Float32, PixelsT
from rtface.persons.guard import GuardedTrack
from rtface.protocols import MEMORY_S as ENGINE_MEMORY_S
from rtface.protocols import Engine, Restored, ShapeTask
from rtface.shots.settings import NO_SHOTS, ShotList
from rtface.util.fade import faded

_UNGUARDED: dict[str, Any] = {"time": -inf, "drift": None, "kept": 1.0}
# When a face has been unseen for this long, its track drops its images, but not the figures for the report.
_FORGET_S = 5.0


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredChange:
    """The change that a correction made, at a time in seconds.

    Attributes:
        cells: float32 h×w, luma of the correction on a coarse grid.
        figures: figures of `rtface.analysis.doubt.Doubt` by name, measured at this time.
        compared: whether it was compared with the previous frame's change.
    """

    time: float
    cells: Float32
    figures: dict[str, float]
    compared: bool


@dataclass(slots=True)
class TrackState:
    """The state of one track.

    Attributes:
        analyzer: measures the face's degradation over time, and decides the treatment.
        figures: figures for the report.
        correction: state of the correction from frame to frame.
        engine: name of the engine last used.
        output: the engine's last answer; contains the memory of a recurrent engine.
        output_from: time of the frame of `output`, and the name of the engine.
        chosen: name of the best engine for the face; another is used when time is short.
        keys: keyframes of the track.
        late: a pending answer for an earlier frame, and its task (live).
        guard: state that decides how much of the correction is kept, so that the person stays the same (`--guard`).
        first: strength of the first stage on the last frame, in the face and round it, 0…1.
        fades: strengths on the last frame, by name, that follow the decided strengths slowly (`faded`).
        weights: share of the engine's new weights on the last frame, 0…1; the previous weights have the rest.
            Fades even in forced treatments. Not handed over, because the lead-in of another process repeats the change.
        change: the last correction that was measured for `rtface.enhance.doubts`.
        shown: the analyzer's states on the last frames, for `handed_over`.
        guarded: the identity guard's states on the last frames, for `handed_over`.
        seen_s: time of the last frame with the face; NaN after the face was unseen for a while.
    """

    id: int
    analyzer: Analyzer
    figures: TrackFigures = field(default_factory=TrackFigures)
    keys: KeyframeTrack = field(default_factory=lambda: KeyframeTrack(Mode.FILM))
    correction: CorrectionState = field(default_factory=CorrectionState)
    engine: str | None = None
    output: Future[Restored[Any]] | None = None
    output_from: tuple[float, str] = (0.0, "")
    chosen: str | None = None
    late: tuple[Future[Restored[Any]], ShapeTask] | None = None
    guard: GuardedTrack = field(default_factory=GuardedTrack)
    first: list[float] = field(default_factory=lambda: [0.0, 0.0])
    fades: dict[str, float] = field(default_factory=dict[str, float])
    weights: float = 1.0
    change: MeasuredChange | None = None
    shown: deque[FaceState] = field(default_factory=lambda: deque(maxlen=IN_WORK))
    guarded: deque[dict[str, Any]] = field(default_factory=lambda: deque([_UNGUARDED], maxlen=IN_WORK))
    seen_s: float = -inf

    def handed_over(self, time: float, border: float) -> FaceState:
        """Returns the state from which another process continues, as JSON values: `Analyzer.handed_over`, the state of
        the identity guard, and the engine, which a face near a size limit of ``--engine auto`` must not change.

        Args:
            border: time of the last frame that this process shows; later ones may be in flight.
        """

        def last_shown(states: Iterable[Any]) -> Any:
            return next((state for state in tuple(states)[::-1] if state["time"] <= border), {})

        selection = {"fades": dict(self.fades), "chosen": self.chosen}
        state = last_shown(self.guarded) | selection | (last_shown(self.shown) or self.analyzer.state())
        return self.analyzer.handed_over(time, state, border - MEMORY_S)

    def note_guard(self, time: float) -> None:
        """Stores the identity guard's state after the frame at this time."""
        self.guarded.append({"time": time, "drift": self.guard.drift, "kept": self.guard.kept})

    def take_over(self, state: FaceState) -> None:
        """Continues from a state that `handed_over` returned."""
        self.analyzer.take_over(state)
        self.chosen, self.fades = state.get("chosen"), dict(state.get("fades", {}))
        self.guard.drift, self.guard.kept = state.get("drift"), state.get("kept", 1.0)
        self.note_guard(-inf)

    def decide(self, time: float, *, counted: bool, forced: Treatment | None = None) -> float:
        """Returns the correction's strength at this time, 0…1.5. Notes the decision for the report if `counted`.

        Args:
            forced: treatment of the shot; it replaces that of the analysis at once, without a ramp.
        """
        if self.shown:
            self.shown[-1].update({"fades": dict(self.fades), "chosen": self.chosen})
        self.analyzer.advance(time)
        self.shown.append(self.analyzer.state())
        treatment = forced or self.analyzer.treatment
        strength, *self.first = (treatment if forced else self.analyzer).applied
        if treatment.hidden or forced:
            self.fades.clear()
        if counted:
            self.figures.note(time).treatment = treatment
        return strength

    def faded(self, name: str, target: float, time: float) -> float:
        """Moves the strength `name` towards its target by at most `MOST_A_FRAME`. Returns it. If a shot or a
        treatment file decides, the strength changes at once."""
        now = self.fades.get(name, target)
        self.fades[name] = now = faded(now, target, inf, 1.0) if time > self.analyzer.until else now
        return now

    def ask(self, engine: Engine, pixels: PixelsT, time: float) -> Future[Restored[PixelsT]]:
        """Submits a crop (`Crops.pixels`) at this time to an engine, without waiting.

        A recurrent engine continues from its last answer, which may still be pending, unless the answer is older
        than `rtface.protocols.MEMORY_S`.
        """
        last_time, name = self.output_from
        memory = self.output if name == engine.name and time - last_time <= ENGINE_MEMORY_S else None
        output = engine.submit(pixels, memory)
        self.output, self.output_from = output, (time, engine.name)
        return output

    def forget(self) -> None:
        """Drops the state from earlier frames, but not the figures."""
        self.correction.reset()
        self.keys.samples.clear()
        self.guard = GuardedTrack()
        self.guarded.clear()
        self.note_guard(-inf)
        self.output = self.late = self.change = None

    def change_engine(self) -> None:
        """Drops the engine's state. Another engine then continues from the current correction."""
        self.output = self.late = None
        self.guard.due = float("-inf")
        self.correction.average.reset()

    def report(self, origin: float = 0.0) -> TrackReport:
        """Returns the track's report. Times are seconds after `origin`."""
        analyzer = self.analyzer
        return self.figures.report(self.id, analyzer.treatment, analyzer.analysis_before(inf).scores(), origin)


StateLookup = Callable[[Face, float], FaceState | None]
"""Returns the state that another process handed over (`TrackState.handed_over`) for a face at a time, or None."""


@dataclass(frozen=True, slots=True)
class TrackRules:
    """Decisions about tracks that do not come from their analysis.

    Attributes:
        treatments: the user's decisions (`--treatment`).
        shots: settings by shot, which replace those of the run.
        state_of: looks up the state that another process handed over for a new face; None without such a process.
        person_of: function that returns the label of a track's person; empty if persons are not recognised.
    """

    treatments: Treatments = field(default_factory=Treatments)
    shots: ShotList = NO_SHOTS
    state_of: StateLookup | None = None
    person_of: Callable[[int], str] = lambda track: ""


NO_RULES = TrackRules()


class TrackStore:
    """All tracks of a run, by id.

    Args:
        rules: decisions that are made without the analysis.
        correct: "always" corrects every face fully, "never" none; `rules.treatments` takes precedence.
        mode: mode of the run, for keyframes.

    Attributes:
        states: states of all tracks seen, by track id.
        shots, person_of: as in `TrackRules`.
        always: whether every face is corrected fully, regardless of its analysis; may be changed between frames.
        strengths: strength factors of persons, 0…1, by label in lower case; may be replaced between frames.
    """

    def __init__(
        self,
        rules: TrackRules = NO_RULES,
        *,
        correct: Literal["auto", "always", "never"] = "auto",
        mode: Mode = Mode.FILM,
    ) -> None:
        self._treatments, self._by_person = rules.treatments.by_track, rules.treatments.by_person
        self._state_of, self.shots, self.person_of = rules.state_of, rules.shots, rules.person_of
        self._mode, self._correct = mode, correct
        self.states: dict[int, TrackState] = {}
        self.always = False
        self.strengths: Mapping[str, float] = {}
        self._swept = 0.0

    def track_of(self, face: Face, time: float) -> TrackState:
        """Returns the state of a face's track. Creates the state of a new track."""
        track = self.states.get(face.track_id)
        if track is None:
            # With shots, no treatment is forced for the whole track, because a later shot may need the analysis.
            forced = self._treatments.get(face.track_id, None if self.shots else FORCED.get(self._correct))
            track = TrackState(
                face.track_id, Analyzer(forced=forced), TrackFigures(time, time), KeyframeTrack(self._mode), seen_s=time
            )
            if self._state_of is not None and (state := self._state_of(face, time)) is not None:
                track.take_over(state)
            self.states[face.track_id] = track
        return track

    def forced(self, face: Face, time: float) -> Treatment | None:
        """Returns the treatment that a treatment file or shot forces. None if the analysis of the face decides."""
        if face.person and (treatment := self._by_person.get(face.person.lower())):
            return treatment
        if self.always:
            return FORCED["always"]
        if not self.shots:
            return None
        if (correct := self.shots.at(time).correct) is None:
            return None if face.track_id in self._treatments else FORCED.get(self._correct)
        return FORCED.get(correct)

    def strength_of(self, face: Face, time: float, asked: float) -> Strength:
        """Returns the strength factors of the run (`asked`, 0…1) and person."""
        of_person = self.strengths.get(face.person.lower(), 1.0) if self.strengths else 1.0
        return Strength(asked, person=of_person)

    def see(self, face: Face, time: float, *, counted: bool = True) -> TrackState:
        """Counts this frame in a face's track, and returns the track."""
        track = self.track_of(face, time)
        track.seen_s = time
        if counted:
            track.figures.see(face, time)
        return track

    def sweep(self, time: float) -> None:
        """Drops the state of tracks unseen for a while, to limit memory."""
        if abs(time - self._swept) < _FORGET_S:
            return
        self._swept = time
        for track in self.states.values():
            if abs(time - track.seen_s) > _FORGET_S:
                track.forget()
                track.seen_s = nan  # until the face is seen again, there is nothing to drop
                track.shown.clear()
                track.analyzer.rest(totals=self._mode is not Mode.LIVE)
                if self._mode is Mode.LIVE:  # a film may still hand over frames that are in flight
                    track.figures.count()

    def leave_engines(self) -> None:
        """Drops the state of engines, but not the state of corrections."""
        for track in self.states.values():
            track.output = track.late = track.engine = track.chosen = None
            track.keys.samples.clear()

    def reports(self, origin: float = 0.0) -> list[TrackReport]:
        """Returns the reports of all tracks by id. Times are seconds after `origin`."""
        return [replace(self.states[k].report(origin), person=self.person_of(k)) for k in sorted(self.states)]

    def treatment_of(self, track_id: int) -> Treatment | None:
        """Returns the current treatment of this track. None if the track was never seen."""
        track = self.states.get(track_id)
        return track.analyzer.treatment if track else None
