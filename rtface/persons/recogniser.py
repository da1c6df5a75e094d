"""Recognises the person of each track from a few good crops."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from rtface.frame import Bytes, Face, Float32, Frame
from rtface.geometry.alignment import crop_matrix
from rtface.persons.chip import cut_chip, fitness
from rtface.persons.gallery import JOIN, Gallery, distance, mean, packed, unpacked
from rtface.protocols import View
from rtface.stats import Stats

Embedder = Callable[[Bytes], Float32]
"""Chip (uint8 150×150×3 RGB) → embedding, float32 of length 1."""

DECIDING_CROPS = 3
"""Crops needed for a decision."""
MAX_KEPT_CROPS = 6
"""Maximum number of crops stored for a track; the best are kept."""
_FIRST_S, _LATER_S, _CHECK_S = 0.12, 0.5, 3.0
"""Seconds between crops until a track is decided, until it has `MAX_KEPT_CROPS`, and from then on."""
_FACE_SIDE_PX = 256
"""Side of a face's stored image."""
_FORGET_S = 10.0
"""Seconds after which an unseen track is forgotten; its person stays in the gallery."""
_UNDECIDED_CROPS = 12
"""After this many crops without a decision, a track is sampled as rarely as a decided one."""
_CHANGED_DISTANCE = 0.45
"""A crop farther than this from its track's mean may show another person. Two such crops in a row that match each other
restart the track."""
_STRAY_DISTANCE = 0.4
"""Crops farther than this from the mean of their track's crops, such as a face behind a hand, are ignored."""


@dataclass(slots=True, eq=False)
class PersonTrack:
    """Holds the state of one track. Implements `rtface.analysis.look_ahead.Undecided`.

    Attributes:
        crops: fitness for recognition and embedding of the stored crops.
        decided: whether the track has a person, or callers should no longer wait for one.
        last_s: time at which the track was last seen, in seconds.
        tries: number of crops since the track's start or restart.
        strays: the most recent consecutive crops that may show another person.
        due: time of the next crop.
        on_settle: function that decides who the person is, from the crops so far.
        face: fitness and image of the track's best crop, uint8 RGB 256×256×3; None unless requested.
    """

    id: int
    last_s: float
    crops: list[tuple[float, Float32]] = field(default_factory=list[tuple[float, Float32]])
    decided: bool = False
    tries: int = 0
    strays: list[tuple[float, Float32]] = field(default_factory=list[tuple[float, Float32]])
    due: float = float("-inf")
    on_settle: Callable[[PersonTrack], None] = lambda track: None

    face: tuple[float, Bytes] | None = None

    def settle(self) -> None:
        """Decides who the person is, from the crops so far."""
        if not self.decided:
            self.on_settle(self)
            self.decided = True

    def embedding(self) -> Float32 | None:
        """Returns the mean of consistent crops, weighted by fitness. None if fewer than half are consistent."""
        if not self.crops:
            return None
        overall = mean([embedding for _, embedding in self.crops], [fit for fit, _ in self.crops])
        inliers = [(fit, embedding) for fit, embedding in self.crops if distance(embedding, overall) <= _STRAY_DISTANCE]
        if 2 * len(inliers) < len(self.crops) or not inliers:
            return None
        return mean([embedding for _, embedding in inliers], [fit for fit, _ in inliers])


@dataclass(frozen=True, slots=True, eq=False)
class PersonInView:
    """Describes a person who was seen in the last seconds.

    Attributes:
        label: label from `Gallery.label_of`; never "unknown".
        seconds: seconds since the person was last seen.
        face: the best image of the face in those seconds, uint8 RGB 256×256×3; None without images.
    """

    label: str
    seconds: float
    face: Bytes | None


