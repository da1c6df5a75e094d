"""Quality levels, and the level of each face; for `rtface.quality.governor`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rtface.protocols import MEMORY_S

# Distances between keyframes, in frames. At the longest distance, a light engine replaces a larger one. New distances
# may be inserted; docs/live.md and `rtface.quality.governor` list all of them.
KEYFRAME_EVERY = (2, 4, 8)
FULL, PASS_THROUGH = "full", "pass-through"
"""Names of the highest level, and of no correction."""
_MEMORY_S = 0.9 * MEMORY_S  # a late frame must not lose a recurrent engine's state


@dataclass(frozen=True, slots=True)
class QualityLevel:
    """A quality level: which engine processes a face, and how often.

    Attributes:
        engine: name of the engine; "" for none.
        every: frames from one run of the engine to the next.
    """

    engine: str
    every: int = 1


@dataclass(frozen=True, slots=True)
class FaceDemand:
    """A face to correct.

    Attributes:
        track: its id.
        width: width in display pixels; the largest face keeps its quality longest.
        engine: name of the engine that suits it.
        memory: whether the engine of every frame is recurrent and needs close keyframes.
        heavy: whether `engine` is so slow that frames do not wait for it. In this case the light engine also runs on
            every frame (`rtface.enhance.keyframes.scheduler`).
    """

    track: int
    width: float
    engine: str
    memory: bool = True
    heavy: bool = False


@dataclass(frozen=True, slots=True)
class FaceDecision:
    """The decision for one face on one frame.

    Attributes:
        engine: name of the engine, which determines the crop; "" leaves the face unchanged.
        key: whether the engine runs.
        strength: factor of the correction, 0…1.
        share: weight of this engine in the correction, 0…1; the previous engine has 1 - `share`.
    """

    engine: str
    key: bool
    strength: float = 1.0
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class LevelChange:
    """A level change of a face, for status line and report: time in seconds, track id, names of levels, reason."""

    time: float
    track: int
    before: str
    after: str
    why: str


@dataclass(slots=True)
class FaceQuality:
    """The state of one face: its level and fades.

    Attributes:
        trial: start time of an invisible trial of a level; None without a trial.
    """

    track: int
    levels: tuple[QualityLevel, ...]
    at: int
    width: float
    seen: float
    since_key: int = 0  # frames since its last keyframe
    due: bool = False  # whether this frame is a keyframe
    strength: float = 1.0
    share: float = 1.0
    engine: str = ""  # the last engine used
    fades: bool = True  # whether one engine can fade into another
    trial: float | None = None

    @property
    def level(self) -> QualityLevel:
        return self.levels[self.at]

    @property
    def shown_at(self) -> int:
        """The visible level."""
        return self.at if self.trial is None else len(self.levels) - 1

    @property
    def height(self) -> int:
        """Number of levels below the current one."""
        return len(self.levels) - 1 - self.at


def levels_for(face: FaceDemand, light: str | None, period: float, carries: bool) -> tuple[QualityLevel, ...]:
    """Returns the levels of a face, highest first.

    Args:
        face: the face, with the engine that suits it.
        light: name of the engine to use if the suitable one is too slow; None if there is none.
        period: seconds from one frame to the next.
        carries: whether the device needs no engine between keyframes (`Device.carries`). The level of a heavy engine's
            keyframes always exists, because it does not depend on this.
    """
    first = face.engine
    light = light if light != first else None
    if not carries:
        return (QualityLevel(first), *([QualityLevel(light)] if light else []), QualityLevel(""))
    distances = [n for n in KEYFRAME_EVERY if n * period <= _MEMORY_S or not face.memory]
    low = [QualityLevel(light, n) for n in distances] if light else []
    if face.heavy and light:
        # A heavy engine's results arrive at any load. Only applying them costs time.
        return (QualityLevel(first), *low, QualityLevel(""))
    # A large engine on every 8th frame is not better than the light engine on every 2nd.
    high = [QualityLevel(first, n) for n in distances if not low or n < KEYFRAME_EVERY[-1]]
    return (QualityLevel(first), *high, *low, QualityLevel(""))


def name_of(levels: Sequence[QualityLevel], at: int) -> str:
    """Returns a level's name: "full", "key/2", "small key/2", "pass-through"."""
    level = levels[at]
    if not level.engine:
        return PASS_THROUGH
    parts = ["small"] * (level.engine != levels[0].engine) + [f"key/{level.every}"] * (level.every > 1)
    return " ".join(parts) or FULL
