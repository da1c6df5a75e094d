"""``synthetic``: a synthetic face with the real one's pose, expression and light.

Use it for privacy where a blur would hide too much. A face without a mesh, in side view or just lost is blurred.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from rtface.correct.mask import FACE_OVAL, inner_distances
from rtface.device.cpu.device import CpuDevice
from rtface.enhance.face_filter import FaceFilter
from rtface.frame import Bytes, Face, Float, Float32
from rtface.geometry.alignment import crop_matrix, pose
from rtface.geometry.transforms import compose, invert, scaling
from rtface.stages import Canvas, Frame, Run, Sprite, covering, option, state
from rtface.tracking import create_tracker
from rtface.util.held_faces import HeldFaces
from rtface.util.parse import faces, number
from rtface_synthetic.actor import Actor, cast, on_crop
from rtface_synthetic.generator import Generator, find_networks
from rtface_synthetic.light import relight
from rtface_synthetic.puppet import Skin, draw
from rtface_synthetic.shape import Shape
from rtface_synthetic.topology import INNER_LIPS, mouth

_SMALL, _LARGE = 256, 512  # sides of the crop, for faces up to and above `_LARGE_FROM` pixels wide
_LARGE_FROM = 160.0
_MAX_YAW = 50.0  # in degrees; faces turned further are blurred
_SIGMA = 0.22  # of the blur, as a share of the face's width, as in the stage `blur`
_FEATHER = 0.06  # width of the mask's soft edge, as a share of the crop's side
_HOLD_S, _GROWTH = 0.5, 0.5  # time for which a lost face is blurred, and growth of this blur per second
_STEP = 1000  # difference between the actors' seeds


@dataclass(slots=True)
class _Wearer:
    """A person who wears an actor's face."""

    actor: Actor
    shape: Shape
    disc: Float
    width: float
    last_seen: float


