"""Selects the faces to enhance (`--faces`): all, the largest, or those of listed tracks and persons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from rtface.analysis.track_report import TrackReport
from rtface.analysis.treatment_file import Treatments
from rtface.config.options import assigned_persons
from rtface.errors import Message, UsageError
from rtface.frame import Face
from rtface.protocols import ALL_FACES
from rtface.util.parse import UNKNOWN_PERSON, is_person_name, is_person_number


@dataclass(frozen=True, slots=True)
class FaceFilter:
    """A parsed `--faces`.

    Attributes:
        largest: whether only the widest face of each frame is chosen.
        ids: ids of tracks to choose, in addition to the faces of `persons`; None chooses every face.
        persons: labels of persons (`Face.person`), in lower case.
        max_faces: maximum number of faces per frame; the widest are chosen.
    """

    largest: bool = False
    ids: frozenset[int] | None = None
    max_faces: int = ALL_FACES
    persons: frozenset[str] = frozenset()

    @property
    def before_persons(self) -> FaceFilter:
        """The filter to use before persons are recognised. It accepts every face that may be chosen later."""
        return replace(self, ids=None, persons=frozenset()) if self.persons else self

    @classmethod
    def parse(cls, text: str, max_faces: int | None = None) -> FaceFilter:
        """Parses "all", "largest", or ids and persons separated by commas.

        Raises:
            UsageError: the text is something else.
        """
        max_faces = ALL_FACES if max_faces is None else max_faces
        word = text.strip().lower()
        if word == "all":
            return cls(max_faces=max_faces)
        if word == "largest":
            return cls(largest=True, max_faces=max_faces)
        parts = [part.strip() for part in word.split(",") if part.strip()]
        ids = frozenset(int(part) for part in parts if part.isdigit() and int(part) > 0)
        persons = frozenset(part for part in parts if is_person_number(part) or is_person_name(part))
        if not parts or len(ids | persons) != len(set(parts)):
            raise UsageError(
                "{--faces:{value!r}}: use all, largest, or tracks and persons such as 1,P2 (rtface analyze lists them)",
                code="faces_form",
                value=text,
            )
        return cls(ids=ids, max_faces=max_faces, persons=persons)

    def __call__(
        self, faces: tuple[Face, ...], widest: Callable[[Sequence[Face], int], tuple[Face, ...]]
    ) -> tuple[Face, ...]:
        """Returns the chosen faces, in the frame's order.

        Args:
            widest: `HeldFaces.on` of this frame.
        """
        chosen = [f for f in faces if self.ids is None or f.track_id in self.ids or f.person.lower() in self.persons]
        return widest(chosen, 1 if self.largest else self.max_faces)


def unseen(faces: str, person: Sequence[str], treatments: Treatments, tracks: Sequence[TrackReport]) -> list[Message]:
    """Returns a message for each option that lists absent tracks or persons.

    Args:
        faces: value of ``--faces``.
        person: values of ``--person``. Their names replace numbers such as P2 in the tracks, so a number up to the
            count of persons in the film is never reported.
        treatments: content of the treatment file.
        tracks: reports of the finished run.
    """
    seen, face_filter = (
        {str(track.id) for track in tracks} | {track.person.lower() for track in tracks},
        FaceFilter.parse(faces),
    )
    chosen = {*map(str, face_filter.ids or ()), *face_filter.persons}
    treated = {*map(str, treatments.by_track), *treatments.by_person}
    assignments, track_counts = assigned_persons(person), Counter(track.person for track in tracks)
    track_counts[""] = track_counts[UNKNOWN_PERSON] = 0
    people = sum(
        min(count, 1 if is_person_number(label) else 1 + sum(name == label for name in assignments.values()))
        for label, count in track_counts.items()
    )
    absent = {key.lower() for key in assignments if key not in seen and (key.isdecimal() or int(key[1:]) > people)}
    faces_option = Message("{--faces:{faces}}", code="faces_option", faces=faces)
    person_option = Message("{--person}", code="person_by_hand")
    treatment_option = Message("the treatment file", code="treatment_file")
    return [
        Message(
            "{what} had no effect for {names}: no such face appeared; 'rtface analyze' lists tracks and persons",
            code="face_absent",
            what=what,
            names=", ".join(name.upper() if is_person_number(name) else name for name in sorted(missing)),
        )
        for what, missing in (
            (faces_option, chosen - seen),
            (person_option, absent - chosen),
            (treatment_option, treated - seen - chosen),
        )
        if missing
    ]
