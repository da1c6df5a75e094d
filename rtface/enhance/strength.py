"""How strongly a face is corrected on one frame: all factors, by name."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from rtface.quality.governor import UNSEEN_STRENGTH


@dataclass(frozen=True, slots=True)
class Strength:
    """The factors of a face's correction on one frame; their product is applied. All 0…1 but `decided`.

    Attributes:
        asked: of the run, or of the shot.
        decided: of the treatment, by what is wrong with the face, 0…1.5; of an engine that makes up detail its square.
        pose: less for a face that is turned away.
        edge: less for a face that the frame's edge cuts.
        person: what is asked for its person.
        reviewed: what a person decided of this correction.
        level: fades where time is short (`rtface.quality.governor`).
        guard: less where the person would change.
    """

    asked: float = 1.0
    decided: float = 1.0
    pose: float = 1.0
    edge: float = 1.0
    person: float = 1.0
    reviewed: float = 1.0
    level: float = 1.0
    guard: float = 1.0

    @property
    def wanted(self) -> float:
        """The product of what holds whatever is wrong with the face and whatever time there is."""
        return self.asked * self.pose * self.edge * (self.person * self.reviewed)

    @property
    def applied(self) -> float:
        """What the correction is multiplied with, 0…1.5."""
        return self.decided * self.wanted * self.level * self.guard

    @property
    def seen(self) -> bool:
        """Whether the correction is shown: more than an invisible trial."""
        return self.applied > UNSEEN_STRENGTH

    @property
    def weakest(self) -> str:
        """Name of the factor that weakens the correction most, what was asked apart; "" where none does."""
        name, value = min(list(asdict(self).items())[1:], key=lambda factor: factor[1])
        return name if value < 1.0 else ""

    def with_(self, **factors: float) -> Strength:
        """The same with other factors."""
        return replace(self, **factors)
