"""Selects the faces of a frame to enhance (`--faces`): all, the largest, or those of named tracks and persons."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from rtface.errors import Message, UsageError
from rtface.frame import Face
from rtface.protocols import ALL_FACES
from rtface.util.parse import is_person_name, is_person_number


@dataclass(frozen=True, slots=True)
class FaceFilter:
    """A parsed `--faces`.

    Attributes:
        largest: only the widest face of each frame.
        ids: only these track ids, and those of `persons`; None for every face.
        persons: labels of persons (`Face.person`), in lower case.
        most: largest number of faces of a frame, the widest first.
    """

    largest: bool = False
    ids: frozenset[int] | None = None
    most: int = ALL_FACES
    persons: frozenset[str] = frozenset()

    @property
    def before_persons(self) -> FaceFilter:
        """The faces that it may choose once their persons are known."""
        return replace(self, ids=None, persons=frozenset()) if self.persons else self

    @classmethod
    def parse(cls, text: str, most: int | None = None) -> FaceFilter:
        """Reads "all", "largest", or ids and persons separated by commas.

        Raises:
            UsageError: anything else.
        """
        most = ALL_FACES if most is None else most
        word = text.strip().lower()
        if word == "all":
            return cls(most=most)
        if word == "largest":
            return cls(largest=True, most=most)
        parts = [part.strip() for part in word.split(",") if part.strip()]
        ids = frozenset(int(part) for part in parts if part.isdigit() and int(part) > 0)
        persons = frozenset(part for part in parts if is_person_number(part) or is_person_name(part))
        if not parts or len(ids | persons) != len(set(parts)):
            raise UsageError(
                "{--faces:{value!r}}: give all, largest, or tracks and persons such as 1,P2 (rtface analyze lists "
                "them)",
                code="faces_form",
                value=text,
            )
        return cls(ids=ids, most=most, persons=persons)

    def __call__(
        self, faces: tuple[Face, ...], widest: Callable[[Sequence[Face], int], tuple[Face, ...]]
    ) -> tuple[Face, ...]:
        """The chosen faces, in the frame's order.

        Args:
            widest: `HeldFaces.on` of this frame.
        """
        chosen = [f for f in faces if self.ids is None or f.track_id in self.ids or f.person.lower() in self.persons]
        return widest(chosen, 1 if self.largest else self.most)


def missing_tracks(
    faces: str,
    treated: Iterable[int],
    found: Iterable[int],
    persons: Iterable[str] = (),
    treated_persons: Iterable[str] = (),
) -> list[str]:
    """One line for each option that named tracks or persons which the finished run never saw.

    Args:
        faces: ``--faces``.
        treated: tracks of the treatment file.
        found: tracks of the run.
        persons: of those tracks.
        treated_persons: persons of the treatment file, in lower case.
    """
    here, known, lines = set(found), {person.lower() for person in persons}, list[str]()
    wanted = FaceFilter.parse(faces)
    chosen = wanted.ids or frozenset[int]()
    named = Message("{--faces:{faces}}", code="faces_option", faces=faces)
    file = Message("the treatment file", code="treatment_file")
    for what, missed in ((named, wanted.persons - known), (file, {*treated_persons} - known - wanted.persons)):
        lines += [
            Message(
                "{what} had no effect for {name}: this person was not recognised; 'rtface analyze' lists the persons",
                code="person_absent",
                what=what,
                name=person.upper() if is_person_number(person) else person,
            )
            for person in sorted(missed)
        ]
    for what, absent in ((named, chosen - here), (file, set(treated) - here - chosen)):
        if absent:
            lines.append(
                Message(
                    "{what} had no effect for track{s} {tracks}: no such face came; 'rtface analyze' lists the tracks",
                    code="track_absent",
                    what=what,
                    s="s" * (len(absent) > 1),
                    tracks=", ".join(map(str, sorted(absent))),
                )
            )
    return lines
