"""Analyzes tracks over time: the degradation of a face, and its treatment."""

from __future__ import annotations

import cmath
import math
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from statistics import median
from typing import Any, TypedDict, cast

import numpy as np

from rtface.analysis.hidden import hidden_by
from rtface.analysis.measure import Analysis, measure
from rtface.analysis.patch import SMALLEST_FACE, is_combed, patch_of_view
from rtface.analysis.treatment import HIDDEN, Treatment, choose_treatment
from rtface.frame import Face
from rtface.protocols import View
from rtface.util.fade import faded

_FIELDS = tuple(f.name for f in fields(cast(Any, Analysis)))


def analyze_face(view: View, face: Face, one_field: Callable[[], View] | None = None) -> Analysis:
    """Analyzes a face in its frame, on the frame's own grid. A face that is too small counts as clean.

    Args:
        one_field: returns one field's view, for a combed face, because combs look like motion blur. None for a field.
    """
    patch = patch_of_view(view, face)
    if patch is None:
        return Analysis()
    if one_field is not None and is_combed(patch[2]):
        patch = patch_of_view(one_field(), face) or patch
    analysis = measure(*patch)
    soft = analysis.low_resolution + analysis.motion_blur >= _MIN_SOFTNESS
    return replace(analysis, hidden=hidden_by(view, face, soft=soft))


_SAMPLE_S, _LATER_S = 0.2, 0.4
"""Seconds between measurements until a track is decided, and afterwards. The first frame of each period of the film's
time is measured, so that the measured frames do not depend on where a run began."""
_ERRORS_S = 0.8
"""Seconds between predictions of a decided track's errors, which take six times as long as the other measurements. A
multiple of `_LATER_S`."""
_ERRORS = ("compression", "step", "unreached", "error", "remaining", "ring_error", "ring_remaining")
SETTLED_S = 1.2
"""Seconds after which a track is decided by its measurements so far."""
_EVIDENCE_S, MEMORY_S, _FIRM_S = 5.0, 8.0, 10.0
"""In seconds: a decision is reviewed by the median of the last 5 to 8, and changes at most once in 10."""
_MAX_TOTALS = 64  # running sums per track; frames in flight have fewer measurements
_HIDDEN, _LIKELY_HIDDEN, _STILL_HIDDEN = 0.35, 0.07, 0.03
"""Values of `Analysis.hidden`. A face counts as hidden at once after one measurement above `_HIDDEN`, or if a median of
three to five is above `_LIKELY_HIDDEN`. A median of three above `_STILL_HIDDEN` keeps it hidden."""
_MIN_SOFTNESS = 0.05
"""Minimum sum of low resolution and motion blur of a face that may be covered by a blur."""
_RAMP_S = 1.0
"""Seconds in which a strength changes by 1, at usual frame rates."""


def same_period(before: float, time: float, period: float) -> bool:
    """Returns whether two times lie in the same period, all in seconds. Tolerates rounding."""
    return math.floor(before / period + 1e-6) == math.floor(time / period + 1e-6)


class _Decided(TypedDict):
    treatment: Any
    decided: bool
    applied: tuple[float, float, float]
    time: float | None
    changed: float | None


class FaceState(_Decided, total=False):
    """State of a face at a time, for another process. All values but the treatment are JSON.

    Attributes:
        treatment, decided, applied, time: as in `Analyzer`.
        changed: time of the last change of the decision, or None.
        recent: time, width and values of each measurement.
        fades, chosen: as in `rtface.enhance.track_store.TrackState`.
        drift, kept: state of the identity guard.
    """

    recent: list[tuple[float, float, tuple[float, ...]]]
    fades: dict[str, float]
    chosen: str | None
    drift: float | None
    kept: float


