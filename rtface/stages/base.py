"""The base class of stages, and the facts of a run that a stage gets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from rtface.frame import Frame


@dataclass(frozen=True, slots=True)
class Run:
    """The facts of a run that `Stage.begin` gets.

    Attributes:
        live: whether frames come from a camera or stream.
        origin: `Frame.time` at which the film or the run began.
        begins: `Frame.time` at which a film's output begins, later than `origin` after ``--start``; None where the
            first frame is the first of the output (live runs, stills, single frames).
    """

    live: bool = False
    origin: float = 0.0
    begins: float | None = None

    def elapsed(self, frame: Frame) -> float:
        """Seconds since the film or the run began."""
        return frame.time - self.origin


class Stage(ABC):
    """Draws on frames between the enhancement and the output; docs/stages.md says what the interface promises.

    A class with ``api`` and ``__call__`` need not derive from it: what it lacks is taken from here.

    Attributes:
        api: the version of this interface that the class was written for, 1; every stage has to say it.
        needs_before: frames carry `Frame.before`, a copy of the decoded frame.
        hides: the stage hides faces: where it fails, the whole frame is blurred.
        commercial_use: False has ``--commercial-use`` refuse the stage.
        licence: named in that refusal.
    """

    api: ClassVar[int]
    needs_before: ClassVar[bool] = False
    hides: ClassVar[bool] = False
    commercial_use: ClassVar[bool] = True
    licence: ClassVar[str] = "its licence"

    def begin(self, run: Run) -> None:  # noqa: B027 - a stage may leave it out
        """Called once before the first frame."""

    @abstractmethod
    def __call__(self, frame: Frame) -> Frame:
        """The frame with a changed image of the same size and format, or the frame itself.

        `frame.image` is in memory of the host, may be written to, and has a format that `rtface.geometry.planes` knows.
        What it raises costs this frame the stage's work and nothing else.
        """

    def close(self) -> None:  # noqa: B027
        """Called once after the last frame."""
