"""Stages that do something known, or fail."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

from rtface.stages import Canvas, Frame, Run, option, state
from rtface.util.parse import choice, path

sys.modules["trial_stages"] = sys.modules[__name__]  # what --stage trial_stages.NAME imports

closed: list[str] = []
begun: list[Run] = []
seen: list[Frame] = []


@dataclass
class Bar:
    """A bar at the upper edge."""

    api = 1
    red: int = option(255, "0…255")
    height: float = option(8.0, "in pixels")
    where: str = option("all", "all or half", choice("all", "half"))
    solid: bool = option(True, "or half transparent")
    label: str = ""
    _count: dict[str, int] = state(dict)

    def begin(self, run: Run) -> None:
        begun.append(run)

    def __call__(self, frame: Frame) -> Frame:
        canvas = Canvas(frame)
        width = canvas.width if self.where == "all" else canvas.width / 2
        canvas.fill((0, 0, width, self.height), (self.red, 0, 0), 1.0 if self.solid else 0.5)
        return canvas.frame

    def close(self) -> None:
        closed.append("bar")


@dataclass
class Reader:
    """Has options that name files in every way."""

    api = 1
    file: str = ""
    font: str = option("", "a font")
    mask: Path | None = option(None, "an image", path)
    place: Path = Path("folder")
    text: str = ""
    template: str = "bar"

    def __call__(self, frame: Frame) -> Frame:
        return frame


@dataclass
class Needs:
    """Puts the untouched picture into the left half and keeps what it saw."""

    api = 1
    needs_before = True

    def __call__(self, frame: Frame) -> Frame:
        seen.append(frame)
        canvas = Canvas(frame)
        canvas.show(frame.before, (0, 0, canvas.width / 2, canvas.height))
        return canvas.frame


@dataclass
class Fails:
    """Draws and then raises on the pictures from `first` on, every `every`."""

    api = 1
    first: int = option(0)
    every: int = option(1)
    how: str = option("raise")

    def __call__(self, frame: Frame) -> Frame:
        canvas = Canvas(frame)
        if frame.pts < self.first or frame.pts % self.every:
            return frame
        canvas.fill((0, 0, canvas.width, canvas.height), (0, 255, 0))
        if self.how == "none":
            return None
        if self.how == "size":
            return replace(frame, image=frame.image.reformat(width=16, height=16))
        raise RuntimeError("it fails here")

    def close(self) -> None:
        closed.append("fails")


@dataclass
class Hides(Fails):
    """Privacy that fails."""

    hides = True


class Plain:
    """A class without options."""

    api = 1

    def __call__(self, frame: Frame) -> Frame:
        return frame


class Needy(Plain):
    """Cannot begin."""

    def begin(self, run: Run) -> None:
        raise OSError("no such device")


@dataclass
class Asks(Plain):
    """Has an option without a default."""

    name: str = option(help="who")


class Future(Plain):
    api = 2


class Past(Plain):
    api = 0


class Without:
    def __call__(self, frame: Frame) -> Frame:
        return frame


class Unreadable(Exception):
    """An error whose own text fails."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


@dataclass
class Broken:
    """Fails where it is asked about itself, made, begun or closed, as `where` says."""

    api = 1
    where: str = option("hides")

    def __post_init__(self) -> None:
        if self.where == "make":
            raise RuntimeError

    @property
    def hides(self) -> bool:
        if self.where == "hides":
            raise Unreadable
        return False

    def begin(self, run: Run) -> None:
        if self.where == "begin":
            raise RuntimeError

    def __call__(self, frame: Frame) -> Frame:
        return frame

    def close(self) -> None:
        if self.where == "close":
            raise RuntimeError
