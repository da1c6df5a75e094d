"""Engines that are made to drift, to test the identity guard: the answer of a stateless engine, moved towards somebody
else."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from rtface.frame import Bytes, Float32
from rtface.protocols import Engine, Restored
from training.crop_space import oval_mask
from training.data.eyes_and_mouth import mesh_of
from training.data.portraits import Face


def in_crop(face: Face, size: int) -> Float32:
    """An aligned portrait, float32 size×size×3 RGB 0…1."""
    image = face.load()
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32) / np.float32(255)


def average(faces: Sequence[Face], size: int) -> Float32:
    """The average of aligned portraits, float32 size×size×3."""
    return np.mean([in_crop(face, size) for face in faces], axis=0, dtype=np.float32)


def displacement(source: Bytes, target: Bytes, size: int) -> Float32 | None:
    """How the points of one aligned portrait move to another's: float32 size×size×2, pixels; None without a face."""
    a, b = mesh_of(source), mesh_of(target)
    if a is None or b is None:
        return None
    points = a[:, :2] * (size / 512)
    moves = (b - a)[:, :2] * (size / 512)
    grid, weight = np.zeros((size, size, 2), np.float32), np.full((size, size), 1e-4, np.float32)
    for (x, y), move in zip(points, moves, strict=True):
        if 0 <= x < size and 0 <= y < size:
            grid[int(y), int(x)] += move
            weight[int(y), int(x)] += 1
    sigma = size / 24
    return cv2.GaussianBlur(grid, (0, 0), sigma) / cv2.GaussianBlur(weight, (0, 0), sigma)[..., None]


@dataclass
class Drifting:
    """A stateless engine that changes the person (`rtface.protocols.Engine`).

    Args:
        engine: is asked without its memory.
        towards: float32 S×S×3 RGB 0…1, the face that the answer is blended with; None for none.
        amount: 0…1, of `towards` in the answer, and of `moved`.
        moved: float32 S×S×2, displacement in pixels, that changes the shape of the face; None for none.
    """

    engine: Engine
    towards: Float32 | None
    amount: float
    moved: Float32 | None = None
    name: str = "drifting"
    whole: bool = False
    recurrent: bool = False
    heavy: bool = False

    @property
    def size(self) -> int:
        return self.engine.size

    @property
    def ms(self) -> float:
        return self.engine.ms

    def submit(self, crops: Any, after: Future[Restored[Any]] | None = None) -> Future[Restored[Any]]:
        answer, done = self.engine.submit(crops).result(), Future[Restored[Any]]()
        pixels = np.stack([self._drifted(one.transpose(1, 2, 0)).transpose(2, 0, 1) for one in answer.pixels])
        done.set_result(Restored(np.ascontiguousarray(pixels, np.float32)))
        return done

    def _drifted(self, answer: Float32) -> Float32:
        size, out = self.size, np.ascontiguousarray(answer)
        mask = oval_mask(size)[..., None]
        if self.moved is not None:
            y, x = np.mgrid[:size, :size].astype(np.float32)
            shift = self.moved * (self.amount * mask)
            out = cv2.remap(out, x - shift[..., 0], y - shift[..., 1], cv2.INTER_LINEAR)
        if self.towards is not None:
            inside = mask[..., 0] > 0.5
            own, other = out[inside], self.towards[inside]
            scale = own.std(0) / np.maximum(other.std(0), 1e-3)
            fitted = (self.towards - other.mean(0)) * scale + own.mean(0)
            out = out + self.amount * mask * (fitted - out)
        return np.clip(out, 0, 1).astype(np.float32)

    def stand_back(self) -> None:
        self.engine.stand_back()

    def close(self) -> None:
        self.engine.close()


@dataclass(frozen=True)
class OneEngine:
    """The engines of a run that has one (`rtface.protocols.Engines`)."""

    engine: Engine

    def pick(self, face_width: float, faces: int = 0, current: str | None = None) -> Engine:
        return self.engine

    def named(self, name: str) -> Engine:
        return self.engine

    @property
    def described(self) -> tuple[str, str]:
        return self.engine.name, "cpu"
