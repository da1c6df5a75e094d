"""How strongly a face is corrected on one frame: all factors, by name."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rtface.correct.mask import smooth_ramp
from rtface.frame import Face, Frame
from rtface.geometry.transforms import display_size
from rtface.quality.governor import UNSEEN_STRENGTH

# Degrees of yaw from which on a correction is weaker, and at which there is none: engines are trained on faces that
# hardly turn. Of ten portraits in a call the five turned by 39 to 45 degrees lose 0.004 of their identity to rtface-m,
# those turned by 50 to 58 lose 0.019, and with this rule 0.012; of the gain 0.22 of 0.23 dB stay.
_TURNED, _PROFILE = 45.0, 75.0
# Shares of a face's mesh in the frame at which a film's correction has gone, and up to which it is whole: the tracker
# loses a face at half.
_LEAVING = 0.5, 0.62


@dataclass(frozen=True, slots=True)
class Strength:
    """The factors of a face's correction on one frame; their product is applied. All 0…1 but `decided`.

    Attributes:
        asked: of the run, or of the shot.
        decided: of the treatment, by what is wrong with the face, 0…1.5.
        vivid: less for an engine that makes up detail; it fades where the engine changes.
        pose: less for a face that is turned away.
        edge: less for a face that the frame's edge cuts.
        person: what is asked for its person.
        level: fades where time is short (`rtface.quality.governor`).
        guard: less where the person would change.
        detail: not a factor, but how much fine detail is added once more, 0…1.5 (`rtface.correct.detail`): by the look,
            the engine, and how damaged the face is.
    """

    asked: float = 1.0
    decided: float = 1.0
    vivid: float = 1.0
    pose: float = 1.0
    edge: float = 1.0
    person: float = 1.0
    level: float = 1.0
    guard: float = 1.0
    detail: float = 0.0

    @property
    def wanted(self) -> float:
        """Strength that people ask for: of the run and of the person."""
        return self.asked * self.person

    @property
    def applied(self) -> float:
        """What the correction is multiplied with, 0…1.5."""
        wanted = self.asked * self.pose * self.edge * self.person
        return self.decided * self.vivid * wanted * self.level * self.guard

    @property
    def seen(self) -> bool:
        """Whether the correction is shown: more than an invisible trial."""
        return self.applied > UNSEEN_STRENGTH

    def with_(self, **factors: float) -> Strength:
        """The same with other factors."""
        return replace(self, **factors)


def strength_by_edge(face: Face, frame: Frame) -> float:
    """The share of the strength, 0…1, for a face that the frame's edge cuts: by the part of it that is still there."""
    if face.mesh is None or frame.new:
        return 1.0
    size = display_size(frame.image.width, frame.image.height, frame.display)
    if (face.box[:2] > 0.0).all() and (face.box[2:] < size).all():
        return 1.0
    there = (face.mesh[:, :2] > 0.0) & (face.mesh[:, :2] < size)
    return smooth_ramp(float(there.all(1).mean()), *_LEAVING)


def of_vivid(strength: float) -> float:
    """The strength, 0…1, of an engine that makes up detail, by the predicted one, 0…1.5: made-up detail is an error of
    its own, which counts where coding left little."""
    return min(strength * strength, 1.0)


def strength_on(frame: Frame, face: Face, known: Strength, decided: float) -> Strength:
    """The factors of a face's strength on this frame, with what is known of it and decided."""
    pose = 1.0 if face.pose is None else 1.0 - smooth_ramp(abs(face.pose[0]), _TURNED, _PROFILE)
    return known.with_(decided=decided, pose=pose, edge=strength_by_edge(face, frame))
