"""Quality levels, and the level of each face; for `rtface.quality.governor`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rtface.protocols import MEMORY_S

# Distances of keyframes, the shortest and the longest of which also separate what an engine is used for. A new
# distance may be put between; docs/live.md and `rtface.quality.governor` name them.
KEYFRAME_EVERY = (2, 4, 8)
FULL, PASS_THROUGH = "full", "pass-through"
"""Names of the highest level, and of a face that is left as it is."""
_MEMORY_S = 0.9 * MEMORY_S  # a frame that comes late must not lose a recurrent engine's memory


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
    """A face that is to be corrected.

    Attributes:
        track: its id.
        width: display pixels; the largest keeps its quality longest.
        engine: name of the engine that suits it.
        memory: whether the engine of every frame is recurrent, so that keyframes must be close.
        heavy: whether `engine` is not waited for: the light engine runs on every frame too
            (`rtface.enhance.keyframes.scheduler`).
    """

    track: int
    width: float
    engine: str
    memory: bool = True
    heavy: bool = False


@dataclass(frozen=True, slots=True)
class FaceDecision:
    """What to do with one face of one frame.

    Attributes:
        engine: whose crop to cut, "" to leave the face alone.
        key: whether the engine is to run.
        strength: 0…1, to multiply the correction with.
        share: 0…1 of this engine in it; the rest is the engine's before it.
    """

    engine: str
    key: bool
    strength: float = 1.0
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class LevelChange:
    """One step of one face, for the status line and the report: seconds, the track's id, levels by name, and why."""

    time: float
    track: int
    before: str
    after: str
    why: str


@dataclass(slots=True)
class FaceQuality:
    """State of one face: its level and what is fading.

    Attributes:
        trial: since when a level is tried without being shown; None for none.
    """

    track: int
    levels: tuple[QualityLevel, ...]
    at: int
    width: float
    seen: float
    since_key: int = 0  # frames since its last keyframe
    due: bool = False  # this is one
    strength: float = 1.0
    share: float = 1.0
    engine: str = ""  # that it was last done by
    fades: bool = True  # whether one engine can fade into another
    trial: float | None = None

    @property
    def level(self) -> QualityLevel:
        return self.levels[self.at]

    @property
    def shown_at(self) -> int:
        """The level by which it is shown."""
        return self.at if self.trial is None else len(self.levels) - 1

    @property
    def height(self) -> int:
        """Number of levels below it."""
        return len(self.levels) - 1 - self.at


def levels_for(face: FaceDemand, light: str | None, period: float, carries: bool) -> tuple[QualityLevel, ...]:
    """The levels of a face, from the highest down.

    Args:
        face: with the engine that suits it.
        light: name of the engine that is taken where that is too dear; None for no such step.
        period: seconds from one frame to the next.
        carries: whether the device can do without an engine between keyframes (`Device.carries`). A heavy engine's
            keyframes ask nothing of it, so that level is there in either case.
    """
    first = face.engine
    light = light if light != first else None
    if not carries:
        return (QualityLevel(first), *([QualityLevel(light)] if light else []), QualityLevel(""))
    pace = [n for n in KEYFRAME_EVERY if n * period <= _MEMORY_S or not face.memory]
    low = [QualityLevel(light, n) for n in pace] if light else []
    if face.heavy and light:
        # Its answers are there whatever else there is time for. What costs is to show them.
        return (QualityLevel(first), *low, QualityLevel(""))
    # A large engine on every 8th frame is not better than the light one on every 2nd.
    high = [QualityLevel(first, n) for n in pace if not low or n < KEYFRAME_EVERY[-1]]
    return (QualityLevel(first), *high, *low, QualityLevel(""))


def name_of(levels: Sequence[QualityLevel], at: int) -> str:
    """A level in a word: "full", "key/2", "small key/2", "pass-through"."""
    level = levels[at]
    if not level.engine:
        return PASS_THROUGH
    words = ["small"] * (level.engine != levels[0].engine) + [f"key/{level.every}"] * (level.every > 1)
    return " ".join(words) or FULL
