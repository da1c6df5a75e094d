"""The films of the evaluation: one face moving over a canvas, through a call."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from training.crop_space import F64, U8
from training.data.film_pairs import Recipe, degraded
from training.data.moving_face import HEIGHT, WIDTH, Actor, Film
from training.data.portraits import Face

PROTOCOLS = {
    "call": {"scale": 0.5, "sigma": 3.0, "crf": 31.0},
    "heavy": {"scale": 0.25, "sigma": 6.0, "crf": 33.0},
}
FRAMES = 16
WARM = 3
"""The first frames of a film are not measured: a call has long begun."""


@dataclass
class Shot:
    """One film of one face: clean and degraded frames, and the matrix of every frame (512-px canonical → frame)."""

    clean: list[U8] = field(default_factory=list)
    seen: list[U8] = field(default_factory=list)
    matrices: list[F64] = field(default_factory=list)


def shoot(face: Face, number: int, protocol: str, seed: int, frames: int = FRAMES) -> Shot:
    """Film one face by ``protocol``; the same motion for the same number and seed in every protocol."""
    r = np.random.default_rng([seed, number])
    px = float(r.uniform(310, min(490, face.px * 1.15)))
    centre = (WIDTH / 2 + r.normal(0, 120), HEIGHT / 2 + r.normal(0, 30))
    image = face.load()
    actor = Actor(image, px, (float(centre[0]), float(centre[1])), r, warp=0.5)
    film = Film([actor], image, r)
    p = PROTOCOLS[protocol]
    options = {"preset": "veryfast", "tune": "zerolatency", "crf": str(p["crf"])}
    rec = Recipe(protocol, p["scale"], p["sigma"], 0, "libx264", options, p["crf"], 0, ("none", 0, 0),
                 cv2.INTER_CUBIC, cv2.INTER_AREA)  # fmt: skip
    shot = Shot()
    times = [float(t) for t in range(frames)]
    for _, clean, seen in degraded(film, rec, times, set(range(frames))):
        shot.clean.append(clean)
        shot.seen.append(seen)
    shot.matrices = [actor.matrix(t) for t in times]
    return shot
