"""Computes the strength of a face's correction as a product of factors."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rtface.correct.mask import smooth_ramp
from rtface.frame import Face, Frame
from rtface.geometry.transforms import display_size
from rtface.quality.governor import UNSEEN_STRENGTH

# A correction weakens from `_TURNED_DEG` of yaw on and is 0 at `_PROFILE_DEG`, because engines were trained on faces
# that hardly turn. Of ten portraits, the five turned by 39 to 45 degrees lose 0.004 of their identity to rtface-m. The
# five turned by 50 to 58 degrees lose 0.019; with this rule, they lose 0.012, and the gain falls from 0.23 to 0.22 dB.
_TURNED_DEG, _PROFILE_DEG = 45.0, 75.0
# Shares of a face's mesh inside the frame at which a film's correction is 0 and full. Below half, tracking ends.
_EDGE_SHARES = 0.5, 0.62


@dataclass(frozen=True, slots=True)
class Strength:
    """The factors of a face's correction on one frame. The product of all but `detail` is applied. Factors
    are 0…1 unless stated.

    Attributes:
        asked: strength of the run, or of the shot.
        decided: strength of the treatment, which depends on the damage to the face, 0…1.5.
        vivid: factor that is lower for an engine that invents detail; changes gradually when the engine changes.
        pose: factor that is lower for faces that are turned away.
        edge: factor that is lower for faces cut by the frame's edge.
        person: strength set for this person.
        level: factor that fades when time is short (`rtface.quality.governor`).
        guard: factor that is lower if the full correction would change the person.
        detail: how much lost fine detail is added, 0…1.5 (`rtface.correct.detail`); depends on the look, the engine,
            and the damage to the face.
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
        """Strength that the user sets: that of the run times that of the person."""
        return self.asked * self.person

    @property
    def applied(self) -> float:
        """Factor of the correction, 0…1.5."""
        wanted = self.asked * self.pose * self.edge * self.person
        return self.decided * self.vivid * wanted * self.level * self.guard

    @property
    def seen(self) -> bool:
        """Whether the correction is visible; trials of a quality level are not."""
        return self.applied > UNSEEN_STRENGTH

    def with_(self, **factors: float) -> Strength:
        """Returns a copy with some factors replaced."""
        return replace(self, **factors)


def strength_by_edge(face: Face, frame: Frame) -> float:
    """Returns the factor, 0…1, for a face cut by the frame's edge."""
    if face.mesh is None or frame.new:
        return 1.0
    size = display_size(frame.image.width, frame.image.height, frame.display)
    x0, y0, x1, y1 = face.box.tolist()
    if x0 > 0.0 and y0 > 0.0 and x1 < size[0] and y1 < size[1]:
        return 1.0
    inside = (face.mesh[:, :2] > 0.0) & (face.mesh[:, :2] < size)
    return smooth_ramp(float(inside.all(1).mean()), *_EDGE_SHARES)


def of_vivid(strength: float) -> float:
    """Converts a predicted strength, 0…1.5, for an engine that invents detail. The result, 0…1, is reduced for faces
    with little damage, because invented detail is itself an error."""
    return min(strength * strength, 1.0)


def strength_on(frame: Frame, face: Face, factors: Strength, decided: float) -> Strength:
    """Returns `factors` with the decided strength, pose and edge of a frame."""
    pose = 1.0 if face.pose is None else 1.0 - smooth_ramp(abs(face.pose[0]), _TURNED_DEG, _PROFILE_DEG)
    return factors.with_(decided=decided, pose=pose, edge=strength_by_edge(face, frame))
