"""Film sequences: successive frames of a face, for networks that remember.

``python -m training.data.film_sequences --faces DIR --out DIR --worker 0 --sequences 1200`` writes shards until it has
enough; a second start goes on where the first ended. A shard holds, at 256 px and in the region of interest only, the
truth and the input of every frame, the motion from each frame to the one before, and what an obstacle hides.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from rtface.geometry.transforms import apply
from training.crop_space import F32, F64, U8, at, cut, roi, similarity
from training.data.film_pairs import CLOSE, KINDS, cast, close_film, degraded, draw_recipe, liveliness, shards, store
from training.data.moving_face import Actor
from training.data.portraits import Face

SIZE = 256
MAP = 64
"""Side of the crop's map of what is hidden."""
FRAMES = 16
SHARD = 32
SHARES = {"call": 0.32, "heavy": 0.22, "light": 0.05, "camera": 0.05, "tv": 0.04, "clean": 0.02,
          "blind": 0.20, "h265": 0.10, "native": 2.00}  # fmt: skip
"""How often each kind is drawn, relative to the others."""
HIDDEN = 0.12
"""Share of the faces with an obstacle in front, unless said otherwise."""


@dataclass(frozen=True)
class Clip:
    """One face over ``FRAMES`` frames: ``pictures`` uint8 T×2×h×w×3 (truth, input), ``flow`` float16 T×h/8×w/8×2 (in
    256-px pixels, from a frame to where it was on the one before; 0 in the first), ``cover`` uint8 T×h/4×w/4, ``meta``
    as ``META``."""

    pictures: U8
    flow: Any
    cover: U8
    meta: tuple[int, float, int, float]


class Tremble:
    """Alignment as a tracker gives it over time: off by a little that stays, a slow drift, and jitter."""

    def __init__(self, r: np.random.Generator) -> None:
        self.r = r
        self.fixed = r.normal(0, 1, 4) * (2.0, 2.0, 0.012, 0.012)
        self.drift = np.zeros(4)
        self.jitter = abs(r.normal(0, 0.25))

    def of(self, matrix: F64) -> F64:
        """The next frame's matrix (2×3, 512-px canonical → picture), off by so much."""
        self.drift = 0.9 * self.drift + self.r.normal(0, 1, 4) * (0.3, 0.3, 0.001, 0.001)
        x, y, scale, angle = self.fixed + self.drift + self.r.normal(0, 1, 4) * (1, 1, 0.002, 0.002) * self.jitter
        j = similarity(float(np.exp(scale)), angle, (255.5, 255.5), 512)
        j[:, 2] += (x, y)
        return matrix @ np.array([*j, [0, 0, 1]], np.float64)


def places(size: int) -> F64:
    """The middles of the 8×8 cells of the region of interest, N×2 (x, y), in pixels of a ``size``-px crop."""
    x, y, w, h = roi(size)
    across, down = np.meshgrid(np.arange(w // 8) * 8 + 3.5 + x, np.arange(h // 8) * 8 + 3.5 + y)
    return np.stack([across.ravel(), down.ravel()], 1)


def motion(actor: Actor, now: tuple[float, F64], before: tuple[float, F64]) -> F32:
    """Where each 8×8 cell of a crop's region was in the crop before: float32 h/8×w/8×2 (x, y), in the crop's pixels.

    ``now``, ``before``: a frame's time and the matrix (2×3, 256-px canonical → canvas) that its crop was cut with.
    Where the same point of the face was is searched by Newton's method, as if the face were rigid: a few steps are
    exact to some hundredths of a pixel, which is what ``cv2.remap`` resolves in the field.
    """
    cells = places(SIZE)
    shown = actor.origin(apply(now[1], cells), now[0])
    rigid = cv2.invertAffineTransform(actor.matrix(before[0]))[:, :2] @ before[1][:, :2]
    back = np.linalg.inv(rigid).T
    found = cells.copy()
    for _ in range(5):
        missed = shown - actor.origin(apply(before[1], found), before[0])
        found += missed @ back
    _, _, w, h = roi(SIZE)
    return (found - cells).reshape(h // 8, w // 8, 2).astype(np.float32)


def film_clips(faces: list[Face], r: np.random.Generator, kind: str, hidden: float = HIDDEN) -> list[Clip]:
    """Make one film of ``kind`` with some of ``faces`` (one of a kind in `CLOSE`) and cut ``FRAMES`` successive frames
    of each. A share ``hidden`` of those of other kinds has an obstacle in front."""
    if kind in CLOSE:
        k, actor, film = close_film(faces, r, kind, liveliness(r))
        picked = [(k, actor, None)]
    else:
        picked, film = cast(faces, r, hidden, lively=True)
    if film is None:
        return []
    lead = int(r.integers(0, 6))
    step = 1.0 if r.random() < 0.85 else 0.0
    times = [step * t for t in range(lead + FRAMES)]
    if kind == "clean":
        frames = [(lead + t, p := film.render(times[lead + t]), p) for t in range(FRAMES)]
        crf = 0.0
    else:
        recipe = draw_recipe(kind, r)
        frames = list(degraded(film, recipe, times, set(range(lead, lead + FRAMES))))
        crf = recipe.crf
        if len(frames) < FRAMES:
            return []
    x, y, w, h = roi(SIZE)
    clips: list[Clip] = []
    for k, actor, obstacle in picked:
        tremble, before = Tremble(r), None
        pictures, flows, covers = [], [], []
        for i, clean, seen in frames:
            m = at(tremble.of(actor.matrix(times[i])), SIZE)
            pictures.append(np.stack([cut(p, m, SIZE, (x, y, w, h)) for p in (clean, seen)]))
            flows.append(motion(actor, (times[i], m), before or (times[i], m)).astype(np.float16))
            before = times[i], m
            cover = (
                cv2.resize(obstacle.cover(times[i]), (MAP, MAP), interpolation=cv2.INTER_AREA)
                if obstacle
                else np.zeros((MAP, MAP), np.float32)
            )
            covers.append(np.rint(255 * cover[y // 4 : (y + h) // 4, x // 4 : (x + w) // 4]).astype(np.uint8))
        clips.append(Clip(np.stack(pictures), np.stack(flows), np.stack(covers),
                          (KINDS.index(kind), actor.px, k, crf)))  # fmt: skip
    return clips


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--hidden", type=float, default=HIDDEN, help="share of the faces with an obstacle in front")
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
