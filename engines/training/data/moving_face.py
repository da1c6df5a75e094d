"""Renders faces that move over a canvas, with expressions and changing light."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import cv2
import numpy as np

from rtface.geometry.transforms import apply
from training.crop_space import F32, F64, U8, similarity
from training.data.eyes_and_mouth import Features, mesh_of
from training.data.face_warps import SIDE, Expressions

WIDTH, HEIGHT = 1280, 720


@dataclass
class Actor:
    """A face that moves smoothly.

    ``matrix(t)`` maps a 512-px canonical crop to the canvas at frame ``t``. ``lively``: amount of expression, 0..1.
    """

    image: U8
    px: float
    centre: tuple[float, float]
    rng: np.random.Generator
    warp: float = 1.0
    lively: float = 0.0
    field_a: F32 = field(init=False)
    field_b: F32 = field(init=False)

    def __post_init__(self) -> None:
        r = self.rng
        if r.random() < 0.5:
            self.image = np.ascontiguousarray(self.image[:, ::-1])
        self.angle, self.turn = r.normal(0, 0.10), r.normal(0, 0.006)
        self.speed = r.normal(0, 2.2, 2) * (1 if r.random() < 0.7 else 0.1)
        self.zoom, self.sway, self.phase = r.normal(0, 0.003), r.uniform(0, 6), r.uniform(0, 6.28, 3)
        self.pace = r.uniform(0.1, 0.45)
        self.field_a = self._field()
        self.field_b = self._field()
        self.shear = r.normal(0, 0.03, 2)
        self.scaled: dict[int, U8] = {}
        self.expressions = Expressions(r, self.lively) if self.lively else None
        mesh = mesh_of(self.image) if self.lively else None
        self.features = None if mesh is None else Features(mesh, r, self.lively)

    def _field(self) -> F32:
        """Draws a smooth random warp: SIDE×SIDE×2."""
        rough = self.rng.normal(0, 1, (6, 6, 2)).astype(np.float32)
        return np.asarray(cv2.resize(rough, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC), np.float32)

    def matrix(self, t: float) -> F64:
        """Returns the 2×3 matrix from 512-px canonical to canvas pixels."""
        x = self.centre[0] + self.speed[0] * t + self.sway * np.sin(self.pace * t + self.phase[0])
        y = self.centre[1] + self.speed[1] * t + self.sway * np.sin(0.8 * self.pace * t + self.phase[1])
        a = self.angle + self.turn * t + 0.02 * np.sin(self.pace * t + self.phase[2])
        return similarity(self.px / 512 * float(np.exp(self.zoom * t)), float(a), (float(x), float(y)), 512)

    def _source(self, scale: float) -> U8:
        """Returns the picture, area-reduced to about the size on the canvas."""
        side = self.image.shape[0]
        target = min(side, max(32, int(np.ceil(512 * scale * 1.1 / 8)) * 8))
        if target not in self.scaled:
            self.scaled[target] = (
                self.image if target >= side * 0.97
                else np.asarray(cv2.resize(self.image, (target, target), interpolation=cv2.INTER_AREA), np.uint8)
            )  # fmt: skip
        return self.scaled[target]

    def _warp(self, t: float) -> F32:
        """Returns the warp at frame ``t``: 65×65×2 (x, y) over the crop, pixels of 512."""
        s = np.sin(self.pace * t + self.phase[:2]) * 5.0 * self.warp
        bend = self.field_a * np.float32(s[0]) + self.field_b * np.float32(s[1])
        return bend + self.expressions.field(t) if self.expressions else bend

    def origin(self, points: F64, t: float) -> F64:
        """Maps canvas positions to picture positions (N×2, pixels of 512). Ignores motion of lids, irises and lips."""
        inverse = cv2.invertAffineTransform(self.matrix(t))
        positions = apply(np.asarray(inverse, np.float64), points)
        field_positions = np.ascontiguousarray(positions[None] * (SIDE / 512), np.float32)
        bend = cv2.remap(self._warp(t), field_positions, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[0]
        return positions + bend + (positions[:, ::-1] - 256) * self.shear

    def draw(self, canvas: U8, t: float, k: float) -> None:
        """Draws the face at frame ``t`` into ``canvas`` (720p, scaled by ``k``)."""
        m = self.matrix(t) * k
        m[:, 2] += (k - 1) / 2
        scale = float(np.hypot(m[0, 0], m[1, 0]))
        source = self._source(scale)
        if self.features:
            source = self.features.shown(source, t)
        c = m[:, :2] @ np.array([[0, 511, 0, 511], [0, 0, 511, 511]], np.float64) + m[:, 2:]
        x0, y0 = (max(0, int(v)) for v in np.floor(c.min(1)))
        x1, y1 = min(canvas.shape[1], int(np.ceil(c[0].max())) + 1), min(canvas.shape[0], int(np.ceil(c[1].max())) + 1)
        if x1 - x0 < 8 or y1 - y0 < 8:
            return
        inverse = cv2.invertAffineTransform(m)
        grid = np.mgrid[y0:y1, x0:x1].astype(np.float32)
        u = np.float32(inverse[0, 0]) * grid[1] + np.float32(inverse[0, 1]) * grid[0] + np.float32(inverse[0, 2])
        v = np.float32(inverse[1, 0]) * grid[1] + np.float32(inverse[1, 1]) * grid[0] + np.float32(inverse[1, 2])
        warp = self._warp(t)
        bend = (scale_inverse(inverse, 512 / SIDE) @ shift(x0, y0))[:2]
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        displacement = cv2.warpAffine(warp, bend, (x1 - x0, y1 - y0), flags=flags, borderMode=cv2.BORDER_REPLICATE)
        edge = np.clip(np.minimum(np.minimum(u, 511 - u), np.minimum(v, 511 - v)) / 24, 0, 1)
        ratio = np.float32(source.shape[0] / 512)
        sx, sy = np.float32(self.shear[0]), np.float32(self.shear[1])
        uu = (u + displacement[..., 0] + (v - 256) * sx + np.float32(0.5)) * ratio - np.float32(0.5)
        vv = (v + displacement[..., 1] + (u - 256) * sy + np.float32(0.5)) * ratio - np.float32(0.5)
        face = cv2.remap(source, uu, vv, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
        part = canvas[y0:y1, x0:x1]
        alpha = (edge * 256).astype(np.uint16)[..., None]
        part[:] = ((face * alpha + part * (256 - alpha)) >> 8).astype(np.uint8)


def shift(x: float, y: float) -> F64:
    """Returns a 3×3 translation."""
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], np.float64)


def scale_inverse(inv: F64, by: float) -> F64:
    """Divides a 2×3 matrix by ``by``. Returns the result as 3×3."""
    return np.array([*(inv / by), [0, 0, 1]], np.float64)


class Drawn(Protocol):
    """An object that can be drawn on the canvas: an actor or an occluder."""

    def draw(self, canvas: U8, t: float, k: float) -> None: ...


class Film:
    """A film of actors on a canvas, with changing brightness. ``render(t, k)`` returns clean frames.

    ``size``: width and height of the canvas in pixels, both even. ``k`` scales the canvas.
    """

    def __init__(self, actors: Sequence[Drawn], backdrop: U8, rng: np.random.Generator,
                 size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:  # fmt: skip
        self.actors, self.rng, self.size = actors, rng, size
        side = int(rng.integers(24, 400))
        small = cv2.resize(backdrop, (side, side), interpolation=cv2.INTER_AREA)
        self.backdrop = np.asarray(cv2.resize(small, size, interpolation=cv2.INTER_CUBIC), np.uint8)
        self.back: dict[float, U8] = {1.0: self.backdrop}
        self.gain, self.gamma = float(np.exp(rng.normal(0, 0.18))), float(np.exp(rng.normal(0, 0.12)))
        self.flick, self.phase = abs(rng.normal(0, 0.03)), rng.uniform(0, 6)

    def render(self, t: float, k: float = 1.0) -> U8:
        """Renders the clean frame ``t``, uint8 H×W×3 RGB."""
        if k not in self.back:
            size = (round(self.size[0] * k), round(self.size[1] * k))
            self.back[k] = np.asarray(cv2.resize(self.backdrop, size, interpolation=cv2.INTER_AREA), np.uint8)
        canvas = self.back[k].copy()
        for actor in self.actors:
            actor.draw(canvas, t, k)
        x = np.arange(256, dtype=np.float64) / 255
        light = self.gain * (1 + self.flick * np.sin(0.5 * t + self.phase))
        table = np.clip(255 * np.clip(light * x, 0, 1) ** self.gamma, 0, 255).astype(np.uint8)
        return np.asarray(cv2.LUT(canvas, table), np.uint8)
