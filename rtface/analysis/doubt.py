"""Scores how doubtful a face's correction is on a frame."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace

from rtface.analysis.measure import ramp

EVERY_S = 0.5
"""Length of the parts of a track; of each part, the most doubtful frame is reported."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """The most doubtful frame in a part of a track.

    Attributes:
        from_s, to_s: times of the first and the last frame of that part on which the face was corrected, seconds in the
            input.
        at_s: time of the most doubtful frame. `change`, `fine`, `flicker`, `error`, `hidden` and `step` may be up to
            0.2 s older.
        box: the face, display pixels x0, y0, x1, y1.
        strength: strength of the correction, 0…1.5.
        error: absolute error that the engine expects of its result, of 255; 0 if it predicts no error.
        change: mean absolute change of the face's luma, of 255.
        fine: share by which the correction amplifies the input's fine detail; negative if it removes detail.
        flicker: mean absolute difference between the changes on two successive frames, of 255; 0 up to 5 fps.
        drift: last distance to the person in the input that the identity guard measured; 0 if it measured none.
        hidden: share of the face, 0…1, that the engine considers occluded.
        step: quantiser step of the codec in the face (`Analysis.step`); 0 if unknown.
        turned: yaw of the face, degrees.
        unsteady: mean distance of the tracker's points from their expected positions, in widths of the face.
        unsure: 1 minus the tracker's score, 0…1.
    """

    from_s: float
    to_s: float
    at_s: float
    box: tuple[float, float, float, float]
    strength: float
    error: float = 0.0
    change: float = 0.0
    fine: float = 0.0
    flicker: float = 0.0
    drift: float = 0.0
    hidden: float = 0.0
    step: float = 0.0
    turned: float = 0.0
    unsteady: float = 0.0
    unsure: float = 0.0

    def terms(self) -> dict[str, float]:
        """Returns the share of each reason, 0…1: its value on the ramp in `TERMS`, times its weight."""
        return {name: weight * ramp(value(self), low, high) for name, (value, low, high, weight, _) in TERMS.items()}

    @property
    def score(self) -> float:
        """How doubtful the correction is, 0…1. Reasons combine like independent probabilities."""
        return 1.0 - math.prod(1.0 - share for share in self.terms().values())

    @property
    def reasons(self) -> list[str]:
        """The reasons, the weightiest first; at least one."""
        shares = sorted(((share, name) for name, share in self.terms().items()), reverse=True)
        relevant = [name for share, name in shares if share >= _MIN_SHARE] or [shares[0][1]]
        return [TERMS[name][4].format(TERMS[name][0](self)) for name in relevant]

    def joined(self, other: Doubt) -> Doubt:
        """Returns the more doubtful of two doubts, with both time spans joined."""
        worst = max(self, other, key=lambda one: one.score)
        return replace(worst, from_s=min(self.from_s, other.from_s), to_s=max(self.to_s, other.to_s))

    def since(self, origin: float) -> Doubt:
        """Returns a copy with times relative to `origin`, rounded for a report."""
        values = {entry.name: round(getattr(self, entry.name), 4) for entry in fields(self) if entry.name != "box"}
        values |= {name: round(getattr(self, name) - origin, 3) + 0.0 for name in _TIMES}  # no -0.0
        x0, y0, x1, y1 = (round(side, 1) for side in self.box)
        return replace(self, box=(x0, y0, x1, y1), **values)


TERMS: dict[str, tuple[Callable[[Doubt], float], float, float, float, str]] = {
    "hidden": (lambda d: d.hidden, 0.02, 0.3, 0.4, "{:.0%} of it is occluded"),
    "drift": (lambda d: d.drift, 0.05, 0.15, 0.5, "may be another person (distance {:.2f})"),
    # Coding removes detail of up to its step (40 if unknown). A change that is large compared to the step, and that
    # amplifies existing detail, sharpens a face that was soft before it was coded.
    "sharpening": (
        lambda d: max(0.0, d.fine + 0.1) * d.change / (d.step or 40.0),
        *(0.002, 0.025, 0.9),
        "may be sharper than the source was",
    ),
    "replacing": (lambda d: -d.fine, 0.05, 0.2, 0.5, "replaces fine detail of the input ({:.0%})"),
    "error": (lambda d: d.error, 4.0, 10.0, 0.1, "the engine expects an error of {:.1f} of 255"),
    "flicker": (lambda d: d.flicker, 0.3, 2.0, 0.3, "flickers by {:.1f} of 255"),
    "unsteady": (lambda d: d.unsteady, 0.002, 0.015, 0.3, "its points jump by {:.1%} of its width"),
    "unsure": (lambda d: d.unsure, 0.1, 0.6, 0.2, "the tracker is not sure of it ({:.0%})"),
    "turned": (lambda d: d.turned, 5.0, 45.0, 0.3, "turned by {:.0f}°"),
}
"""Reasons by name: function of the value, values for a share of 0 and of 1, weight, and text."""
_MIN_SHARE, _MAX_PLACES = 0.05, 20
_TIMES = ("from_s", "to_s", "at_s")


@dataclass(frozen=True, slots=True)
class DoubtfulPlace:
    """A part of a track that is worth a look.

    Attributes:
        doubt: score of its most doubtful frame, 0…1.
        track, person: number of the track, and its person if known.
        at_s, from_s, to_s: as in `Doubt`.
        reasons: the reasons, the weightiest first.
    """

    doubt: float
    track: int
    person: str
    at_s: float
    from_s: float
    to_s: float
    reasons: list[str]


def most_doubtful(tracks: Iterable[tuple[int, str, Iterable[Doubt]]]) -> list[DoubtfulPlace]:
    """Returns the most doubtful places of a run, the worst first.

    Args:
        tracks: number, person and doubts of each track.
    """
    places = [
        DoubtfulPlace(round(one.score, 3), track, person, one.at_s, one.from_s, one.to_s, one.reasons)
        for track, person, doubts in tracks
        for one in doubts
    ]
    return sorted(places, key=lambda place: (-place.doubt, place.track, place.at_s))[:_MAX_PLACES]