class Analyzer:
    """Analyzes one track over time, and decides its treatment without sudden changes.

    A new track is measured every 0.2 seconds, and decided after 1.2 seconds by the median. A film delays its frames
    until then (`rtface.analysis.look_ahead`). If frames cannot wait, the first measurement decides provisionally.
    Later, the decision changes only if the median of five seconds exceeds a hysteresis, at most once in ten seconds.
    The applied `strength` then moves by at most 1 a second and 0.05 a frame. The correction of a face that was hidden
    on purpose ends at once.

    Attributes:
        forced: the user's decision, which the analysis does not overrule, or None.
        treatment: the current decision.
        decided: whether the current decision stays valid beyond the next measurement.
        strength: strength of the engine's correction on the last frame; 0 changes nothing.
        first, ring: strength of the first stage on the last frame, in the face and round it, 0…1.
        time: time of the last frame; None before the first.
        until: time of the last frame on which strengths from another process apply.
    """

    def __init__(self, *, forced: Treatment | None = None) -> None:
        self.forced = forced
        self._recent: deque[tuple[float, float, tuple[float, ...]]] = deque()  # time, width, values
        # Time of each measurement, with the sums and the number of all measurements up to it.
        self._totals = deque([(-math.inf, np.zeros(len(_FIELDS)), 0)], _MAX_TOTALS)
        self._axis = 0j
        self._first_s: float | None = None
        self.time: float | None = None
        self.until = -math.inf
        self._change_s = -math.inf
        self.treatment = forced or Treatment(False)
        self.decided = forced is not None
        self.strength = self.first = self.ring = 0.0

    @property
    def analysis(self) -> Analysis:
        """Mean over the track. The motion's angle is the mean axis, weighted by the blur."""
        return self.analysis_before(math.inf)

    def analysis_before(self, time: float) -> Analysis:
        """Returns `analysis` of the measurements before this time."""
        totals = tuple(self._totals)
        _, sums, measured = next((one for one in reversed(totals) if one[0] < time), totals[0])
        mean = Analysis(*(sums / max(1, measured)).tolist())
        return replace(mean, motion_angle=math.degrees(cmath.phase(self._axis)) / 2 % 180.0)

    @property
    def last_s(self) -> float:
        """Time of the last measurement; -inf before the first."""
        return self._recent[-1][0] if self._recent else -math.inf

    def due(self, time: float) -> bool:
        """Returns whether the face should be measured at this time."""
        period, last = _LATER_S if self.decided else _SAMPLE_S, self.last_s
        if not last <= time or not math.isfinite(last):  # a step back in time, or the first measurement
            return True
        return not same_period(last, time, period)

    @property
    def errors(self) -> dict[str, float]:
        """The first stage's last predicted errors, by name in `Analysis`."""
        return {name: self._recent[-1][2][_FIELDS.index(name)] for name in _ERRORS}

    def keeps_errors(self, time: float) -> bool:
        """Returns whether a measurement at this time uses the last `errors` again."""
        last = self.last_s
        return (
            self.decided
            and -math.inf < last < time
            and self._recent[-1][1] >= SMALLEST_FACE
            and same_period(last, time, _ERRORS_S)
        )

    def learn(self, analysis: Analysis, width: float, time: float) -> None:
        """Adds a measurement, and decides if a decision is due."""
        values = tuple(getattr(analysis, name) for name in _FIELDS)
        if not time > self.last_s:  # a seek back, or another frame with the same time
            self._recent.clear()
        self._recent.append((time, width, values))
        _, sums, measured = self._totals[-1]
        self._totals.append((time, sums + values, measured + 1))
        self._axis += analysis.motion_blur * cmath.exp(2j * math.radians(analysis.motion_angle))
        self._first_s = time if self._first_s is None else self._first_s
        while self._recent[0][0] < time - 2 * MEMORY_S:
            self._recent.popleft()
        if self.forced is not None:
            return
        decided = self.decided
        self.decided = decided or time - self._first_s >= SETTLED_S - 1e-6
        if self.decided != decided or not measured or self._is_hidden() != self.treatment.hidden:
            self.treatment = self._choose(on=False)
        elif decided and time - self._evidence()[0][0] >= _EVIDENCE_S and not 0.0 <= time - self._change_s < _FIRM_S:
            treatment = self._choose(on=self.treatment.on)
            self._change_s = time if treatment.on != self.treatment.on else self._change_s
            self.treatment = treatment

    def settle(self) -> None:
        """Decides by the measurements so far. The track's first frame cannot wait for others."""
        if not self.decided and self._recent:
            self.treatment = self._choose(on=False)
        self.decided = True

    def rest(self, *, totals: bool = True) -> None:
        """Decides finally, and drops the measurements of a track that has ended. Keeps the mean of the track; with
        `totals` also the means up to earlier times."""
        self.settle()
        self._recent.clear()
        self._totals = self._totals if totals else deque([self._totals[-1]], _MAX_TOTALS)

    def advance(self, time: float) -> float:
        """Advances the ramps to the frame at this time, and returns `strength`."""
        if time <= self.until:
            return self.strength
        targets = self.treatment.applied
        if self.time is not None and not self.treatment.hidden:
            targets = (
                faded(now, target, time - self.time, _RAMP_S) for target, now in zip(targets, self.applied, strict=True)
            )
        self.strength, self.first, self.ring = targets
        self.time = time
        return self.strength

    @property
    def applied(self) -> tuple[float, float, float]:
        """Strengths on the last frame, as in `Treatment.applied`."""
        return self.strength, self.first, self.ring

    def state(self) -> FaceState:
        """Returns the state on the last frame, for `handed_over`."""
        return {
            "treatment": self.treatment,
            "decided": self.decided,
            "applied": self.applied,
            "time": self.time,
            "changed": self._change_s if math.isfinite(self._change_s) else None,
        }

    def handed_over(self, time: float, state: FaceState | None = None, since: float = -math.inf) -> FaceState:
        """Returns the state for another process to continue from, as JSON values. It contains the decision, and the
        measurements from `since` to before `time`."""
        state = state or self.state()
        recent = [entry for entry in tuple(self._recent) if since <= entry[0] < time]
        return {**state, "treatment": asdict(state["treatment"]), "recent": recent}

    def take_over(self, state: FaceState) -> None:
        """Continues from a state of `handed_over`. The user's decision stays in force."""
        if self.forced is not None:
            return
        treatment = state["treatment"]
        self.treatment = replace(Treatment(False), **{**treatment, "reasons": tuple(treatment["reasons"])})
        self.decided, (self.strength, self.first, self.ring) = state["decided"], state["applied"]
        self.time = state.get("time")
        self.until = -math.inf if self.time is None else self.time
        self._change_s = -math.inf if state["changed"] is None else state["changed"]
        self._recent = deque((time, width, tuple(values)) for time, width, values in state.get("recent", ()))
        self._first_s = self._recent[0][0] if self._recent else None

    def _evidence(self) -> list[tuple[float, float, tuple[float, ...]]]:
        """Returns the measurements on which the decision is based."""
        recent = tuple(self._recent)
        return [entry for entry in recent if entry[0] >= recent[-1][0] - MEMORY_S]

    @property
    def lately(self) -> Analysis:
        """Median of the last eight seconds."""
        evidence = self._evidence()
        return Analysis(*np.median(np.array([one[2] for one in evidence]), axis=0).tolist()) if evidence else Analysis()

    def _is_hidden(self) -> bool:
        """Returns whether the face was hidden on purpose. One sure measurement or several likely ones suffice."""
        scores = [values[_FIELDS.index("hidden")] for *_, values in tuple(self._recent)[-5:]]
        if scores[-1] >= _HIDDEN or (self.treatment.hidden and median(scores[-3:]) >= _STILL_HIDDEN):
            return True
        return len(scores) >= 3 and median(scores) >= _LIKELY_HIDDEN

    def _choose(self, *, on: bool) -> Treatment:
        if self._is_hidden():
            return HIDDEN
        evidence = self._evidence()
        width = float(np.median([width for _, width, _ in evidence]))
        return choose_treatment(self.lately, width, on=on)
