"""Makes sequences of successive frames of a face, for networks with memory.

``python -m training.data.film_sequences --faces DIR --out DIR --worker 0 --sequences 1200`` writes shards until there
are enough sequences; a second start resumes. A shard contains, for the region of interest at 256 px, truth and input of
every frame, the motion from each frame to the previous frame, and maps of occluded parts.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from rtface.geometry.transforms import apply
from training.crop_space import F32, F64, U8, at, cut, roi, similarity
from training.data.film_pairs import CLOSE, KINDS, cast, close_film, degrade, draw_recipe, liveliness, shards, store
from training.data.moving_face import Actor
from training.data.portraits import Face

SIZE = 256
MAP = 64
"""Side of the crop's occlusion map."""
FRAMES = 16
SHARD = 32
SHARES = {"call": 0.32, "heavy": 0.22, "light": 0.05, "camera": 0.05, "tv": 0.04, "clean": 0.02,
          "blind": 0.20, "h265": 0.10, "native": 2.00}  # fmt: skip
"""Relative frequency of each kind."""
HIDDEN_SHARE = 0.12
"""Default share of faces behind an occluder."""


@dataclass(frozen=True)
class Clip:
    """A face over ``FRAMES`` frames: ``pictures`` uint8 T×2×h×w×3 (truth, input); ``cover`` uint8 T×h/4×w/4 (occluded
    share of cells); ``meta`` (see ``META``). ``flow`` float16 T×h/8×w/8×2 points to the previous frame, in pixels of
    256; 0 in the first frame."""

    pictures: U8
    flow: Any
    cover: U8
    meta: tuple[int, float, int, float]


class TrackerErrors:
    """Alignment errors of a tracker over time: a constant offset, a slow drift, and jitter."""

    def __init__(self, r: np.random.Generator) -> None:
        self.r = r
        self.fixed = r.normal(0, 1, 4) * (2.0, 2.0, 0.012, 0.012)
        self.drift = np.zeros(4)
        self.jitter = abs(r.normal(0, 0.25))

    def of(self, matrix: F64) -> F64:
        """Perturbs the matrix of the next frame (2×3, 512-px canonical → picture)."""
        self.drift = 0.9 * self.drift + self.r.normal(0, 1, 4) * (0.3, 0.3, 0.001, 0.001)
        x, y, scale, angle = self.fixed + self.drift + self.r.normal(0, 1, 4) * (1, 1, 0.002, 0.002) * self.jitter
        error = similarity(float(np.exp(scale)), angle, (255.5, 255.5), 512)
        error[:, 2] += (x, y)
        return matrix @ np.array([*error, [0, 0, 1]], np.float64)


def places(size: int) -> F64:
    """Lists the centres of the region's 8×8 cells in a ``size``-px crop: N×2 (x, y)."""
    x, y, w, h = roi(size)
    across, down = np.meshgrid(np.arange(w // 8) * 8 + 3.5 + x, np.arange(h // 8) * 8 + 3.5 + y)
    return np.stack([across.ravel(), down.ravel()], 1)


def motion(actor: Actor, current: tuple[float, F64], previous: tuple[float, F64]) -> F32:
    """Computes the motion of 8×8 cells to the previous crop: float32 h/8×w/8×2 (x, y), in pixels.

    ``current``, ``previous``: time of the frame, and the matrix of its crop (2×3, 256-px canonical → canvas). Newton's
    method, with the derivative of a rigid face, finds the position of each point in the previous frame. After a few
    steps, the error is a few hundredths of a pixel, the resolution of ``cv2.remap``.
    """
    cells = places(SIZE)
    targets = actor.origin(apply(current[1], cells), current[0])
    jacobian = cv2.invertAffineTransform(actor.matrix(previous[0]))[:, :2] @ previous[1][:, :2]
    step = np.linalg.inv(jacobian).T
    positions = cells.copy()
    for _ in range(5):
        errors = targets - actor.origin(apply(previous[1], positions), previous[0])
        positions += errors @ step
    _, _, w, h = roi(SIZE)
    return (positions - cells).reshape(h // 8, w // 8, 2).astype(np.float32)


def film_clips(faces: list[Face], r: np.random.Generator, kind: str, hidden: float = HIDDEN_SHARE) -> list[Clip]:
    """Films some of ``faces`` and cuts ``FRAMES`` successive frames of each. If ``kind`` is in `CLOSE`, films only one
    face. Otherwise, a share ``hidden`` of the faces is behind an occluder."""
    if kind in CLOSE:
        k, actor, film = close_film(faces, r, kind, liveliness(r))
        picked = [(k, actor, None)]
    else:
        picked, film = cast(faces, r, hidden, lively=True)
    if film is None:
        return []
    first_frame = int(r.integers(0, 6))
    step = 1.0 if r.random() < 0.85 else 0.0
    times = [step * t for t in range(first_frame + FRAMES)]
    if kind == "clean":
        frames = [(first_frame + t, p := film.render(times[first_frame + t]), p) for t in range(FRAMES)]
        crf = 0.0
    else:
        recipe = draw_recipe(kind, r)
        frames = list(degrade(film, recipe, times, set(range(first_frame, first_frame + FRAMES))))
        crf = recipe.crf
        if len(frames) < FRAMES:
            return []
    x, y, w, h = roi(SIZE)
    clips: list[Clip] = []
    for k, actor, occluder in picked:
        tracker_errors, previous = TrackerErrors(r), None
        pictures, flows, covers = [], [], []
        for i, clean, seen in frames:
            m = at(tracker_errors.of(actor.matrix(times[i])), SIZE)
            pictures.append(np.stack([cut(p, m, SIZE, (x, y, w, h)) for p in (clean, seen)]))
            flows.append(motion(actor, (times[i], m), previous or (times[i], m)).astype(np.float16))
            previous = times[i], m
            cover = (
                cv2.resize(occluder.cover(times[i]), (MAP, MAP), interpolation=cv2.INTER_AREA)
                if occluder
                else np.zeros((MAP, MAP), np.float32)
            )
            covers.append(np.rint(255 * cover[y // 4 : (y + h) // 4, x // 4 : (x + w) // 4]).astype(np.uint8))
        clips.append(Clip(np.stack(pictures), np.stack(flows), np.stack(covers),
                          (KINDS.index(kind), actor.px, k, crf)))  # fmt: skip
    return clips


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--hidden", type=float, default=HIDDEN_SHARE, help="share of the faces behind an occluder")
    shares = np.array(list(SHARES.values())) / sum(SHARES.values())
    for a, faces, r, base in shards(p, "sequences", SHARD):
        clips: list[Clip] = []
        while len(clips) < SHARD:
            clips += film_clips(faces, r, str(r.choice(list(SHARES), p=shares)), a.hidden)
        clips = clips[:SHARD]
        parts = {name: np.stack([getattr(c, name) for c in clips]) for name in ("pictures", "flow", "cover")}
        store(base, [c.meta for c in clips], **parts)


if __name__ == "__main__":
    main()
