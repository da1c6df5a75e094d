"""Measures the best correction strengths, to which `rtface.analysis.treatment.predicted` is fitted.

``python -m training.data.strength_samples --faces DIR --out strength.json --films 300``

Films are made as in ``training.data.coded_pairs``. The first stage (the shipped network, scaled as in a run) processes
them, and then, through ``rtface.Enhancer``, the engine with all shaping at full strength. For a crop c after the first
stage, the engine's correction d and the truth t, the best strength is ⟨d, t − c⟩ / ⟨d, d⟩ inside the face's oval. Each
row contains these products, the products for the first stage at full strength, and the predictors: the analysis, the
errors that the network predicts, the quantiser step, and the face's width. Only tuning people are used, because the
network was trained on all other people, so its results for them are too good.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

import rtface
from rtface.analysis.analyzer import analyze_face
from rtface.analysis.measure import compression_of
from rtface.analysis.treatment import INSIDE
from rtface.device.cpu.device import CpuDevice
from rtface.engine.coded_network import CodedNetwork
from rtface.frame import Color, Face, Frame
from rtface.geometry.transforms import apply
from rtface.protocols import View
from rtface.util.av_arrays import image_from_array
from training.crop_space import F32, TEMPLATE_512, U8, oval_mask, similarity
from training.data import coded_pairs
from training.data.coded_pairs import CELL, change_tones, render
from training.data.portraits import Face as Portrait
from training.data.portraits import load_faces, split, tuning_people
from training.evaluation.truths import FACE_BOX

SIDE, FRAMES, MEASURED = 352, 8, (4, 7)
ENLARGED_SHARE = 0.35
"""Share of films that are enlarged after coding."""
ENGINES = ("rtface-m", "rtface-s")
MAX_SMALL_PX = 150.0
"""Maximum face width in pixels for rtface-s."""


def view_of(image: U8) -> View:
    """Wraps an RGB picture in a view for the analysis."""
    frame = Frame(image_from_array(image, "rgb"), 0, Fraction(1, 25), color=Color("rgb", True))
    return CpuDevice().view(frame)


def products(mask: F32, d: F32, target: F32) -> list[float]:
    """Computes ⟨d, w⟩, ⟨d, d⟩ and ⟨w, w⟩ under a mask."""
    return [float((mask * a * b).sum()) for a, b in ((d, target), (d, d), (target, target))]


def rows(
    number: int, face: Portrait, network: CodedNetwork, engines: dict[str, Any], r: np.random.Generator
) -> list[Any]:
    """Makes a film. Measures one row for each engine and measured frame."""
    enlarged = bool(r.uniform() < ENLARGED_SHARE)
    px = float(np.exp(r.uniform(*np.log((50, 260) if enlarged else (30, 200)))))
    scale = px / ((FACE_BOX[2] - FACE_BOX[0]) * 512)
    speed = 10 ** r.uniform(-1.5, 0.5)
    path = np.cumsum(r.normal(0, 1, (FRAMES, 4)) * [speed, speed, 0.004 * speed, 0.003 * speed], 0)
    places = [(SIDE / 2 + x, SIDE / 2 + y, float(a), float(np.exp(z))) for x, y, a, z in path]
    image = change_tones(np.asarray(cv2.resize(face.load(), (512, 512), interpolation=cv2.INTER_AREA), np.uint8), r)
    truths = render(image, scale, places, SIDE)
    truths, inputs, coding = coded_pairs.before_coding(truths, r)
    seen = (coded_pairs.enlarged_after if enlarged else lambda i, c, _: coded_pairs.coded(i, c))(inputs, coding, r)
    if len(seen) != FRAMES:
        return []
    steps_hidden = bool(r.uniform() < 0.3)
    outputs: list[tuple[F32, F32, F32]] = []
    for shown, steps in seen:
        visible_steps = None if steps_hidden or not np.isfinite(steps).all() else steps
        change, errors = network(shown, visible_steps)
        change = 255 * change.transpose(1, 2, 0)
        outputs.append((change, shown + INSIDE * change, errors.copy()))
    cleaned = [np.clip(c + r.uniform(0, 1, c.shape), 0, 255.99).astype(np.uint8) for _, c, _ in outputs]
    matrices = [similarity(scale * zoom, angle, (x, y), 512) for x, y, angle, zoom in places]
    samples: list[Any] = []
    for name, engine in engines.items():
        if name == "rtface-s" and px > MAX_SMALL_PX:
            continue
        engine.reset()
        shown = [engine(c, faces=[apply(m, TEMPLATE_512) + 0.5]) for c, m in zip(cleaned, matrices, strict=True)]
        for k in MEASURED:
            mask = np.asarray(cv2.warpAffine(oval_mask(512), matrices[k], (SIDE, SIDE)), np.float32)
            cells = cv2.resize(mask, (SIDE // CELL, SIDE // CELL), interpolation=cv2.INTER_AREA)
            corners = apply(matrices[k], 512 * np.array(FACE_BOX).reshape(2, 2))
            box = np.concatenate([corners.min(0), corners.max(0)])
            points = apply(matrices[k], TEMPLATE_512) + 0.5
            before, after = (float((cells * e).sum() / cells.sum()) for e in outputs[k][2])
            steps = seen[k][1]
            step = (
                0.0
                if steps_hidden or not np.isfinite(steps).all()
                else float(2 ** ((cells * steps).sum() / cells.sum()))
            )
            analysis = asdict(analyze_face(view_of(seen[k][0]), Face(1, box, points)))
            coded = {"compression": compression_of(step)} if step else {}
            truth, clean = truths[k].astype(np.float32), cleaned[k].astype(np.float32)
            raw = seen[k][0].astype(np.float32)
            samples.append({
                "film": number, "person": face.identity, "engine": name, "codec": coding.codec, "px": px,
                "grain": coding.grain, "enlarged": enlarged, "samples": 3 * float(mask.sum()),
                "analysis": analysis | coded | {"error": before, "remaining": after, "step": step},
                "engine_products": products(mask[..., None], np.asarray(shown[k], np.float32) - clean, truth - clean),
                "first_products": products(mask[..., None], outputs[k][0], truth - raw),
            })  # fmt: skip
    return samples


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--faces", type=Path, required=True)
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--films", type=int, default=300)
    p.add_argument("--seed", type=int, default=5)
    a = p.parse_args()
    cv2.setNumThreads(1)
    av.logging.set_level(av.logging.PANIC)
    everyone = load_faces(a.faces)
    tuning = tuning_people(everyone)
    faces = [f for f in split(everyone)[0] if f.px >= 384 and f.identity in tuning]
    network = CodedNetwork(1)
    samples: list[Any] = []
    engines = {name: rtface.Enhancer(engine=name, correct="always", threads=1) for name in ENGINES}
    for number in range(a.films):
        r = np.random.default_rng([a.seed, number])
        samples += rows(number, faces[int(r.integers(len(faces)))], network, engines, r)
        if number % 25 == 24:
            print(f"{number + 1} films, {len(samples)} rows", flush=True)
            a.out.write_text(json.dumps(samples), encoding="utf-8")
    a.out.write_text(json.dumps(samples), encoding="utf-8")


if __name__ == "__main__":
    main()
