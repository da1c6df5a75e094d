"""The list in an unfinished folder of stills: which film they are of, and when each still begins and ends."""

from __future__ import annotations

import glob
import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from rtface.redaction import is_url

NAME = "unfinished.txt"
_LINE = re.compile(r"(.+) ([\d.]+) ([\d.]+)\n")
# When a frame ends is a guess where the frame rate varies: the next may begin so much later.
_LATER_S = 1.0


@dataclass(frozen=True, slots=True)
class UnfinishedFolder:
    """An unfinished folder of stills.

    Attributes:
        path: the folder.
        film: the input as the list names it.
        names: of its stills, in order.
        begin, end: of the last still, seconds from the film's beginning; 0 without one.
    """

    path: Path
    film: str
    names: tuple[str, ...] = ()
    begin: float = 0.0
    end: float = 0.0

    @property
    def count(self) -> int:
        """Number of its stills."""
        return len(self.names)

    def goes_on_at(self, start: float | None) -> bool:
        """Whether a run that begins at `start` seconds continues it."""
        return start is not None and self.begin < start <= self.end + _LATER_S


def film_name(path: str) -> str:
    """An input as a list names it: one line, the same from wherever the run was started."""
    return " ".join((path if is_url(path) else str(Path(path).resolve())).split("\n"))


class StillsList:
    """The list while stills are written.

    Args:
        folder: the unfinished folder.
        film: the input, for a folder that has no list yet; None to continue a list.

    Raises:
        OSError: the list cannot be made.
    """

    def __init__(self, folder: Path, film: str | None) -> None:
        # Names that are no valid Unicode come through as they are.
        self._file = (folder / NAME).open("a" if film is None else "x", encoding="utf-8", errors="surrogateescape")
        if film is not None:
            self._add(f"stills of {film_name(film)}\n")

    def add(self, name: str, begin: Fraction, end: Fraction) -> None:
        """Notes a still that was written; raises OSError."""
        self._add(f"{name} {float(begin):.6f} {float(end):.6f}\n")

    def close(self) -> None:
        """Closes the list; safe to call twice."""
        self._file.close()

    def _add(self, line: str) -> None:
        self._file.write(line)
        self._file.flush()


def read_part(folder: Path) -> UnfinishedFolder | None:
    """What an unfinished folder holds; None for a folder that no run of rtface made, or that is finished."""
    try:
        text = (folder / NAME).read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    head, *lines = text.splitlines(keepends=True) or [""]
    if not head.startswith("stills of ") or not head.endswith("\n"):
        return None
    found = [match for line in lines if (match := _LINE.fullmatch(line))]  # a killed run may have left half a line
    while found and not (folder / found[-1][1]).is_file():
        found.pop()
    film = head[len("stills of ") : -1]
    if not found:
        return UnfinishedFolder(folder, film)
    return UnfinishedFolder(folder, film, tuple(match[1] for match in found), float(found[-1][2]), float(found[-1][3]))


def unfinished_folders(folder: Path, film: str) -> list[UnfinishedFolder]:
    """The unfinished folders next to `folder` with stills of a film that were to go into it."""
    pattern = f"{glob.escape(folder.stem)}.partial*{glob.escape(folder.suffix)}"
    parts = [read_part(path) for path in sorted(folder.parent.glob(pattern))] if folder.parent.is_dir() else []
    return [part for part in parts if part is not None and part.count and part.film == film_name(film)]