@dataclass
class Synthetic:
    """Faces of people who do not exist."""

    api = 1
    hides = True
    licence = "NVIDIA Source Code License (StyleGAN2, from which the generator is distilled), CC BY-NC-SA (FFHQ)"
    commercial_use = False
    faces: str = option("all", "all, largest, or track numbers such as 1,3", faces)
    seed: int = option(
        1, "selects the faces; python -m rtface_synthetic SHEET.png shows some", number(0, 10**9, whole=True)
    )
    actors: int = option(4, "number of different faces", number(1, 16, whole=True))
    shape: float = option(0.8, "0 keeps the shape of the real face, 1 uses that of the synthetic one", number(0, 1))
    truncation: float = option(0.6, "0 is the mean face, 1 allows unusual ones", number(0, 1))
    _cast: list[Actor] = state(list)
    _wearers: dict[int, _Wearer] = state(dict)

    def __post_init__(self) -> None:
        self._networks = find_networks()
        self._choose, self._held_faces = FaceFilter.parse(self.faces, 64), HeldFaces()
        self._device = CpuDevice(1)

    def begin(self, run: Run) -> None:
        """Creates the actors on the first call. This takes a second for each actor."""
        if self._cast:
            return
        generator, tracker = Generator(self._networks), create_tracker(max_faces=1, cuts=False)
        try:
            self._cast = [cast(generator, tracker, self.seed + k * _STEP, self.truncation) for k in range(self.actors)]
        finally:
            tracker.close()

    def __call__(self, frame: Frame) -> Frame:
        self.begin(Run())
        canvas, now = Canvas(frame), frame.time
        if frame.cut or frame.new:
            self._wearers.clear()
        view = self._device.view(frame)
        drawn_faces: list[tuple[Bytes, Float]] = []
        chosen = self._choose(frame.faces, self._held_faces.on(frame))
        for face in chosen or self._choose(frame.faces, HeldFaces().on(frame)):  # if all chosen faces are lost
            wearer = self._wearer(face)
            elapsed, wearer.last_seen = max(0.0, now - wearer.last_seen), now
            wearer.disc, wearer.width = covering(face, 0.2), face.width
            if face.mesh is not None and abs(pose(face.mesh)[0]) <= _MAX_YAW:
                size = _LARGE if face.width > _LARGE_FROM else _SMALL
                matrix = crop_matrix(face, size)
                drawn_faces.append(
                    (
                        self._replace(wearer, on_crop(face.mesh, matrix), view.crop(matrix, (size, size)), elapsed),
                        invert(matrix),
                    )
                )
            else:
                canvas.blur(wearer.disc, _SIGMA * wearer.width)
        for rgba, place in drawn_faces:
            canvas.draw(Sprite(rgba), place)
        self._cover_lost(canvas, now)
        for face in frame.unfollowed:  # untracked faces may be chosen ones, so they are blurred
            if self._choose.ids is None or face.track_id in {0, *self._choose.ids}:
                canvas.blur(covering(face, 0.2), _SIGMA * float(max(face.box[2:] - face.box[:2])))
        return replace(canvas.frame, generated=True) if drawn_faces else canvas.frame

    def _wearer(self, face: Face) -> _Wearer:
        if face.track_id not in self._wearers:
            actor = self._cast[face.track_id % len(self._cast)]
            self._wearers[face.track_id] = _Wearer(
                actor, Shape(actor, self.shape), covering(face, 0.2), face.width, -1e9
            )
        return self._wearers[face.track_id]

    def _replace(self, wearer: _Wearer, mesh: Float, scene: Bytes, elapsed: float) -> Bytes:
        """Draws the actor on the crop of one face. Returns uint8 S×S×4."""
        actor, size = wearer.actor, len(scene)
        actor_scale = len(actor.skin.pixels) / size
        target = wearer.shape(mesh * actor_scale, elapsed if elapsed < 1.0 else 0.0) / actor_scale
        skin, drawn = draw(target, size, ((actor.skin, actor.triangles),))
        mask = _face_mask(target, drawn)
        relit = relight(skin, scene, mask)
        # Draws the wearer's own mouth between the new lips, because teeth and tongue show expression.
        inner, _ = draw(target, size, ((Skin(scene, mesh), mouth()),))
        opening = _mouth_mask(target, size)[..., None]
        rgb = (relit * (1.0 - opening) + inner * opening + 0.5).astype(np.uint8)
        return np.dstack([rgb, (mask * 255.0 + 0.5).astype(np.uint8)])

    def _cover_lost(self, canvas: Canvas, now: float) -> None:
        for track, wearer in list(self._wearers.items()):
            age = now - wearer.last_seen
            if not 0 <= age <= 60.0:
                del self._wearers[track]  # a face that returns within a minute keeps its actor
            elif 0 < age <= _HOLD_S:
                scale = 1.0 + _GROWTH * age
                canvas.blur(compose(wearer.disc, scaling(scale, scale)), _SIGMA * wearer.width)


def _face_mask(target: Float, drawn: Bytes) -> Float32:
    """Returns the mask of the face: 1 inside, falling to 0 at the outline."""
    size = len(drawn)
    hull: Any = cv2.convexHull(np.rint(target[list(FACE_OVAL), :2] * 16.0).astype(np.int32))
    filled = np.zeros_like(drawn)
    cv2.fillConvexPoly(filled, hull, 255, shift=4)
    filled[cv2.morphologyEx(drawn, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)) == 0] = 0
    filled[[0, -1]], filled[:, [0, -1]] = 0, 0
    share = np.clip(cv2.GaussianBlur(inner_distances(filled), (0, 0), 1.5) / (_FEATHER * size), 0.0, 1.0)
    return (share * share * (3.0 - 2.0 * share) * (filled > 0)).astype(np.float32)


def _mouth_mask(target: Float, size: int) -> Float32:
    """Returns a soft mask of the mouth's opening, 0…1."""
    out = np.zeros((size, size), np.uint8)
    corners = np.rint(target[list(INNER_LIPS), :2] * 16.0).astype(np.int32)
    cv2.fillPoly(out, [corners], 255, shift=4)
    soft: Any = cv2.GaussianBlur(cv2.erode(out, np.ones((3, 3), np.uint8)), (0, 0), size / 250)
    return soft.astype(np.float32) / np.float32(255)
