"""Holds the state of tracks, and matches returning faces to them.

A face is expected where its speed moves it, with its old size and appearance.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import log

import numpy as np

from rtface.frame import Float
from rtface.tracking.facemesh import Mesh, box_of, centre_of, likeness
from rtface.tracking.flow_carry import FlowPatch

MEMORY_S = 1.2
"""Seconds after which a lost face is forgotten."""
_PREDICT_S = 0.25


@dataclass(slots=True, eq=False)
class Track:
    """Holds the state of one face over time.

    Attributes:
        id: 0 while the face is on trial; positive as soon as it is confirmed.
        mesh: mesh (478, 3) in display pixels at the time `seen`.
        score: score of the last successful reading, 0…1.
        seen: time of the last sighting, seconds.
        appearance: running mean of the meshes' appearance.
        speed: speed of the mesh's centre, display pixels a second.
        hits: number of frames on which it was seen.
        patch: patch from the last frame, if the mesh was read there; else None.
    """

    id: int
    mesh: Float
    score: float
    seen: float
    appearance: Float
    speed: Float
    hits: int = 1
    patch: FlowPatch | None = None
    _box_mesh: Float | None = None  # the mesh from which `_box` was computed
    _box: Float = field(default_factory=lambda: np.zeros(4))

    @classmethod
    def start(cls, mesh: Mesh, time: float) -> Track:
        return cls(0, mesh.points, mesh.score, time, mesh.appearance, np.zeros(2))

    @property
    def box(self) -> Float:
        if self._box_mesh is not self.mesh:
            self._box_mesh, self._box = self.mesh, box_of(self.mesh)
        return self._box

    @property
    def width(self) -> float:
        box = self.box
        return float(box[2] - box[0])

    def expected(self, time: float) -> Float:
        """Returns the mesh moved by its speed for at most `_PREDICT_S`."""
        mesh = self.mesh.copy()
        mesh[:, :2] += self.speed * min(max(time - self.seen, 0.0), _PREDICT_S)
        return mesh

    def copied(self) -> Track:
        """Returns a copy. Only `appearance` is changed in place, so only that is copied."""
        return replace(self, appearance=self.appearance.copy())

    def meet(self, mesh: Mesh, time: float, *, learn: bool = True) -> None:
        """Updates the track with a new sighting."""
        dt = time - self.seen
        if dt > 0:
            speed = (centre_of(mesh.points) - centre_of(self.mesh)) / dt
            share = 0.0 if dt >= _PREDICT_S else 0.5 if self.speed.any() else 1.0
            self.speed = self.speed + share * (speed - self.speed)
        if learn:
            self.appearance += 0.08 * (mesh.appearance - self.appearance)
        self.mesh, self.score, self.seen = mesh.points, mesh.score, time
        self.hits += 1


def nearness(track: Track, mesh: Mesh, time: float) -> float:
    """Rates how well a mesh fits a lost face, 0…1. It compares place, size and appearance; 0 is no match."""
    gap = time - track.seen
    old, new = box_of(track.expected(time)), box_of(mesh.points)
    width = max(float(old[2] - old[0]), 1.0)
    ratio = float((new[3] - new[1]) / max(old[3] - old[1], 1.0))
    offset = float(np.linalg.norm((old[:2] + old[2:] - new[:2] - new[2:]) / 2)) / width
    reach = 0.7 + 1.5 * gap
    if offset > reach or abs(log(max(ratio, 1e-3))) > 0.35 + 0.4 * gap:
        return 0.0
    similarity = likeness(track.appearance, mesh.appearance)
    # A sighting near in place and time needs less likeness; a distant sighting must look like the same person.
    if similarity < 0.45 + 0.25 * offset / reach - (0.2 if gap < 0.3 and offset < 0.3 else 0.0):
        return 0.0
    return similarity * (1 - 0.5 * offset / reach)


def same_place(a: Float, b: Float) -> bool:
    """Returns whether two boxes show one face: centres within a third of the smaller width, or half the union
    shared."""
    offset = float(np.linalg.norm((a[:2] + a[2:] - b[:2] - b[2:]) / 2))
    smaller_width = min(float(a[2] - a[0]), float(b[2] - b[0]))
    common = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod()
    union = (a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - common
    return offset < 0.33 * smaller_width or float(common) > 0.5 * float(union)