class PersonRecogniser:
    """Recognises persons. One thread calls it for every frame, in order; any thread may call `in_view`.

    Args:
        embed: function that maps a chip to an embedding.
        gallery: the persons.
        stats: receives timings, and the number of embeddings.
        keep_faces: number of ended tracks of each person for which the best image of the face is kept; 0 keeps images
            of tracks in view only; None keeps no images.
    """

    def __init__(self, embed: Embedder, gallery: Gallery, stats: Stats, *, keep_faces: int | None = None) -> None:
        self._embed, self.gallery, self._stats, self._keep_faces = embed, gallery, stats, keep_faces
        self.tracks: dict[int, PersonTrack] = {}
        self._images: dict[int, Bytes] = {}
        self._last_sweep = self._last_time = self._learned_until = float("-inf")
        self._lock = threading.Lock()

    def state(self) -> dict[str, Any]:
        """Returns the state for `restore` as JSON values: gallery, tracks, time of the last frame."""
        return {
            "time": self._last_time,
            "gallery": self.gallery.state(),
            "tracks": [
                {
                    "id": track.id,
                    "last_s": track.last_s,
                    "decided": track.decided,
                    "tries": track.tries,
                    "due": track.due,
                    "crops": _encode(track.crops),
                    "strays": _encode(track.strays),
                }
                for track in self.tracks.values()
            ],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continues from a `state`, before the first frame. Frames up to that state's time are not learnt again."""
        self.gallery.restore(state["gallery"])
        self._last_time = self._learned_until = state["time"]
        for values in state["tracks"]:
            crops, strays = ([(fit, unpacked(text)) for fit, text in values[name]] for name in ("crops", "strays"))
            self.tracks[values["id"]] = PersonTrack(
                values["id"],
                values["last_s"],
                crops,
                values["decided"],
                values["tries"],
                strays,
                values["due"],
                self._decide,
            )

    def __call__(self, frame: Frame, view: Callable[[Frame], View]) -> list[PersonTrack]:
        """Cuts due crops from a frame, and returns its tracks.

        Args:
            frame: frame with its faces.
            view: function that makes a view of the frame.
        """
        if not frame.faces:
            return []
        if frame.time <= self._learned_until:
            return [self.tracks[face.track_id] for face in frame.faces if face.track_id in self.tracks]
        self._last_time = frame.time
        with self._stats.time("persons"), self._lock:
            self.gallery.seen_together(face.track_id for face in frame.faces)
            tracks, frame_view = list[PersonTrack](), None
            for face in frame.faces:
                track = self.tracks.get(face.track_id)
                if track is None:
                    track = PersonTrack(face.track_id, frame.time, on_settle=self._decide)
                    self.tracks[face.track_id] = track
                track.last_s = frame.time
                if frame.time >= track.due or frame.time < track.due - _CHECK_S:
                    frame_view = frame_view or view(frame)
                    self._sample(track, face, frame_view, frame)
                tracks.append(track)
            self._sweep(frame.time)
        return tracks

    def in_view(self, now: float) -> list[PersonInView]:
        """Returns the persons of the last ten seconds, by number. `now` is a `Frame.time`."""
        persons: dict[int, tuple[str, float, tuple[float, Bytes] | None]] = {}
        with self._lock:
            for track in self.tracks.values():
                person = self.gallery.person_of(track.id)
                if person is None or now - track.last_s > _FORGET_S:
                    continue
                _, last_s, face = persons.get(person.number, ("", track.last_s, None))
                if track.face is not None and (face is None or track.face[0] > face[0]):
                    face = track.face
                persons[person.number] = self.gallery.label_of(track.id), max(last_s, track.last_s), face
            return [
                PersonInView(label, max(0.0, now - last_s), face[1] if face else None)
                for _, (label, last_s, face) in sorted(persons.items())
            ]

    def faces(self) -> dict[int, Bytes]:
        """Returns the best image of each track's face, by track id. An image is uint8 RGB 256×256×3; `keep_faces`
        limits the number of images for each person."""
        for track in self.tracks.values():
            self._keep_image(track)
        return dict(self._images)

    def label(self, frame: Frame) -> Frame:
        """Returns the frame with the recognised persons of its faces."""
        if not frame.faces:
            return frame
        return replace(
            frame, faces=tuple(replace(face, person=self.gallery.label_of(face.track_id)) for face in frame.faces)
        )

    def _sample(self, track: PersonTrack, face: Face, view: View, frame: Frame) -> None:
        """Learns a crop of the face if it is fit for recognition."""
        fit = fitness(face, view.width, view.height)
        chip = cut_chip(view, face) if fit > 0.0 else None
        if chip is None:
            track.due = frame.time + (_FIRST_S if track.tries < _UNDECIDED_CROPS else _LATER_S)
            return
        if self._keep_faces is not None and (track.face is None or track.face[0] < fit):
            track.face = fit, view.crop(crop_matrix(face, _FACE_SIDE_PX), (_FACE_SIDE_PX, _FACE_SIDE_PX))
        track.tries += 1
        self._stats.count("person_embeddings")
        self._learn(track, fit, self._embed(chip))
        recognised = self.gallery.person_of(track.id) is not None
        track.due = frame.time + (
            _FIRST_S
            if not recognised and track.tries < _UNDECIDED_CROPS
            else _LATER_S
            if len(track.crops) < MAX_KEPT_CROPS
            else _CHECK_S
        )
        if not recognised and (len(track.crops) >= DECIDING_CROPS or frame.new):
            self._decide(track)
            track.decided = (
                track.decided or self.gallery.person_of(track.id) is not None or track.tries >= _UNDECIDED_CROPS
            )

    def _learn(self, track: PersonTrack, fit: float, embedding: Float32) -> None:
        """Stores a crop if it is among the best. Restarts a track that now seems to show another person."""
        mean_before = track.embedding()
        if (
            mean_before is not None
            and len(track.crops) >= DECIDING_CROPS
            and distance(embedding, mean_before) > _CHANGED_DISTANCE
        ):
            track.strays.append((fit, embedding))
            if len(track.strays) >= 2 and distance(track.strays[-1][1], track.strays[-2][1]) <= JOIN:
                track.crops, track.strays, track.tries = track.strays[-2:], [], 0
                self.gallery.release(track.id)
            return
        track.strays.clear()
        track.crops.append((fit, embedding))
        if len(track.crops) > MAX_KEPT_CROPS:
            track.crops.remove(min(track.crops, key=lambda crop: crop[0]))
        if self.gallery.person_of(track.id) is not None and (mean_now := track.embedding()) is not None:
            self.gallery.learn(track.id, mean_now)

    def _sweep(self, time: float) -> None:
        """Forgets tracks not seen recently, to limit a live run's memory."""
        if abs(time - self._last_sweep) < _FORGET_S:
            return
        self._last_sweep = time
        for track in [track for track in self.tracks.values() if abs(time - track.last_s) > _FORGET_S]:
            self._keep_image(track)
            del self.tracks[track.id]

    def _keep_image(self, track: PersonTrack) -> None:
        """Stores a track's image. Skips unknown persons and those with enough images."""
        person = self.gallery.person_of(track.id)
        if (
            track.face is not None
            and person is not None
            and sum(other in self._images for other in person.tracks if other != track.id) < (self._keep_faces or 0)
        ):
            self._images[track.id] = track.face[1]

    def _decide(self, track: PersonTrack) -> None:
        embedding = track.embedding()
        if embedding is not None and self.gallery.person_of(track.id) is None:
            self.gallery.decide(track.id, embedding)


def _encode(crops: list[tuple[float, Float32]]) -> list[tuple[float, str]]:
    return [(fit, packed(embedding)) for fit, embedding in crops]
