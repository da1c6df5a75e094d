"""Computes the strength of a face's correction on a frame, by factors."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rtface.correct.mask import smooth_ramp
from rtface.frame import Face, Frame
from rtface.geometry.transforms import display_size
from rtface.quality.governor import UNSEEN_STRENGTH

# A correction weakens from `_TURNED_DEG` of yaw on and is 0 at `_PROFILE_DEG`: engines are trained on faces that hardly
# turn. Of ten portraits in a call, the five turned by 39 to 45 degrees lose 0.004 of their identity to rtface-m. Those
# turned by 50 to 58 lose 0.019, but with this rule 0.012, while 0.22 of the 0.23 dB of gain remain.
_TURNED_DEG, _PROFILE_DEG = 45.0, 75.0
# Shares of a face's mesh inside the frame at which a film's correction is 0, and full; below half, tracking ends.
_EDGE_SHARES = 0.5, 0.62


@dataclass(frozen=True, slots=True)
class Strength:
    """The factors of a face's correction on one frame. The product of all but `detail` is applied; most are 0…1.

    Attributes:
        asked: strength of the run, or of the shot.
        decided: strength of the treatment, by the damage to the face, 0…1.5.
        vivid: factor that is lower for an engine that invents detail; it fades when the engine changes.
        pose: factor that is lower for a face that is turned away.
        edge: factor that is lower for a face that the frame's edge cuts.
        person: strength set for this person.
        level: factor that fades when time is short (`rtface.quality.governor`).
        guard: factor that is lower if the person would change.
        detail: how much fine detail is added again, 0…1.5 (`rtface.correct.detail`): by the look, the engine, and the
            damage to the face.
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
        """Strength that the user sets: the run's times the person's."""
        return self.asked * self.person

    @property
    def applied(self) -> float:
        """Factor of the correction, 0…1.5."""
        wanted = self.asked * self.pose * self.edge * self.person
        return self.decided * self.vivid * wanted * self.level * self.guard

    @property
    def seen(self) -> bool:
        """Whether the correction is visible, unlike that of a trial."""
        return self.applied > UNSEEN_STRENGTH

    def with_(self, **factors: float) -> Strength:
        """Returns a copy with some factors replaced."""
        return replace(self, **factors)


def strength_by_edge(face: Face, frame: Frame) -> float:
    """Returns the factor, 0…1, for a face cut by the frame's edge."""
    if face.mesh is None or frame.new:
        return 1.0
    size = display_size(frame.image.width, frame.image.height, frame.display)
    if (face.box[:2] > 0.0).all() and (face.box[2:] < size).all():
        return 1.0
    there = (face.mesh[:, :2] > 0.0) & (face.mesh[:, :2] < size)
    return smooth_ramp(float(there.all(1).mean()), *_EDGE_SHARES)


def of_vivid(strength: float) -> float:
    """Returns the strength, 0…1, for an engine that invents detail. The predicted strength is 0…1.5. Invented detail
    is itself an error, which matters if coding did little damage."""
    return min(strength * strength, 1.0)


def strength_on(frame: Frame, face: Face, factors: Strength, decided: float) -> Strength:
    """Returns `factors` with those of this frame and the decided strength."""
    pose = 1.0 if face.pose is None else 1.0 - smooth_ramp(abs(face.pose[0]), _TURNED_DEG, _PROFILE_DEG)
    return factors.with_(decided=decided, pose=pose, edge=strength_by_edge(face, frame))
