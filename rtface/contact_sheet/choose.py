"""Which faces a contact sheet shows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import log2

from rtface.contact_sheet.search import Sighting

_OTHERS = 2
# Display pixels; on a narrower face little can be judged.
_JUDGED = 48.0


@dataclass(frozen=True, slots=True)
class ChosenFace:
    """A face for the sheet.

    Attributes:
        face: the sighting that is shown.
        others: further sightings of the track, the best first, where that one cannot be shown.
    """

    face: Sighting
    others: tuple[Sighting, ...] = ()


def choose(faces: Iterable[Sighting], count: int) -> list[ChosenFace]:
    """Up to `count` faces, those that gain most first.

    Each is of another track and, while there is a telling one, of a person who is not shown yet, then of a scene that
    is not shown yet. For a face of an unknown person another scene is the best sign of another person. Telling are
    whole faces of 48 px and more that gain by a correction. Tracks of one sighting of which the tracker was not sure at
    once come last: some are ears or hands.

    Returns:
        At most one sighting for each track, that which gains most.
    """
    tracks: dict[int, list[Sighting]] = {}
    for face in faces:
        tracks.setdefault(face.track, []).append(face)
    doubtful = {number for number, track in tracks.items() if len(track) == 1 and not track[0].sure}
    left = sorted((max(track, key=_worth) for track in tracks.values()), key=_worth, reverse=True)
    left.sort(key=lambda face: face.track in doubtful)
    chosen: list[ChosenFace] = []
    scenes, persons = set[int](), set[int]()

    def rank(face: Sighting) -> int:
        elsewhere = face.scene not in scenes
        if not (face.whole and face.width >= _JUDGED and face.gain) or face.track in doubtful:
            return 2
        return 0 if (face.person not in persons if face.person else elsewhere) else 1 if elsewhere else 2

    while left and len(chosen) < count:
        face = min(left, key=rank)
        left = [one for one in left if one is not face]
        others = sorted((one for one in tracks[face.track] if one is not face), key=_worth, reverse=True)
        chosen.append(ChosenFace(face, tuple(others[:_OTHERS])))
        scenes.add(face.scene)
        persons.add(face.person)
    return chosen


def _worth(face: Sighting) -> tuple[bool, float, int, float]:
    """The order of sightings; of those that hardly differ the first leaves most time for what engines remember."""
    return face.whole and face.width >= _JUDGED, round(face.gain, 1), round(8 * log2(face.width)), -float(face.time)
