"""A face that stands still or moves, engines whose answers show where they are carried to, and a governor
of one pace."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import cv2
import numpy as np

from rtface.frame import Frame
from rtface.protocols import Restored
from rtface.quality.governor import QualityGovernor
from tests.pipeline.fakes import FakeEngine, face_at, frame_of, portrait


class Sharpening(FakeEngine):
    """Answers with a sharpened crop: like a restorer's answer it belongs to what the crop shows."""

    def submit(self, crops: np.ndarray, after: Any = None) -> Future[Restored]:
        answer = super().submit(crops, after)
        if answer.exception() is None:
            soft = np.stack([cv2.GaussianBlur(plane, (0, 0), 3) for plane in crops[0]])[None]
            answer = Future()
            answer.set_result(Restored(np.clip(crops + 0.8 * (crops - soft), 0, 1)))
        return answer


class Every(QualityGovernor):
    """A governor that keeps all faces on one pace."""

    def __init__(self, every: int) -> None:
        super().__init__(1 / 25, 10.0)
        self._every, self._turn = every, 0

    def plan(self, now: float, seen: Any, **more: Any) -> Any:
        plans = super().plan(now, seen, carries=more["carries"])
        key = self._turn % self._every == 0
        self._turn += 1
        return [replace(p, engine=s.engine, key=key, strength=1.0, share=1.0) for p, s in zip(plans, seen, strict=True)]

    def patience(self, now: float, captured_at: float | None) -> float:
        return 10.0


class WhenTold(FakeEngine):
    """Before another engine of the tests: answers the last that it was asked when it is told to."""

    def __init__(self, *how: Any, **more: Any) -> None:
        super().__init__(*how, **more)
        self.asked: list[tuple[np.ndarray, Future[Restored]]] = []

    def submit(self, crops: np.ndarray, after: Any = None) -> Future[Restored]:
        self.asked.append((crops, Future()))
        return self.asked[-1][1]

    def answer(self) -> None:
        crops, promised = self.asked[-1]
        if not promised.done():
            promised.set_result(super().submit(crops).result())


def film(pictures: list[np.ndarray], points: list[np.ndarray]) -> list[Frame]:
    return [replace(frame_of(p, k), faces=(face_at(q),)) for k, (p, q) in enumerate(zip(pictures, points, strict=True))]


def still(frames: int = 8, noise: float = 0.0, seed: int = 0, **more: Any) -> list[Frame]:
    rng = np.random.default_rng(seed)
    picture, points = portrait(**more)
    noisy = [np.clip(picture + rng.normal(0, noise, picture.shape), 0, 255).astype(np.uint8) for _ in range(frames)]
    x, y = points[0].astype(int) - 40
    for k, one in enumerate(noisy):  # else they repeat the first (`rtface.enhance.repeats`)
        one[y, x] = 100 + 2 * (k % 2)
    return film(noisy, [points] * frames)


def luma(frame: Frame) -> np.ndarray:
    plane = frame.image.planes[0]
    return np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width].astype(float)


def inside(frame: Frame) -> Any:
    x0, y0, x1, y1 = (round(v) for v in frame.faces[0].box)
    inset = (x1 - x0) // 6
    return np.s_[y0 + inset : y1 - inset, x0 + inset : x1 - inset]
