"""Judges how visible a face's correction is, and explains weaker ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rtface.errors import Message

VISIBLE, CLEARLY_VISIBLE = 0.32, 0.69
"""Predicted changes from which a correction is called visible, and clearly visible: chosen by eye on 13 clips, later
checked in blind comparisons (benchmarks/README.md, "Looks")."""
SEEN_WHOLE_PX = 80.0
"""Width of a face below which a change is less visible."""
MEAN_SHARE = 0.5
"""Visible share of the change without added detail: the mean for plausible faces."""
LEFT_ALONE, HARDLY_VISIBLE, CORRECTED = "left alone", "hardly visible", "corrected"
"""The words for a face that is left alone, for an invisible change, and for a gain that was not predicted."""
SOUGHT = 0.1
"""Minimum score of a fault that is mentioned."""
MILD, _NAMES = 0.35, {"missing": "missing regions", "combed": "combed frames"}
UNCHANGED = ("under exposure", "over exposure", "low contrast")
"""Faults that no correction of a face changes, so they are not a reason to correct it."""
_WEAKER = {
    "decided": Message("more would harm it", code="because_decided"),
    "vivid": Message("more made-up detail would harm it", code="because_vivid"),
    "pose": Message("it is turned away", code="because_pose"),
    "edge": Message("the frame's edge cuts it off", code="because_edge"),
    "person": Message("a lower strength is set for this person", code="because_person"),
    "level": Message("the computer was too busy", code="because_level"),
    "guard": Message("the person would change", code="because_guard"),
}
"""Why a correction is weaker, by the smallest factor of `rtface.enhance.strength.Strength`."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Describes the verdict on one face.

    Attributes:
        word: *hardly visible*, *visible*, *clearly visible*, `CORRECTED` or `LEFT_ALONE`.
        asked: requested strength, 0…1.
        applied: applied strength, 0…1.5.
        because: reasons why `applied` is below `asked`, or why the face is left alone.
        share_of_time: share of the face's frames on which it is corrected, 0…1.
    """

    word: str
    asked: float
    applied: float
    because: tuple[str, ...] = ()
    share_of_time: float = 1.0

    def sentence(self) -> str:
        """Returns the verdict as a sentence."""
        why = "; ".join(self.because)
        if self.word == LEFT_ALONE:
            return f"{self.word}: {why}" if why else self.word
        often = f" on {_percent(self.share_of_time)} of its frames" if round(self.share_of_time, 2) < 1.0 else ""
        asked, applied = _percent(self.asked), _percent(self.applied)
        text = f"{self.word}{often}" + ("" if asked == applied == "100 %" else f": asked {asked}, applied {applied}")
        return f"{text}, because {why}" if why else text

    def to_dict(self) -> dict[str, object]:
        """Returns the verdict as JSON values. A reason with a code has the form of `Message.to_dict`."""
        because = [one.to_dict() if isinstance(one, Message) else {"code": "", "message": one} for one in self.because]
        return {
            "word": self.word,
            "asked": round(self.asked, 3),
            "applied": round(self.applied, 3),
            "because": because,
            "sentence": self.sentence(),
        }


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def verdict_on(
    treatment: Mapping[str, Any],
    *,
    applied: float,
    factors: Mapping[str, float],
    scores: Mapping[str, float],
    width: float,
    share_of_time: float = 1.0,
) -> Verdict:
    """Returns the verdict on a face.

    Args:
        treatment: "on" (it is corrected), "gain_db", "reasons" and "engine".
        applied: the applied strength, if the face is corrected.
        factors: factors of that strength, by name (`rtface.enhance.strength.Strength`).
        scores: scores of the face's degradation, by name.
        width: width of the face in display pixels.
    """
    asked, detail = factors.get("asked", 1.0), factors.get("detail", 1.0)
    factors = {name: value for name, value in factors.items() if name != "detail"}
    detail = detail if str(treatment.get("engine") or "rtface").startswith("rtface") else 1.0  # others add their own
    weaker = {name: factors.get(name, 1.0) for name in _WEAKER}
    weakest = min(weaker, key=lambda name: weaker[name])
    why = (_WEAKER[weakest],) if weaker[weakest] < 1.0 else ()
    if not treatment.get("on"):
        if factors:  # the decided strength was 0
            because = why if asked else (Message("the requested strength is 0", code="because_asked"),)
        else:
            because = (*(reasons := treatment.get("reasons", ())), *_uncorrectable(reasons, scores))
        return Verdict(LEFT_ALONE, asked, 0.0, because)
    gain = treatment.get("gain_db")
    share = asked * math.prod(value for name, value in weaker.items() if name != "decided")
    change = (gain or 0.0) * (MEAN_SHARE + detail) * min(1.0, share) * min(1.0, width / SEEN_WHOLE_PX)
    word = "clearly visible" if change >= CLEARLY_VISIBLE else "visible" if change >= VISIBLE else HARDLY_VISIBLE
    if not applied:
        why = (Message("only coding artefacts are removed", code="because_first"),)
    return Verdict(
        CORRECTED if gain is None else word, asked, applied, why if applied < 0.98 * asked else (), share_of_time
    )


def faults_of(scores: Mapping[str, float]) -> list[tuple[str, float]]:
    """Returns the faults to mention, the worst first: readable name and score."""
    worst = sorted(((value, name) for name, value in scores.items() if value >= SOUGHT), reverse=True)
    return [(_NAMES.get(name, name.replace("_", " ")), value) for value, name in worst]


def _uncorrectable(reasons: Sequence[str], scores: Mapping[str, float]) -> list[str]:
    """Returns messages about faults of a face without expected gain."""
    if "nothing to gain" not in reasons:
        return []
    faults = [(fault, score) for fault, score in faults_of(scores) if fault not in UNCHANGED]
    mild = [Message("{fault} is mild", code="because_mild", fault=fault) for fault, score in faults if score < MILD]
    lasting = [fault for fault, score in faults if score >= MILD]
    return [*(Message("no correction reduces {fault}", code="because_stays", fault=one) for one in lasting), *mild]
