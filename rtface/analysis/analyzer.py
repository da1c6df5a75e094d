"""The analysis of each track over time: what is wrong with its face, and the treatment that follows."""

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
from rtface.analysis.patch import is_combed, patch_of_view
from rtface.analysis.treatment import HIDDEN, Treatment, choose_treatment
from rtface.frame import Face
from rtface.protocols import View
from rtface.util.fade import faded

_FIELDS = tuple(f.name for f in fields(cast(Any, Analysis)))


def analyze_face(view: View, face: Face, one_field: Callable[[], View] | None = None) -> Analysis:
    """Analyses a face in its frame, on the frame's own grid. Too small a face reads as clean.

    Args:
        one_field: the view of one field, for a face that is combed: combs read as motion blur. None for a field.
    """
    patch = patch_of_view(view, face)
    if patch is None:
        return Analysis()
    if one_field is not None and is_combed(patch[2]):
        patch = patch_of_view(one_field(), face) or patch
    found = measure(*patch)
    soft = found.low_resolution + found.motion_blur >= _SOFT
    return replace(found, hidden=hidden_by(view, face, soft=soft))


_SAMPLE_S, _LATER_S = 0.2, 0.4
"""Seconds from one measurement to the next, until a track is decided and then: on the first frame of each such period
of the film's time, so that the frames that are measured do not depend on where a run began."""
SETTLED_S = 1.2
"""Seconds after which a track is decided by what was measured until then."""
_EVIDENCE_S, MEMORY_S, _FIRM_S = 5.0, 8.0, 10.0
"""A decided track is decided again by the median of at least 5 and at most 8 seconds, and at most once in ten."""
_TOTALS = 64  # measurements of a track after which its mean is known: more than frames in work have
_HIDDEN, _LIKELY_HIDDEN, _STILL_HIDDEN = 0.35, 0.07, 0.03
"""`Analysis.hidden` from which one measurement makes a face count as hidden at once, from which the median of three to
five does, and down to which that of three keeps it so."""
_SOFT = 0.05
"""Low resolution and motion blur from which a blur may have been laid over a face."""
_RAMP_S = 1.0
"""Seconds in which a strength changes by 1, where frames are not few."""


class _Decided(TypedDict):
    treatment: Any
    decided: bool
    applied: tuple[float, float, float]
    time: float | None
    changed: float | None


class FaceState(_Decided, total=False):
    """What is known of a face at a time, for a process that continues from there; JSON but for the treatment.

    Attributes:
        treatment, decided, applied, time: as of the `Analyzer`.
        changed: when the decision changed last; None where it did not.
        recent: time, width and values of each measurement.
        fades, chosen: of `rtface.enhance.track_store.TrackState`.
        drift, kept: of the identity guard.
    """

    recent: list[tuple[float, float, tuple[float, ...]]]
    fades: dict[str, float]
    chosen: str | None
    drift: float | None
    kept: float


