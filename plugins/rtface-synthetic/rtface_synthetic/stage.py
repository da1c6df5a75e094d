"""``synthetic``: a synthetic face with the real one's pose, expression and light.

It gives privacy where a blur would show too little. When in doubt (no mesh, side view, or just lost) it blurs a face.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from rtface.correct import FACE_OVAL
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

_SMALL, _LARGE = 256, 512  # sides of the crop; a face wider than 160 pixels gets the large one
_WIDE = 160.0
_SIDE = 50.0  # maximum yaw in degrees; beyond it a face is blurred
_SIGMA = 0.22  # share of the face's width, as in the stage blur
_FEATHER = 0.06  # share of the crop's side
_HOLD_S, _GROWTH = 0.5, 0.5
_SEEDS = 1000  # difference between the actors' seeds


@dataclass(slots=True)
class _Worn:
    """An actor on a face: the wearer's shape, and the face's last place."""

    actor: Actor
    shape: Shape
    disc: Float
    width: float
    seen: float


@dataclass
class Synthetic:
    """Faces of people who do not exist."""

    api = 1
    hides = True
    licence = "NVIDIA Source Code License (StyleGAN2, from which the generator is distilled), CC BY-NC-SA (FFHQ)"
    commercial_use = False
    faces: str = option("all", "all, largest, or track numbers as 1,3", faces)
    seed: int = option(
        1, "selects the faces; python -m rtface_synthetic SHEET.png shows some", number(0, 10**9, whole=True)
    )
    actors: int = option(4, "number of different faces", number(1, 16, whole=True))
    shape: float = option(0.8, "0 keeps the shape of the real face, 1 uses that of the synthetic one", number(0, 1))
    truncation: float = option(0.6, "0 is the mean face, 1 allows unusual ones", number(0, 1))
    _cast: list[Actor] = state(list)
    _worn: dict[int, _Worn] = state(dict)

    def __post_init__(self) -> None:
        self._networks = find_networks()
        self._choose, self._held = FaceFilter.parse(self.faces, 64), HeldFaces()
        self._device = CpuDevice(1)

    def begin(self, run: Run) -> None:
        """Creates the actors on the first call. Each actor takes a second."""
        if self._cast:
            return
        generator, tracker = Generator(self._networks), create_tracker(max_faces=1, cuts=False)
        try:
            self._cast = [cast(generator, tracker, self.seed + k * _SEEDS, self.truncation) for k in range(self.actors)]
        finally:
            tracker.close()

    def __call__(self, frame: Frame) -> Frame:
        self.begin(Run())
        canvas, now = Canvas(frame), frame.time
        if frame.cut or frame.new:
            self._worn.clear()
        view = self._device.view(frame)
        done: list[tuple[Bytes, Float]] = []
        chosen = self._choose(frame.faces, self._held.on(frame))
        for face in chosen or self._choose(frame.faces, HeldFaces().on(frame)):  # the latter if all held faces are lost
            worn = self._wear(face)
            elapsed, worn.seen = max(0.0, now - worn.seen), now
            worn.disc, worn.width = covering(face, 0.2), face.width
            if face.mesh is not None and abs(pose(face.mesh)[0]) <= _SIDE:
                size = _LARGE if face.width > _WIDE else _SMALL
                matrix = crop_matrix(face, size)
                done.append(
                    (
                        self._replace(worn, on_crop(face.mesh, matrix), view.crop(matrix, (size, size)), elapsed),
                        invert(matrix),
                    )
                )
            else:
                canvas.blur(worn.disc, _SIGMA * worn.width)
        for rgba, place in done:
            canvas.draw(Sprite(rgba), place)
        self._cover_lost(canvas, now)
        for face in frame.unfollowed:  # an untracked face may be a chosen one: covers it
            if self._choose.ids is None or face.track_id in {0, *self._choose.ids}:
                canvas.blur(covering(face, 0.2), _SIGMA * float(max(face.box[2:] - face.box[:2])))
        return replace(canvas.frame, generated=True) if done else canvas.frame

    def _wear(self, face: Face) -> _Worn:
        if face.track_id not in self._worn:
            actor = self._cast[face.track_id % len(self._cast)]
            self._worn[face.track_id] = _Worn(actor, Shape(actor, self.shape), covering(face, 0.2), face.width, -1e9)
        return self._worn[face.track_id]

    def _replace(self, worn: _Worn, mesh: Float, scene: Bytes, elapsed: float) -> Bytes:
        """Draws the actor on one face's crop, uint8 S×S×4."""
        actor, size = worn.actor, len(scene)
        to_actor = len(actor.skin.pixels) / size
        onto = worn.shape(mesh * to_actor, elapsed if elapsed < 1.0 else 0.0) / to_actor
        skin, drawn = draw(onto, size, ((actor.skin, actor.triangles),))
        mask = _mask(onto, drawn)
        lit = relight(skin, scene, mask)
        # Keeps the wearer's own mouth at the new place of the lips, because teeth and tongue show expression.
        inner, _ = draw(onto, size, ((Skin(scene, mesh), mouth()),))
        opening = _opening(onto, size)[..., None]
        rgb = (lit * (1.0 - opening) + inner * opening + 0.5).astype(np.uint8)
        return np.dstack([rgb, (mask * 255.0 + 0.5).astype(np.uint8)])

    def _cover_lost(self, canvas: Canvas, now: float) -> None:
        for track, worn in list(self._worn.items()):
            age = now - worn.seen
            if not 0 <= age <= 60.0:
                del self._worn[track]  # a face that returns within a minute keeps its actor
            elif 0 < age <= _HOLD_S:
                grown = 1.0 + _GROWTH * age
                canvas.blur(compose(worn.disc, scaling(grown, grown)), _SIGMA * worn.width)


def _mask(onto: Float, drawn: Bytes) -> Float32:
    """Returns the face's mask, 1 inside, falling to 0 at its outline."""
    size = len(drawn)
    hull: Any = cv2.convexHull(np.rint(onto[list(FACE_OVAL), :2] * 16.0).astype(np.int32))
    filled = np.zeros_like(drawn)
    cv2.fillConvexPoly(filled, hull, 255, shift=4)
    filled[cv2.morphologyEx(drawn, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)) == 0] = 0
    filled[[0, -1]], filled[:, [0, -1]] = 0, 0
    distance: Any = cv2.distanceTransform(filled, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    share = np.clip(cv2.GaussianBlur(distance, (0, 0), 1.5) / (_FEATHER * size), 0.0, 1.0)
    return (share * share * (3.0 - 2.0 * share) * (filled > 0)).astype(np.float32)


def _opening(onto: Float, size: int) -> Float32:
    """Returns a soft mask of the mouth's opening, 0…1."""
    out = np.zeros((size, size), np.uint8)
    corners = np.rint(onto[list(INNER_LIPS), :2] * 16.0).astype(np.int32)
    cv2.fillPoly(out, [corners], 255, shift=4)
    soft: Any = cv2.GaussianBlur(cv2.erode(out, np.ones((3, 3), np.uint8)), (0, 0), size / 250)
    return soft.astype(np.float32) / np.float32(255)
