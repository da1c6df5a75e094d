"""Identity of tracks: the state of every track, and how a face that comes back gets its old id.

A face is expected where its speed carries it, at the size it had, looking as it did.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import copysign, log

import numpy as np

from rtface.frame import Float
from rtface.geometry.alignment import move, pose
from rtface.tracking.appearance import likeness
from rtface.tracking.detector import Detection
from rtface.tracking.facemesh import Mesh, box_of, centre_of
from rtface.tracking.flow_carry import FlowPatch

MEMORY_S = 1.2
"""Seconds after which a face that was lost is forgotten."""
_PREDICT = 0.25
_TURNED = 45.0  # degrees of yaw from which on a face that the mesh network loses may have turned into profile
_TURN_S = 0.4  # seconds in which a pose moves from the mesh's to a profile, so that a correction that follows it fades


@dataclass(slots=True, eq=False)
class Track:
    """One face over time.

    Attributes:
        id: positive once the face is believed, 0 while it is on trial.
        mesh: (478, 3), display pixels, at `seen`.
        score: of the last reading that saw it, 0…1.
        seen: when it was last seen, seconds.
        appearance: running mean of the appearance of the meshes.
        speed: of the mesh's centre, display pixels a second.
        hits: frames on which it was seen.
        patch: what it looked like on the last frame, when its mesh was read there; else None.
        away: where the detector saw it last, while it is turned away further than the mesh network sees; else None.
        profile: how far its pose has been moved from that of the mesh to a profile, 0…1.
    """

    id: int
    mesh: Float
    score: float
    seen: float
    appearance: Float
    speed: Float
    hits: int = 1
    patch: FlowPatch | None = None
    away: Detection | None = None
    profile: float = 0.0
    _boxed: Float | None = None  # the mesh that `_box` is of
    _box: Float = field(default_factory=lambda: np.zeros(4))

    @classmethod
    def start(cls, mesh: Mesh, time: float) -> Track:
        return cls(0, mesh.points, mesh.score, time, mesh.appearance, np.zeros(2))

    @property
    def box(self) -> Float:
        if self._boxed is not self.mesh:
            self._boxed, self._box = self.mesh, box_of(self.mesh)
        return self._box

    @property
    def width(self) -> float:
        box = self.box
        return float(box[2] - box[0])

    def expected(self, time: float) -> Float:
        """The mesh where its speed would have carried it (for a quarter of a second; then it waits there)."""
        mesh = self.mesh.copy()
        mesh[:, :2] += self.speed * min(max(time - self.seen, 0.0), _PREDICT)
        return mesh

    def meet(self, mesh: Mesh, time: float, *, learn: bool = True) -> None:
        """Takes in a new sight of the face."""
        dt = time - self.seen
        if dt > 0:
            speed = (centre_of(mesh.points) - centre_of(self.mesh)) / dt
            self.speed = self.speed + (0.5 if dt < _PREDICT else 0.0) * (speed - self.speed)
        if learn:
            self.appearance += 0.08 * (mesh.appearance - self.appearance)
        self.mesh, self.score, self.seen, self.away = mesh.points, mesh.score, time, None
        self.hits += 1

    def turn(self, mesh: Float, passed: float) -> tuple[float, float, float]:
        """Yaw, pitch and roll in degrees, `passed` seconds after the pose before: of the mesh, or on the way from there
        to a profile and back."""
        yaw, pitch, roll = pose(mesh)
        self.profile = min(max(self.profile + passed / (_TURN_S if self.away else -_TURN_S), 0.0), 1.0)
        return (yaw + self.profile * (copysign(90.0, yaw) - yaw) if self.profile else yaw), pitch, roll

    def turns_away(self, found: Detection, time: float) -> bool:
        """Takes in a candidate where only the detector sees the face, as it is turned too far; False where it is none
        of this face."""
        old, mesh = self.away, self.mesh
        turned = old is not None or abs(pose(mesh)[0]) > _TURNED
        if not turned or not same_place(box_of(self.expected(time)), found.box):
            return False
        if old is not None:
            scale = float(found.box[3] - found.box[1]) / max(float(old.box[3] - old.box[1]), 1.0)
            moved = found.centre - scale * old.centre
            mesh = move(np.array([[scale, 0.0, moved[0]], [0.0, scale, moved[1]]]), mesh)
        if time - self.seen > _PREDICT:  # it was not shown for a while, and comes back without a correction
            self.profile = 1.0
        self.meet(Mesh(mesh, found.score, self.appearance), time, learn=False)
        self.away = found
        return True


def nearness(track: Track, mesh: Mesh, time: float) -> float:
    """How well a new sight fits a lost face, 0 (not at all) … 1: place, size and appearance."""
    gap = time - track.seen
    old, new = box_of(track.expected(time)), box_of(mesh.points)
    width = max(float(old[2] - old[0]), 1.0)
    ratio = float((new[3] - new[1]) / max(old[3] - old[1], 1.0))
    far = float(np.linalg.norm((old[:2] + old[2:] - new[:2] - new[2:]) / 2)) / width
    reach = 0.7 + 1.5 * gap
    if far > reach or abs(log(max(ratio, 1e-3))) > 0.35 + 0.4 * gap:
        return 0.0
    like = likeness(track.appearance, mesh.appearance)
    # Near enough in place and time needs no likeness; far away it must be the same person to the eye.
    if like < 0.45 + 0.25 * far / reach - (0.2 if gap < 0.3 and far < 0.3 else 0.0):
        return 0.0
    return like * (1 - 0.5 * far / reach)


def same_place(a: Float, b: Float) -> bool:
    """True if two boxes hold one face: centres within a third of the smaller width, or half of their union shared."""
    near = float(np.linalg.norm((a[:2] + a[2:] - b[:2] - b[2:]) / 2))
    small = min(float(a[2] - a[0]), float(b[2] - b[0]))
    common = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod()
    union = (a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - common
    return near < 0.33 * small or float(common) > 0.5 * float(union)