class Analyzer:
    """One track's analysis over time and the treatment that follows; it never jumps from one frame to the next.

    A new track is measured every fifth of a second, and decided after 1.2 seconds by the median. A film holds its
    frames back for that (`rtface.analysis.look_ahead`). Where frames cannot wait, the first one decides until then.
    Later, another decision needs the median of five seconds beyond a hysteresis, and comes at most once in ten seconds;
    what is applied (`strength`) moves to it by at most 1 a second and 0.05 a frame. A face that somebody hid is off at
    once.

    Attributes:
        forced: the user's decision, analysed but not overruled; None where there is none.
        treatment: what is decided now.
        decided: whether that holds for longer than until the next measurement.
        strength: of the engine's correction on the frame just seen; 0 means that it changes nothing.
        first, ring: strength of the first stage on that frame in the face and round it, likewise, 0…1.
        time: of that frame; None before the first.
        until: time of the last frame on which the strengths that were taken over hold.
    """

    def __init__(self, *, forced: Treatment | None = None) -> None:
        self.forced = forced
        self._recent: deque[tuple[float, float, tuple[float, ...]]] = deque()  # time, width, values
        # Time of a measurement; sums and number of all up to it.
        self._totals = deque([(-math.inf, np.zeros(len(_FIELDS)), 0)], _TOTALS)
        self._axis = 0j
        self._first: float | None = None
        self.time: float | None = None
        self.until = -math.inf
        self._changed = -math.inf
        self.treatment = forced or Treatment(False)
        self.decided = forced is not None
        self.strength = self.first = self.ring = 0.0

    @property
    def analysis(self) -> Analysis:
        """Mean over the whole track; the motion's angle is the mean axis, weighted by its blur."""
        return self.analysis_before(math.inf)

    def analysis_before(self, time: float) -> Analysis:
        """`analysis` of what was measured before this time."""
        totals = tuple(self._totals)
        _, sums, measured = next((one for one in reversed(totals) if one[0] < time), totals[0])
        mean = Analysis(*(sums / max(1, measured)).tolist())
        return replace(mean, motion_angle=math.degrees(cmath.phase(self._axis)) / 2 % 180.0)

    @property
    def last_s(self) -> float:
        """Time of the last measurement; -inf before the first."""
        return self._recent[-1][0] if self._recent else -math.inf

    def due(self, time: float) -> bool:
        """True if the face is to be measured on the frame of this time."""
        period, before = _LATER_S if self.decided else _SAMPLE_S, self.last_s
        if not before <= time or not math.isfinite(before):  # a step back in time, or the first
            return True
        return math.floor(time / period + 1e-6) != math.floor(before / period + 1e-6)

    def learn(self, found: Analysis, width: float, time: float) -> None:
        """Takes what was measured on one frame, and decides where it is time for that."""
        values = tuple(getattr(found, name) for name in _FIELDS)
        if not time > self.last_s:  # a seek back, or another frame of the same time
            self._recent.clear()
        self._recent.append((time, width, values))
        _, sums, measured = self._totals[-1]
        self._totals.append((time, sums + values, measured + 1))
        self._axis += found.motion_blur * cmath.exp(2j * math.radians(found.motion_angle))
        self._first = time if self._first is None else self._first
        while self._recent[0][0] < time - 2 * MEMORY_S:
            self._recent.popleft()
        if self.forced is not None:
            return
        before = self.decided
        self.decided = before or time - self._first >= SETTLED_S - 1e-6
        if self.decided != before or not measured or self._hidden() != self.treatment.hidden:
            self.treatment = self._chosen(on=False)
        elif before and time - self._evidence()[0][0] >= _EVIDENCE_S and not 0.0 <= time - self._changed < _FIRM_S:
            new = self._chosen(on=self.treatment.on)
            self._changed = time if new.on != self.treatment.on else self._changed
            self.treatment = new

    def settle(self) -> None:
        """Decides by what is known now: nothing more will come before the first frame of the track is shown."""
        if not self.decided and self._recent:
            self.treatment = self._chosen(on=False)
        self.decided = True

    def rest(self, *, totals: bool = True) -> None:
        """Decides for good and drops what was measured: the track was not seen for a while. The mean of the whole track
        stays; where `totals`, those of its beginnings, too."""
        self.settle()
        self._recent.clear()
        self._totals = self._totals if totals else deque([self._totals[-1]], _TOTALS)

    def advance(self, time: float) -> float:
        """Advances the ramps to the frame at this time; returns `strength`."""
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
        """Strengths as `Treatment.applied`, on the frame just seen."""
        return self.strength, self.first, self.ring

    def state(self) -> FaceState:
        """What holds on the frame just seen, for `handed_over`."""
        return {
            "treatment": self.treatment,
            "decided": self.decided,
            "applied": self.applied,
            "time": self.time,
            "changed": self._changed if math.isfinite(self._changed) else None,
        }

    def handed_over(self, time: float, state: FaceState | None = None, since: float = -math.inf) -> FaceState:
        """What another process needs to continue from this time on, as JSON values: the decision, and what was measured
        before, from `since` on."""
        state = state or self.state()
        recent = [entry for entry in tuple(self._recent) if since <= entry[0] < time]
        return {**state, "treatment": asdict(state["treatment"]), "recent": recent}

    def take_over(self, state: FaceState) -> None:
        """Continues from what `handed_over` returned; a decision of the user stays."""
        if self.forced is not None:
            return
        treatment = state["treatment"]
        self.treatment = replace(Treatment(False), **{**treatment, "reasons": tuple(treatment["reasons"])})
        self.decided, (self.strength, self.first, self.ring) = state["decided"], state["applied"]
        self.time = state.get("time")
        self.until = -math.inf if self.time is None else self.time
        self._changed = -math.inf if state["changed"] is None else state["changed"]
        self._recent = deque((time, width, tuple(values)) for time, width, values in state.get("recent", ()))
        self._first = self._recent[0][0] if self._recent else None

    def _evidence(self) -> list[tuple[float, float, tuple[float, ...]]]:
        """What decides, of what was measured."""
        recent = tuple(self._recent)
        return [entry for entry in recent if entry[0] >= recent[-1][0] - MEMORY_S]

    @property
    def lately(self) -> Analysis:
        """Median of the last eight seconds."""
        evidence = self._evidence()
        return Analysis(*np.median(np.array([one[2] for one in evidence]), axis=0).tolist()) if evidence else Analysis()

    def _hidden(self) -> bool:
        """True if somebody hid the face: one sure measurement says so at once, several that are less sure together."""
        lately = [values[_FIELDS.index("hidden")] for *_, values in tuple(self._recent)[-5:]]
        if lately[-1] >= _HIDDEN or (self.treatment.hidden and median(lately[-3:]) >= _STILL_HIDDEN):
            return True
        return len(lately) >= 3 and median(lately) >= _LIKELY_HIDDEN

    def _chosen(self, *, on: bool) -> Treatment:
        if self._hidden():
            return HIDDEN
        evidence = self._evidence()
        width = float(np.median([width for _, width, _ in evidence]))
        return choose_treatment(self.lately, width, on=on)
