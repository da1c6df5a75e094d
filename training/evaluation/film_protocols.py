"""The films of the evaluation: one face moving over a canvas, through a call."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from rtface.geometry.transforms import apply
from training.crop_space import F32, F64, TEMPLATE_512, U8
from training.data.film_pairs import Recipe, degraded
from training.data.moving_face import HEIGHT, WIDTH, Actor, Film
from training.data.occluders import KINDS as OCCLUDERS
from training.data.occluders import Occluder
from training.data.portraits import Face

PROTOCOLS = {
    "call": {"scale": 0.5, "sigma": 3.0, "crf": 31.0},
    "heavy": {"scale": 0.25, "sigma": 6.0, "crf": 33.0},
    "clean": {"scale": 1.0, "sigma": 0.0, "crf": 0.0},
    "object": {"scale": 0.5, "sigma": 3.0, "crf": 31.0},
    "alive": {"scale": 0.5, "sigma": 3.0, "crf": 31.0},
}
ALIVE = 0.8
"""How lively the faces of *alive* are."""
FRAMES = 16
WARM = 3
"""The first frames of a film are not measured: a call has long begun."""


@dataclass
class Shot:
    """One film of one face: clean and degraded frames, the matrix of every frame (512-px canonical → frame), and in
    *object* how much of every canonical pixel (512×512) is hidden."""

    clean: list[U8] = field(default_factory=list)
    seen: list[U8] = field(default_factory=list)
    matrices: list[F64] = field(default_factory=list)
    covers: list[F32] = field(default_factory=list)


def shoot(face: Face, number: int, protocol: str, seed: int, frames: int = FRAMES) -> Shot:
    """Film one face by ``protocol``; the same motion for the same number and seed in every protocol but *alive*."""
    r = np.random.default_rng([seed, number])
    px = float(r.uniform(310, min(490, face.px * 1.15)))
    centre = (WIDTH / 2 + r.normal(0, 120), HEIGHT / 2 + r.normal(0, 30))
    image = face.load()
    lively = ALIVE if protocol == "alive" else 0.0
    actor = Actor(image, px, (float(centre[0]), float(centre[1])), r, warp=0.5, lively=lively)
    obstacle = Occluder(actor, 0.33, OCCLUDERS[number % len(OCCLUDERS)], r) if protocol == "object" else None
    film = Film([actor, obstacle] if obstacle else [actor], image, r)
    p = PROTOCOLS[protocol]
    options = {"preset": "veryfast", "tune": "zerolatency", "crf": str(p["crf"])}
    rec = Recipe(protocol, p["scale"], p["sigma"], 0, "libx264", options, p["crf"], 0, ("none", 0, 0),
                 cv2.INTER_CUBIC, cv2.INTER_AREA)  # fmt: skip
    shot = Shot()
    times = [float(t) for t in range(frames)]
    if protocol == "clean":
        shot.clean = shot.seen = [film.render(t) for t in times]
    else:
        for _, clean, seen in degraded(film, rec, times, set(range(frames))):
            shot.clean.append(clean)
            shot.seen.append(seen)
    shot.matrices = [actor.matrix(t) for t in times]
    shot.covers = [obstacle.cover(t) for t in times] if obstacle else []
    return shot


def through_api(engine: str, shot: Shot, tracked: bool = False, still: bool = False, **options: Any) -> list[U8]:
    """The shot's frames through ``rtface.Enhancer`` with the known faces, or with those that its tracker finds;
    ``still``: every one as if there were no other."""
    import rtface

    out: list[U8] = []
    with rtface.Enhancer(engine=engine, format="rgb", grain="none", **options) as e:
        for frame, m in zip(shot.seen, shot.matrices, strict=True):
            points = apply(m, TEMPLATE_512)
            out.append(np.asarray(e(frame, faces=None if tracked else [points], still=still), np.uint8))
    return out


def through_film(engine: str, shot: Shot, **options: Any) -> list[U8]:
    """The shot's frames through the step that corrects a film's faces, which may look ahead; known faces."""
    from contextlib import ExitStack
    from fractions import Fraction

    from rtface.config.options import Options
    from rtface.engine.engine_set import LIGHT
    from rtface.enhance.film import FilmEnhancer
    from rtface.enhancer import own_face
    from rtface.frame import Color, Frame
    from rtface.pipeline.runtime import open_runtime
    from rtface.stats import Stats
    from rtface.util.av_arrays import array_from_image, image_from_array

    with ExitStack() as stack:
        runtime = open_runtime(engine, "cpu", stack)
        step = FilmEnhancer(runtime, Options(engine=engine, grain="none", **options), Stats(),
                            analysis=False, light=LIGHT)  # fmt: skip
        frames = (Frame(image_from_array(picture, "rgb"), k, Fraction(1, 30), 1, color=Color("rgb", True),
                        faces=(own_face(apply(m, TEMPLATE_512), 0),))
                  for k, (picture, m) in enumerate(zip(shot.seen, shot.matrices, strict=True)))  # fmt: skip
        return [np.asarray(array_from_image(f.image), np.uint8) for f in step(frames) if isinstance(f, Frame)]
