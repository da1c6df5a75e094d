"""Selects the faces of a frame to enhance (`--faces`): all, the largest, or those named by track id."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from rtface.errors import UsageError
from rtface.frame import Face


@dataclass(frozen=True, slots=True)
class FaceFilter:
    """A parsed `--faces`.

    Attributes:
        largest: only the widest face of each frame.
        ids: only these track ids; None for every id.
        most: largest number of faces of a frame, the widest first.
    """

    largest: bool = False
    ids: frozenset[int] | None = None
    most: int = 8

    def in_shot(self, faces: str | None) -> FaceFilter:
        """The filter where a shot has its own `--faces`, else this one."""
        return self if faces is None else _parsed(faces, self.most)

    @classmethod
    def parse(cls, text: str, most: int = 8) -> FaceFilter:
        """Reads "all", "largest" or ids separated by commas.

        Raises:
            UsageError: anything else, or `most` below 1.
        """
        if most < 1:
            raise UsageError(f"--max-faces {most}: at least 1 face must be allowed; use --strength 0 to change nothing")
        word = text.strip().lower()
        if word == "all":
            return cls(most=most)
        if word == "largest":
            return cls(largest=True, most=most)
        parts = [part.strip() for part in word.split(",") if part.strip()]
        if not parts or not all(part.isdigit() and int(part) > 0 for part in parts):
            raise UsageError(f"--faces {text!r}: give all, largest, or track ids such as 1,3 "
                             "(rtface analyze lists the ids)")
        return cls(ids=frozenset(int(part) for part in parts), most=most)

    def __call__(self, faces: tuple[Face, ...]) -> tuple[Face, ...]:
        """The chosen faces, in the frame's order."""
        chosen = [f for f in faces if self.ids is None or f.track_id in self.ids]
        keep = 1 if self.largest else self.most
        if len(chosen) > keep:
            widest = sorted(chosen, key=lambda f: f.width, reverse=True)[:keep]
            kept = {id(f) for f in widest}
            chosen = [f for f in chosen if id(f) in kept]
        return tuple(chosen)


@lru_cache(maxsize=64)
def _parsed(text: str, most: int) -> FaceFilter:
    return FaceFilter.parse(text, most)


def missing_tracks(faces: str, treated: Iterable[int], found: Iterable[int]) -> list[str]:
    """One line for each option that named tracks which the finished run never saw.

    Args:
        faces: ``--faces``.
        treated: tracks of the treatment file.
        found: tracks of the run.
    """
    here = set(found)
    lines: list[str] = []
    chosen = FaceFilter.parse(faces).ids or frozenset[int]()
    for what, absent in ((f"--faces {faces}", chosen - here), ("the treatment file", set(treated) - here - chosen)):
        if absent:
            names = ", ".join(map(str, sorted(absent)))
            lines.append(f"{what} had no effect for track{'s' * (len(absent) > 1)} {names}: no such face came; "
                         "'rtface analyze' lists the tracks")
    return lines
