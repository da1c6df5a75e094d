"""Defines the base class of stages, and information about their run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from rtface.frame import Frame


@dataclass(frozen=True, slots=True)
class Run:
    """Holds information about a run, for `Stage.begin`.

    Attributes:
        live: whether frames come from a camera or stream.
        origin: `Frame.time` at which the film or the run began.
        begins: `Frame.time` at which a film's output begins, later than `origin` after ``--start``; None if the
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

    A class with ``api`` and ``__call__`` need not derive from this one: missing attributes get these defaults.

    Attributes:
        api: version of this interface for which the class was written, currently 1; required.
        needs_before: whether frames must have `Frame.before`, a copy of the decoded frame.
        hides: whether the stage hides faces; if it fails, the whole frame is blurred.
        commercial_use: False makes ``--commercial-use`` reject the stage.
        licence: the stage's licence, for the message of the rejection.
    """

    api: ClassVar[int]
    needs_before: ClassVar[bool] = False
    hides: ClassVar[bool] = False
    commercial_use: ClassVar[bool] = True
    licence: ClassVar[str] = "its licence"

    def begin(self, run: Run) -> None:  # noqa: B027 - optional for a stage
        """Prepares the stage. It is called once, before the first frame."""

    @abstractmethod
    def __call__(self, frame: Frame) -> Frame:
        """Returns the frame, or a copy with a changed image. The image must keep its size and format.

        `frame.image` is in host memory, is writable, and has a format that `rtface.geometry.planes` supports.
        After an exception, this frame lacks the stage's drawing; the run continues.
        """

    def close(self) -> None:  # noqa: B027
        """Releases the stage. It is called once, after the last frame."""
