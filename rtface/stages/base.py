"""The base class of stages, and their facts of a run."""

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
        """Returns the seconds since the film or the run began."""
        return frame.time - self.origin


class Stage(ABC):
    """Draws on frames between enhancement and output. docs/stages.md specifies the interface.

    A class with ``api`` and ``__call__`` need not derive from it: missing attributes get the defaults here.

    Attributes:
        api: the version of this interface that the class was written for, 1; required for every stage.
        needs_before: frames carry `Frame.before`, a copy of the decoded frame.
        hides: the stage hides faces: where it fails, the whole frame is blurred.
        commercial_use: False makes ``--commercial-use`` refuse the stage.
        licence: for the message of that refusal.
    """

    api: ClassVar[int]
    needs_before: ClassVar[bool] = False
    hides: ClassVar[bool] = False
    commercial_use: ClassVar[bool] = True
    licence: ClassVar[str] = "its licence"

    def begin(self, run: Run) -> None:  # noqa: B027 - a stage may leave it out
        """Prepares the stage, once before the first frame."""

    @abstractmethod
    def __call__(self, frame: Frame) -> Frame:
        """Returns the frame, or a copy with a changed image. The image must keep its size and format.

        `frame.image` is in host memory, is writable, and has a format that `rtface.geometry.planes` supports.
        An exception only means that this frame lacks the stage's work.
        """

    def close(self) -> None:  # noqa: B027
        """Releases the stage, once after the last frame."""
