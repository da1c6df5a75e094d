"""Which faces a contact sheet shows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rtface.contact_sheet.search import Sighting

# Of a face of less severity there is little to be seen.
_DEGRADED = 0.16
_OTHERS = 2
# Display pixels; on a narrower face little can be judged.
_JUDGED = 48.0


@dataclass(frozen=True, slots=True)
class ChosenFace:
    """A face for the sheet.

    Attributes:
        face: the sighting that is shown.
        why: "worst" or "largest".
        others: further sightings of the track, the best first, where that one cannot be shown.
    """

    face: Sighting
    why: str
    others: tuple[Sighting, ...] = ()


def choose(faces: Iterable[Sighting], count: int) -> list[ChosenFace]:
    """Up to `count` faces, the most telling first.

    The worst (highest severity), the largest, then in turn the next worst and the next largest. Each is of another
    track and, while there is a telling one, of a person who is not shown yet, then of a scene that is not shown yet.
    For a face of an unknown person another scene is the best sign of another person. Telling are whole faces of 48 px
    and more that a run would treat. Tracks of one sighting of which the tracker was not sure at once come last: some
    are ears or hands.

    Returns:
        At most one sighting for each track: of the worst its worst, of the largest its largest.
    """
    tracks: dict[int, list[Sighting]] = {}
    for face in faces:
        tracks.setdefault(face.track, []).append(face)
    doubtful = {number for number, track in tracks.items() if len(track) == 1 and not track[0].sure}
    worst = sorted((max(track, key=_badness) for track in tracks.values()), key=_badness, reverse=True)
    largest = sorted((max(track, key=_size) for track in tracks.values()), key=_size, reverse=True)
    for order in worst, largest:
        order.sort(key=lambda face: face.track in doubtful)
    chosen: list[ChosenFace] = []
    shown_tracks, shown_scenes, shown_persons = set[int](), set[int](), set[int]()

    def rank(face: Sighting) -> int:
        elsewhere = face.scene not in shown_scenes
        if not (face.whole and face.width >= _JUDGED and face.severity >= _DEGRADED) or face.track in doubtful:
            return 2
        return 0 if (face.person not in shown_persons if face.person else elsewhere) else 1 if elsewhere else 2

    while len(chosen) < min(count, len(tracks)):
        order, why = ((worst, "worst"), (largest, "largest"))[len(chosen) % 2]
        face = min((face for face in order if face.track not in shown_tracks), key=rank)
        others = sorted(
            (one for one in tracks[face.track] if one is not face),
            reverse=True,
            key=_badness if why == "worst" else _size,
        )
        chosen.append(ChosenFace(face, why, tuple(others[:_OTHERS])))
        shown_tracks.add(face.track)
        shown_scenes.add(face.scene)
        shown_persons.add(face.person)
    return chosen


def _badness(face: Sighting) -> tuple[bool, float, float]:
    return face.whole and face.width >= _JUDGED, face.severity, face.width


def _size(face: Sighting) -> tuple[bool, float, float]:
    return face.whole and face.severity >= _DEGRADED, face.width, face.severity
