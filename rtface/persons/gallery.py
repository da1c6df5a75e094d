"""Stores the persons of a run and their tracks, in memory only."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rtface.frame import Float32
from rtface.util.parse import UNKNOWN_PERSON

JOIN = 0.33
"""Maximum distance of two embeddings (of length 1) that count as one person's. 1 in 4,000 pairs of different people in
calls is closer (docs/persons.md)."""
JOIN_ONLY = 0.34
"""The same if only one name is given, until another person is seen. Of 200 other people, 0.05 to 0.07 are mistaken for
that person (benchmarks/README.md)."""
MARGIN = 0.03
"""Minimum additional distance of the second nearest person; otherwise the face stays unknown."""
_PHOTO_WEIGHT = 4.0
"""Weight of a person's photos, in tracks."""


def distance(a: Float32, b: Float32) -> float:
    """Returns the Euclidean distance of two embeddings of length 1, 0…2."""
    return float(np.linalg.norm(a - b))


def mean(embeddings: Sequence[Float32], weights: Sequence[float] | None = None) -> Float32:
    """Returns the mean direction of embeddings, of length 1."""
    total = np.average(np.stack(embeddings), axis=0, weights=weights)
    return np.asarray(total / max(float(np.linalg.norm(total)), 1e-9), np.float32)


def packed(embedding: Float32) -> str:
    """Encodes an embedding as text."""
    return base64.b64encode(embedding.astype("<f4").tobytes()).decode()


def unpacked(text: str) -> Float32:
    """Decodes an embedding from the text that `packed` returned."""
    return np.frombuffer(base64.b64decode(text), "<f4").astype(np.float32)


@dataclass(slots=True, eq=False)
class Person:
    """Holds one person's embeddings.

    Attributes:
        number: number from 1, in order of appearance; 0 for a named person who has not appeared.
        name: name that the user gave with photos; empty if there is none.
        photos: mean embedding of the photos.
        tracks: embedding of each of the person's tracks, by track id.
    """

    number: int = 0
    name: str = ""
    photos: Float32 | None = None
    tracks: dict[int, Float32] = field(default_factory=dict[int, Float32])

    @property
    def label(self) -> str:
        """Label for options, report and tags: the name, else P and the number."""
        return self.name or f"P{self.number}"

    def embedding(self, without: int = 0) -> Float32 | None:
        """Returns the mean of photos and tracks; None if there are none.

        Args:
            without: number of a track to leave out.
        """
        embeddings = [embedding for track, embedding in self.tracks.items() if track != without]
        weights = [1.0] * len(embeddings)
        if self.photos is not None:
            embeddings, weights = [*embeddings, self.photos], [*weights, _PHOTO_WEIGHT]
        return mean(embeddings, weights) if embeddings else None


class Gallery:
    """Joins tracks to persons. Not thread-safe.

    Args:
        photos: embeddings of each named person's photos.
        several: whether persons without a name get numbers; otherwise they are unknown.
        assigned: names by label or track ("P2", "5"), which override the embeddings.
    """

    def __init__(
        self,
        photos: Mapping[str, Sequence[Float32]] | None = None,
        *,
        several: bool = True,
        assigned: Mapping[str, str] | None = None,
    ) -> None:
        self._named = [Person(name=name, photos=mean(embeddings)) for name, embeddings in (photos or {}).items()]
        self._auto_number, self._assigned = several, assigned or {}
        self._persons: list[Person] = list(self._named)
        self._by_track: dict[int, Person] = {}
        self._seen_with: dict[int, set[int]] = {}
        self._numbers = 0

    @property
    def persons(self) -> list[Person]:
        """The persons who appeared, by number."""
        return sorted((person for person in self._persons if person.number), key=lambda person: person.number)

    def state(self) -> dict[str, Any]:
        """Returns the state for `restore` as JSON values, without photos."""
        return {
            "persons": [
                {
                    "number": person.number,
                    "name": person.name,
                    "tracks": {str(track): packed(one) for track, one in person.tracks.items()},
                }
                for person in self.persons
            ],
            "together": {str(track): sorted(others) for track, others in self._seen_with.items()},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continues from a `state`. Photos must be the same, and no track may have been added."""
        named = {person.name: person for person in self._named}
        for values in state["persons"]:
            person = named.get(values["name"]) or Person()
            if not person.name:
                self._persons.append(person)
            person.number = values["number"]
            person.tracks = {int(track): unpacked(text) for track, text in values["tracks"].items()}
            self._by_track |= dict.fromkeys(person.tracks, person)
            self._numbers = max(self._numbers, person.number)
        self._seen_with = {int(track): set(others) for track, others in state["together"].items()}

    def person_of(self, track: int) -> Person | None:
        """Returns the person of a track; None while unknown."""
        return self._by_track.get(track)

    def label_of(self, track: int) -> str:
        """Returns the label of a track's person; "unknown" if none was recognised."""
        person = self._by_track.get(track)
        label = person.label if person else UNKNOWN_PERSON
        return self._assigned.get(str(track)) or self._assigned.get(label, label)

    def seen_together(self, tracks: Iterable[int]) -> None:
        """Notes that tracks are on one frame. They must therefore be of different persons.

        If several tracks have the same person, all but the best match are released.
        """
        tracks = set(tracks)
        if len(tracks) < 2:
            return
        for track in tracks:
            self._seen_with.setdefault(track, set()).update(tracks - {track})
        by_person: dict[int, list[int]] = {}
        for track in sorted(tracks):
            if track in self._by_track:
                by_person.setdefault(id(self._by_track[track]), []).append(track)
        for person_tracks in by_person.values():
            if len(person_tracks) > 1:
                person = self._by_track[person_tracks[0]]
                best = min(person_tracks, key=lambda track: self._distance_of(person, track))
                for track in person_tracks:
                    if track != best:
                        self.release(track)

    def decide(self, track: int, embedding: Float32) -> Person | None:
        """Joins a track to the nearest or a new person. Returns None if the choice is ambiguous.

        Args:
            track: track that has no person.
            embedding: embedding of length 1.
        """
        candidates: list[tuple[float, Person]] = []
        for person in self._persons:
            is_other = not self._seen_with.get(track, set()).isdisjoint(person.tracks)
            if is_other or (other := person.embedding()) is None:
                continue
            candidates.append((distance(embedding, other), person))
        candidates.sort(key=lambda pair: pair[0])
        single = self._auto_number and len(self._named) == 1 and self._persons == self._named and not self._seen_with
        if candidates and candidates[0][0] <= (JOIN_ONLY if single else JOIN):
            if len(candidates) > 1 and candidates[1][0] - candidates[0][0] < MARGIN:
                return None
            person = candidates[0][1]
        elif self._auto_number:
            person = Person()
            self._persons.append(person)
        else:
            return None
        if not person.number:
            self._numbers += 1
            person.number = self._numbers
        person.tracks[track], self._by_track[track] = embedding, person
        return person

    def learn(self, track: int, embedding: Float32) -> None:
        """Replaces the embedding of a track that has a person."""
        self._by_track[track].tracks[track] = embedding

    def release(self, track: int) -> None:
        """Removes a track from its person."""
        person = self._by_track.pop(track, None)
        if person is not None:
            del person.tracks[track]

    def _distance_of(self, person: Person, track: int) -> float:
        other = person.embedding(without=track)
        return 0.0 if other is None else distance(person.tracks[track], other)
