"""Draws occluders in front of a face (hands, microphones, cloth)."""

from __future__ import annotations

import cv2
import numpy as np

from training.crop_space import F32, F64, U8, oval_mask
from training.data.moving_face import Actor

SIDE = 512
KINDS = ("plain", "stripes", "speckle", "skin", "dark")
"""Materials of the occluders in evaluation films."""
OUTLINES = ("oval", "fingers", "card")
"""Outlines of occluders. Evaluation films only contain ovals."""


class Occluder:
    """An opaque object that moves roughly with a face. In ``Film.actors``, it must follow its actor.

    ``share``: approximate covered share of the face's oval. ``kind``: one of ``KINDS`` (uniform, striped, speckled,
    skin-coloured like fingers, or nearly black with a grid like a microphone); "picture", a corner of the portrait
    (cloth, hair, background); or "flesh", an enlarged and shaded part of the cheek, like a hand. ``outline``: one of
    ``OUTLINES`` (an ellipse, two to four parallel fingers, a rectangle).
    """

    def __init__(self, actor: Actor, share: float, kind: str, rng: np.random.Generator, outline: str = "oval") -> None:
        self.actor, self.rng, self.kind = actor, rng, kind
        self.alpha = self._shape(share, outline)
        self.texture = self._texture()
        self.drift, self.pace, self.phase = rng.normal(0, 6, 2), rng.uniform(0.05, 0.3), rng.uniform(0, 6.28)

    def shift(self, t: float) -> F64:
        """Returns the object's offset from the face at frame ``t``: (x, y), canonical pixels."""
        return self.drift * np.sin(self.pace * t + self.phase)

    def cover(self, t: float) -> F32:
        """Returns the object's opacity at frame ``t``: float32 512×512 canonical, 0..1."""
        dx, dy = self.shift(t)
        m = np.array([[1, 0, dx], [0, 1, dy]], np.float64)
        return np.asarray(cv2.warpAffine(self.alpha, m, (SIDE, SIDE), flags=cv2.INTER_LINEAR), np.float32)

    def draw(self, canvas: U8, t: float, k: float) -> None:
        """Draws the object at frame ``t`` into ``canvas`` (720p, scaled by ``k``)."""
        m = self.actor.matrix(t)
        m[:, 2] += m[:, :2] @ self.shift(t)
        m = m * k
        m[:, 2] += (k - 1) / 2
        height, width = canvas.shape[:2]
        corners = m[:, :2] @ np.array([[0, SIDE, 0, SIDE], [0, 0, SIDE, SIDE]], np.float64) + m[:, 2:]
        x0, y0 = (max(0, int(v)) for v in np.floor(corners.min(1)))
        x1, y1 = min(width, int(np.ceil(corners[0].max())) + 1), min(height, int(np.ceil(corners[1].max())) + 1)
        if x1 - x0 < 4 or y1 - y0 < 4:
            return
        m[:, 2] -= (x0, y0)
        flags = cv2.INTER_AREA if np.hypot(m[0, 0], m[1, 0]) < 1 else cv2.INTER_LINEAR
        alpha = cv2.warpAffine(self.alpha, m, (x1 - x0, y1 - y0), flags=flags)[..., None]
        face = cv2.warpAffine(self.texture, m, (x1 - x0, y1 - y0), flags=flags, borderMode=cv2.BORDER_REPLICATE)
        part = canvas[y0:y1, x0:x1]
        part[:] = np.rint(part + alpha * (face.astype(np.float32) - part)).astype(np.uint8)

    def _shape(self, share: float, outline: str) -> F32:
        """Draws the object's opacity. The shape is beside the centre of the face and covers ``share`` of the oval."""
        r = self.rng
        oval = oval_mask(SIDE) > 0.5
        angle = r.uniform(0, 2 * np.pi)
        centre = np.array([256.0, 310.0]) + r.uniform(20, 90) * np.array([np.cos(angle), np.sin(angle)])
        tilt, elongation = angle + r.normal(0, 0.5), r.uniform(1.1, 3.0)
        y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
        u = (x - centre[0]) * np.cos(tilt) + (y - centre[1]) * np.sin(tilt)
        v = (y - centre[1]) * np.cos(tilt) - (x - centre[0]) * np.sin(tilt)
        if outline == "fingers":
            spacing = r.uniform(40, 75)
            tips = r.normal(-40, 25, int(r.integers(2, 5)))
            lines = v[..., None] - spacing * (np.arange(len(tips)) - (len(tips) - 1) / 2)
            distance = np.hypot(np.maximum(0, tips - u[..., None]), lines).min(2)
        elif outline == "card":
            distance = np.maximum(np.abs(u) / elongation, np.abs(v))
        else:
            # The wobble makes the ellipse irregular.
            phase = np.arctan2(v, u)
            wobble = 1 + 0.06 * np.sin(3 * phase + r.uniform(0, 6)) + 0.04 * np.sin(5 * phase + r.uniform(0, 6))
            distance = np.hypot(u / elongation, v) / wobble
        oval_distances = np.sort(distance[oval])
        radius = float(oval_distances[min(len(oval_distances) - 1, int(share * len(oval_distances)))])
        return np.clip((radius - distance) / 1.5 + 0.5, 0, 1).astype(np.float32)

    def _texture(self) -> U8:
        r = self.rng
        y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
        if self.kind == "picture":
            across, down = r.integers(0, 2, 2)
            corner = self.actor.image[:: 1 - 2 * int(down), :: 1 - 2 * int(across)][: SIDE // 5, : SIDE // 5]
            return np.asarray(cv2.resize(corner, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC), np.uint8)
        if self.kind == "flesh":
            return self._flesh()
        colour = r.uniform(20, 235, 3)
        if self.kind == "skin":
            side = self.actor.image.shape[0]
            cheek = self.actor.image[int(0.60 * side) : int(0.68 * side), int(0.34 * side) : int(0.42 * side)]
            colour = cheek.reshape(-1, 3).mean(0) * r.uniform(0.85, 1.15)
        elif self.kind == "dark":
            colour = np.full(3, r.uniform(10, 45))
        light = 1 + 0.25 * np.sin(r.uniform(0, 6) + (x * r.normal() + y * r.normal()) / 200)
        picture = colour * light[..., None]
        wave = (x * np.cos(tilt := r.uniform(0, 3.14)) + y * np.sin(tilt)) / r.uniform(4, 30)
        if self.kind == "stripes":
            picture = picture + r.uniform(15, 60) * np.sign(np.sin(wave))[..., None]
        elif self.kind == "dark":
            picture = picture + r.uniform(4, 14) * (np.sin(x / 2.5) * np.sin(y / 2.5))[..., None]
        elif self.kind == "speckle":
            grain = cv2.GaussianBlur(r.standard_normal((SIDE, SIDE, 1)).astype(np.float32), (0, 0), r.uniform(0.8, 5))
            picture = picture + r.uniform(10, 45) * (grain / grain.std())[..., None]
        return np.clip(picture, 0, 255).astype(np.uint8)

    def _flesh(self) -> U8:
        """Makes a hand-like texture: enlarges skin of the cheek, and darkens it towards the outline."""
        r = self.rng
        side = self.actor.image.shape[0]
        skin = self.actor.image[int(0.58 * side) : int(0.70 * side), int(0.32 * side) : int(0.44 * side)]
        skin = cv2.resize(skin, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC).astype(np.float32)
        skin = skin * r.uniform(0.6, 1.25) * r.uniform(0.93, 1.07, 3)
        depth = cv2.distanceTransform((self.alpha > 0.5).astype(np.uint8), cv2.DIST_L2, 5)
        shading = 1 - r.uniform(0.1, 0.5) * np.exp(-depth / r.uniform(4, 20))
        field = cv2.GaussianBlur(r.standard_normal((SIDE, SIDE)).astype(np.float32), (0, 0), r.uniform(8, 30))
        folds = 1 + r.uniform(0.0, 0.15) * field / field.std()
        return np.clip(skin * (shading * folds)[..., None], 0, 255).astype(np.uint8)
