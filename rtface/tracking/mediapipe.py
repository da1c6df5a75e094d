"""Tracks faces: YuNet finds them, and MediaPipe's mesh follows them.

On every frame the tracker reads the mesh of each tracked face at its expected place. The detector only searches for new
and lost faces, a part of the frame at a time. A face on trial is shown as soon as it is confirmed: at once if both
networks are sure, otherwise after three frames.
"""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from math import log
from typing import Any

import numpy as np

from rtface.analysis.scene_cuts import CutDetector
from rtface.frame import Face, Float
from rtface.geometry.alignment import Aligner, pose
from rtface.protocols import ALL_FACES, View
from rtface.tracking.detector import Detection, union_of
from rtface.tracking.detector_search import MAX_DETECTIONS, SMALL, DetectorSearch
from rtface.tracking.facemesh import (
    FaceMesh,
    Mesh,
    Region,
    box_of,
    centre_of,
    five_points,
    likeness,
    region_of_detection,
    region_of_mesh,
)
from rtface.tracking.flow_carry import FlowPatch
from rtface.tracking.identity import MEMORY_S, Track, nearness, same_place
from rtface.tracking.interpolation import new_period
from rtface.util.held_faces import HeldFaces

MIN_MESH_SCORE = 0.5
"""Minimum mesh score of a seen face (MediaPipe's own limit)."""
SURE_MESH, SURE_DETECTION, FAIR_DETECTION = 0.9, 0.85, 0.6  # scores above which a network is (fairly) sure
MIN_LIKENESS = 0.3
"""Likeness below which the mesh is on something else: the network tends to see a face where it just saw one. Flashes,
hands and fast turns lowered a face's likeness to 0.35 in tests."""
MAX_MESH_SHIFT = 0.04
"""Mean shift of the points between two reads, in widths of the face, below which a mesh has settled."""
SECOND_LOOK_SCALES = 0.85, 1.15
"""Scales of the regions for further reads of a small candidate of a still: the network may be sure of a small face in
one region and not in another."""
MIN_INSIDE_SHARE, MIN_INSIDE_SHARE_STILL = 0.5, 0.3
"""Minimum shares of a mesh inside the frame to follow a face at the edge, and to find one in a still."""
TRIAL_FRAMES = 3
COAST_S, MAX_COAST_S = 0.12, 0.7
"""Seconds for which an unseen face is still followed and reported at its expected place. At a low frame rate, this
extends to two frames, but at most to `MAX_COAST_S`."""
MAX_CARRY_GAP_S = 0.07
"""Maximum seconds between two frames to carry a mesh instead of reading it."""
SPARING_CARRY_S = 0.15
"""Seconds for which a mesh is carried if time is short."""
REFUSED_S = 0.4
"""Seconds before a place where the mesh network saw no face is read again."""
MIN_COVER_SCORE = 0.6
"""Minimum detector score of an unfollowed face for stages that hide faces."""
_COARSE_GRID = 8.0  # pixels of the network's input to which a region is rounded when tracking is renewed
MAX_GAP_S = 2.0
"""Seconds between two frames after which all tracks are dropped."""
_STATE = (
    *("_search", "_chooser", "_tracks", "_time", "_dt"),
    *("_coast_s", "_last_id", "_lost_turn", "_failed", "_rejected", "settled"),
)
"""Attributes that `MediaPipeTracker.read` changes."""


class MediaPipeTracker:
    """Tracks faces (a `rtface.protocols.Tracker`). Not thread-safe.

    Args:
        reader: reads the mesh.
        search: finds new faces.
        max_faces: maximum number of faces in a frame, at least 1; on a first frame, the largest ones. If a stage hides
            faces, additional ones are followed.
        cuts: whether to detect scene changes itself, besides those passed to `update`.

    Attributes:
        sparing: set when time is short; each frame then reads only one of the faces that may be carried, in turn.
        watchful, thorough, unfollowed, beyond: see `rtface.protocols.Tracker`.
    """

    def __init__(
        self,
        reader: FaceMesh,
        search: DetectorSearch,
        *,
        max_faces: int = ALL_FACES,
        cuts: bool = True,
    ) -> None:
        self._reader = reader
        self._search = search
        self._max_faces = max_faces
        self._cuts = CutDetector() if cuts else None
        self._aligner = Aligner()
        self._chooser = HeldFaces()
        self._tracks: list[Track] = []
        self._time: float | None = None
        self._dt = 0.0  # seconds between the last two frames
        self._coast_s = COAST_S
        self._last_id = 0
        self._lost_turn = False
        self.sparing = self.watchful = self.thorough = False
        self.unfollowed: tuple[Face, ...] = ()
        self.beyond = 0
        self._failed = False  # the previous update raised an error
        self.settled = False
        self._shown_at: float | None = None  # time of the last frame whose faces were smoothed
        self._rejected: list[tuple[Float, float]] = []  # boxes without a mesh, and when their skipping ends

    def update(self, view: View, time: float, *, cut: bool = False) -> tuple[Face, ...]:
        """Returns the faces on a frame, largest first; see `rtface.protocols.Tracker.update`."""
        return self.smoothed(self.read(view, time, cut=self.sees_cut(view) or cut, renew=False), time)

    def sees_cut(self, view: View) -> bool:
        """Returns whether a frame begins a scene; see `rtface.protocols.FilmTracker.sees_cut`."""
        return self._cuts is not None and self._cuts.update(view.thumbnail(64)[0])

    def read(self, view: View, time: float, *, cut: bool = False, renew: bool = True) -> tuple[Face, ...]:
        """Returns the faces on a frame before smoothing; see `rtface.protocols.FilmTracker.read`.

        With `renew`, meshes hardly depend on where tracking began: once a `SYNC_S` they are read without history.
        """
        had_failed, self._failed, self.unfollowed = self._failed, True, ()
        self.beyond = 0
        dt = 0.0 if self._time is None else time - self._time
        if self._time is not None and -0.05 < dt <= 0:  # two fields share a timestamp, or times jitter
            dt = 1e-3
            time = self._time + dt
        is_first = self._time is None or cut or not 0 < dt < MAX_GAP_S
        if is_first:
            self._forget()
        # The longer of the last two intervals, so that a rising frame rate loses no face.
        self._coast_s = min(max(COAST_S, 2.02 * max(dt, self._dt)), MAX_COAST_S)
        self._dt = 0.0 if is_first else dt
        self._follow(view, time, renewed=self._synchronise(view, time) and renew)
        detections = self._find(view, time, dt, is_first or had_failed)
        for track in [t for t in self._tracks if time - t.seen >= (MEMORY_S if t.id else self._coast_s)]:
            self._tracks.remove(track)
            self._aligner.forget(track.id)
        visible = [t for t in self._tracks if t.id and time - t.seen <= self._coast_s]
        faces = tuple(self._face(t, time) for t in sorted(visible, key=lambda t: -t.width))
        chosen = self._chooser.widest(faces, self._max_faces, time, new=is_first)
        surplus = [face for face in faces if not any(face is one for one in chosen)]
        if self.watchful:
            self.unfollowed = (*surplus, *self._unfollowed(faces, detections, time))
        self.beyond += len(surplus)
        self._failed = False
        self.settled = all(t.id and t.seen == time for t in self._tracks)
        return chosen

    def smoothed(self, faces: tuple[Face, ...], time: float) -> tuple[Face, ...]:
        """Returns the faces without jitter; see `rtface.protocols.FilmTracker.smoothed`."""
        last, self._shown_at = self._shown_at, time
        if last is not None and -0.05 < time - last <= 0:  # as in `read`
            self._shown_at = last + 1e-3
        return tuple(self._aligner.steady(face, self._shown_at) for face in faces)

    def saved(self) -> dict[str, Any]:
        """Returns the state of tracking without smoothing and scene changes."""
        return {name: copy(getattr(self, name)) for name in _STATE} | {"_tracks": [t.copied() for t in self._tracks]}

    def restore(self, state: dict[str, Any]) -> None:
        """Returns to a state of `saved`."""
        for name, value in state.items():
            setattr(self, name, value)

    def reset(self) -> None:
        """Forgets all faces and the time; ids continue to rise."""
        self._forget()
        self._time = self._shown_at = None
        if self._cuts is not None:
            self._cuts.reset()

    def close(self) -> None:
        """Releases the networks; safe to call twice."""
        self._forget()
        self._reader.close()

    def _forget(self) -> None:
        self._tracks.clear()
        self._rejected.clear()
        self._aligner.forget()
        self._search.reset()

    def _synchronise(self, view: View, time: float) -> bool:
        """Restarts reading and searching if `time` begins a period of `SYNC_S`. Returns whether it does."""
        before, self._time = self._time, time
        renewed = before is not None and new_period(before, time)
        if renewed:
            self._search.synchronise(view, time, calm=self._calm)
            self._lost_turn = False
            if not self.sparing:
                for track in self._tracks:
                    track.patch = None
        return renewed

    def _follow(self, view: View, time: float, *, renewed: bool) -> None:
        """Reads every tracked face at its expected place. If two tracks are on one face, the better match keeps it."""
        sightings: list[tuple[float, Track, Mesh]] = []
        patches = {id(t): t.patch for t in self._tracks}
        oldest = min((p.time for p in patches.values() if p is not None), default=time)
        next_track = next((t for t in self._tracks if t.patch is not None and t.patch.time == oldest), None)
        for track in self._tracks:
            if time - track.seen > self._coast_s:
                continue
            expected = track.expected(time)
            if self.sparing and track is next_track and len(patches) > 1:
                track.patch = None
            carried = self._carry(view, track, expected, time)
            if carried is not None:
                sightings.append((1.0, track, carried))
                continue
            region = region_of_mesh(expected)
            if renewed:  # two chains read the same coarse region, and then the same mesh
                first = self._reader.read(view, region.rounded(_COARSE_GRID))
                region = region_of_mesh(first.points) if first.score >= MIN_MESH_SCORE else region
            mesh = self._reader.read(view, region.rounded())
            like = likeness(track.appearance, mesh.appearance)
            if (
                mesh.score >= MIN_MESH_SCORE
                and like > MIN_LIKENESS
                and _is_plausible(expected, mesh.points)
                and _inside(mesh.points, view, MIN_INSIDE_SHARE)
            ):
                sightings.append((like, track, mesh))
        boxes: list[Float] = []
        for _, track, mesh in sorted(sightings, key=lambda s: (s[1].id > 0, s[0]), reverse=True):
            box = box_of(mesh.points)
            if any(same_place(box, other) for other in boxes):
                continue
            boxes.append(box)
            was_read = mesh.appearance is not track.appearance
            track.meet(mesh, time, learn=was_read and mesh.score > SURE_MESH)
            if renewed:
                track.speed = 2 * track.width * np.round(track.speed / (2 * track.width))  # slow faces: 0
            old = patches[id(track)]
            if was_read and mesh.score > SURE_MESH:
                track.patch = FlowPatch.cut(view, mesh.points, time)
            else:  # every carry starts from a reading, so nothing drifts
                track.patch = (
                    old if self.sparing and not was_read and old and time - old.time < SPARING_CARRY_S else None
                )
            if not track.id and track.hits >= TRIAL_FRAMES:
                self._confirm(track)

    def _carry(self, view: View, track: Track, expected: Float, time: float) -> Mesh | None:
        """Moves a mesh by optical flow. None if the previous frame did not read it, or another face is near."""
        patch, dt = track.patch, time - track.seen
        track.patch = None
        if (
            patch is None
            or not track.id
            or not 0 < dt < MAX_CARRY_GAP_S
            or any(other is not track and same_place(other.box, track.box) for other in self._tracks)
        ):
            return None
        shift = centre_of(expected) - centre_of(patch.mesh)
        if float(np.linalg.norm(shift)) > 0.08 * track.width:
            return None
        points = patch.carry(view, shift)
        return None if points is None else Mesh(points, track.score, track.appearance)

    def _find(self, view: View, time: float, dt: float, first: bool) -> list[Detection]:
        """Searches for new and lost faces and assigns ids; returns all detections."""
        if first:
            detections = self._search.everywhere(view, thorough=self.thorough)
        else:
            # If only some frames are tracked, a detector round may take longer, so that it does not delay these frames.
            detections = self._search.step(
                view,
                dt,
                calm=self._calm,
                watchful=self.watchful and not self.sparing,
                max_runs=1 if self.sparing else MAX_DETECTIONS,
            )
            self._lost_turn = not self._lost_turn
            for track in self._tracks:
                if track.seen < time and self._lost_turn:
                    x0, y0, x1, y1 = box_of(track.expected(time))
                    detections += self._search.detect_in(
                        view, Region((x0 + x1) / 2, (y0 + y1) / 2, 3.5 * (x1 - x0), 0.0)
                    )
        detections.sort(key=lambda d: -d.width if first else -d.score)
        reads_left = 2 * self._max_followed if first else 3
        self._rejected = [(box, until) for box, until in self._rejected if time < until]
        for detection in detections:
            if self._is_seen(detection.box, time) or any(same_place(detection.box, box) for box, _ in self._rejected):
                continue
            if self._count_seen(time) >= self._max_followed:
                self.beyond += detection.score >= MIN_COVER_SCORE
            elif reads_left:
                reads_left -= 1
                if not self._meet(view, detection, time, first):
                    self._rejected.append((detection.box, time + REFUSED_S))
        return detections

    def _unfollowed(self, faces: tuple[Face, ...], detections: list[Detection], time: float) -> tuple[Face, ...]:
        """Returns detections and tracks on trial that no face covers."""
        candidates = [Face(t.id, t.box, five_points(t.mesh), score=t.score) for t in self._tracks if t.seen == time]
        lost = [t for t in self._tracks if t.id and t.seen < time]
        for d in detections:
            if d.score >= MIN_COVER_SCORE:
                track_id = next((t.id for t in lost if same_place(box_of(t.expected(time)), d.box)), 0)
                candidates.append(Face(track_id, d.cover, d.points, score=d.score))
        uncovered: list[Face] = []
        for face in candidates:
            if any(same_place(face.box, one.box) for one in faces):
                continue
            index = next((k for k, one in enumerate(uncovered) if same_place(face.box, one.box)), None)
            if index is None:
                uncovered.append(face)
            else:  # each box may show only half of the face
                uncovered[index] = replace(uncovered[index], box=union_of(uncovered[index].box, face.box))
        return tuple(uncovered)

    def _meet(self, view: View, detection: Detection, time: float, first: bool) -> bool:
        """Reads a candidate's mesh until it settles. Assigns it to a lost or new track.

        Returns False if the network saw no face.
        """
        detection = self._search.upright(view, detection)
        region, rereads = region_of_detection(detection), self.thorough and detection.width < SMALL
        mesh, drift = self._read_settled(view, region)
        for scale in SECOND_LOOK_SCALES if rereads else ():
            if mesh.score > SURE_MESH and drift < MAX_MESH_SHIFT:
                break
            mesh, drift = max(
                (mesh, drift),
                self._read_settled(view, replace(region, side=scale * region.side)),
                key=lambda one: one[0].score - one[1],
            )
        box = box_of(mesh.points)
        if (
            mesh.score < MIN_MESH_SCORE
            or drift > 3 * MAX_MESH_SHIFT
            or not _inside(mesh.points, view, MIN_INSIDE_SHARE_STILL if self.thorough else MIN_INSIDE_SHARE)
            or not _same_roll(mesh.points, detection.points)
        ):
            return False
        if self._is_seen(box, time):
            return True
        best = max([t for t in self._tracks if t.seen < time], key=lambda t: nearness(t, mesh, time), default=None)
        if best is not None and nearness(best, mesh, time) > 0:
            best.meet(mesh, time)
            return True
        if self._count_seen(time) >= self._max_followed:
            return True
        track = Track.start(mesh, time)
        self._tracks.append(track)
        if (
            mesh.score > SURE_MESH
            and drift < MAX_MESH_SHIFT
            and (rereads or detection.score > (FAIR_DETECTION if first else SURE_DETECTION))
        ):
            self._confirm(track)
        return True

    def _read_settled(self, view: View, region: Region) -> tuple[Mesh, float]:
        """Reads a mesh until it settles. Returns the mesh and its last shift in widths."""
        mesh = self._reader.read(view, region)
        drift, tries = 1.0, 0
        while mesh.score >= MIN_MESH_SCORE and drift > MAX_MESH_SHIFT and tries < 4:
            previous, mesh = mesh, self._reader.read(view, region_of_mesh(mesh.points))
            x0, _, x1, _ = box_of(mesh.points).tolist()
            drift = float(np.linalg.norm(mesh.points - previous.points, axis=1).mean()) / max(x1 - x0, 1.0)
            tries += 1
        return mesh, drift

    @property
    def _calm(self) -> bool:
        """Whether the last frame showed every tracked face."""
        return bool(self._tracks) and self.settled and not self.watchful

    @property
    def _max_followed(self) -> int:
        """The maximum number of followed faces."""
        return ALL_FACES if self.watchful else self._max_faces

    def _count_seen(self, time: float) -> int:
        return sum(t.seen == time for t in self._tracks)

    def _is_seen(self, box: Float, time: float) -> bool:
        return any(t.seen == time and same_place(t.box, box) for t in self._tracks)

    def _confirm(self, track: Track) -> None:
        self._last_id += 1
        track.id = self._last_id

    def _face(self, track: Track, time: float) -> Face:
        mesh = track.expected(time)
        absent = time - track.seen
        return Face(
            track.id,
            box_of(mesh),
            five_points(mesh),
            mesh,
            track.score * 0.5 ** (absent / (self._coast_s / 2)),
            pose(mesh),
        )


def _is_plausible(expected: Float, mesh: Float) -> bool:
    """Returns whether a mesh may be the face 1/30 s later. It must not jump by half its width or change size fast."""
    a, b = box_of(expected), box_of(mesh)
    width = float(a[2] - a[0])
    jump = float(np.linalg.norm((a[:2] + a[2:] - b[:2] - b[2:]) / 2))
    return jump < 0.5 * width and abs(log(max(float(b[3] - b[1]), 1e-3) / max(float(a[3] - a[1]), 1e-3))) < 0.35


def _same_roll(mesh: Float, points: Float) -> bool:
    """Returns whether a mesh has the roll of the detector's five points. It may differ by up to 70°."""
    a, b = (p[3:].mean(0) - p[:2].mean(0) for p in (five_points(mesh), points))
    return float(a @ b) > 0.34 * float(np.linalg.norm(a) * np.linalg.norm(b))


def _inside(mesh: Float, view: View, min_share: float) -> bool:
    """Returns whether more than `min_share` of a mesh is inside the frame."""
    x, y = mesh[:468, 0], mesh[:468, 1]
    return float(np.mean((x > 0) & (y > 0) & (x < view.width) & (y < view.height))) > min_share
