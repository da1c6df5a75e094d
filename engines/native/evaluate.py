"""How good an engine is on people it has never seen.

``python -m engines.native.evaluate --faces DIR --engine rtface-s``

Two protocols, on the identities that ``faces.split`` sets aside or (``--people fresh``) those of ``faces.load_fresh``:

- **stills**: single crops through the still degradations of training;
- **film**: a face moves smoothly over a 1280×720 canvas (its crop 310–490 px wide); *call* is 640×360, sensor
  noise σ 3, x264 veryfast zerolatency crf 31 and back up to 720p; *heavy* is 320×180, σ 6, crf 33; *clean* is not
  degraded (PSNR to the input); *object* is *call* with an opaque thing over a third of the face (how much it changes).

PSNR is taken in canonical space, weighted with the face oval, after the colour lock and the mask of the run time. The
baselines stand in the same table: the input, and OpenCV's non-local means followed by an unsharp mask. ``--through
api`` runs whole frames through ``rtface.Enhancer`` with known faces instead of the bare network.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from . import degrade
from .actors import HEIGHT, WIDTH, Actor, Film
from .faces import Face, load_faces, load_fresh, split
from .films import Recipe, degraded
from .judge import Judge
from .obstacles import KINDS as OBSTACLES
from .obstacles import Obstacle
from .restorers import Network, classic, locked, psnr, weighted
from .space import F32, F64, TEMPLATE_512, U8, at, cut, oval_mask, similarity

PROTOCOLS = {
    "call": {"scale": 0.5, "sigma": 3.0, "crf": 31.0},
    "heavy": {"scale": 0.25, "sigma": 6.0, "crf": 33.0},
    "clean": {"scale": 1.0, "sigma": 0.0, "crf": 0.0},
    "object": {"scale": 0.5, "sigma": 3.0, "crf": 31.0},
}
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


def shoot(face: Face, number: int, protocol: str, seed: int) -> Shot:
    """Film one face by ``protocol``; the same motion for the same number and seed in every protocol."""
    r = np.random.default_rng([seed, number])
    px = float(r.uniform(310, min(490, face.px * 1.15)))
    centre = (WIDTH / 2 + r.normal(0, 120), HEIGHT / 2 + r.normal(0, 30))
    image = face.load()
    actor = Actor(image, px, (float(centre[0]), float(centre[1])), r, warp=0.5)
    obstacle = Obstacle(actor, 0.33, OBSTACLES[number % len(OBSTACLES)], r) if protocol == "object" else None
    film = Film([actor, obstacle] if obstacle else [actor], image, r)
    p = PROTOCOLS[protocol]
    options = {"preset": "veryfast", "tune": "zerolatency", "crf": str(p["crf"])}
    rec = Recipe(protocol, p["scale"], p["sigma"], 0, "libx264", options, p["crf"], 0, ("none", 0, 0),
                 cv2.INTER_CUBIC, cv2.INTER_AREA)  # fmt: skip
    shot = Shot()
    times = [float(t) for t in range(FRAMES)]
    if protocol == "clean":
        shot.clean = shot.seen = [film.render(t) for t in times]
    else:
        for _, clean, seen in degraded(film, rec, times, set(range(FRAMES))):
            shot.clean.append(clean)
            shot.seen.append(seen)
    shot.matrices = [actor.matrix(t) for t in times]
    shot.covers = [obstacle.cover(t) for t in times] if obstacle else []
    return shot


def through_api(engine: str, shot: Shot) -> list[U8]:
    """The shot's frames through ``rtface.Enhancer`` with the known faces."""
    import rtface

    out: list[U8] = []
    with rtface.Enhancer(engine=engine, format="rgb", grain="none") as e:
        for frame, m in zip(shot.seen, shot.matrices, strict=True):
            points = (TEMPLATE_512 @ m[:, :2].T + m[:, 2]).astype(np.float64)
            out.append(np.asarray(e(frame, faces=[points]), np.uint8))
    return out


def film_rows(
    faces: list[Face], protocol: str, restore: Network, side: int, seed: int, api: str, judge: Judge | None
) -> Iterator[dict[str, float]]:
    """One row a face: mean PSNR of input and ours, the baseline's gain, our flicker relative to the input's, and what
    ``judge`` says of two frames."""
    mask = oval_mask(side)
    for number, face in enumerate(faces):
        shot = shoot(face, number, protocol, seed)
        framed = through_api(api, shot) if api else []
        restore.begin()
        rows: list[tuple[float, float, float]] = []
        errors: list[tuple[F32, F32]] = []
        judged: list[dict[str, float]] = []
        for i in range(len(shot.seen)):
            m = at(shot.matrices[i], side)
            truth, seen = (cut(p[i], m, side).astype(np.float32) / 255 for p in (shot.clean, shot.seen))
            crop = cut(shot.seen[i], m, side)
            ours = cut(framed[i], m, side).astype(np.float32) / 255 if api else locked(seen, restore(crop))
            if i < WARM:
                continue
            before = psnr(seen, truth, mask)
            base = psnr(locked(seen, classic(crop)), truth, mask) - before if i == FRAMES // 2 else np.nan
            rows.append((before, base, psnr(ours, truth, mask)))
            errors.append((seen - truth, ours - truth))
            if judge and i in (FRAMES // 2, FRAMES - 1):
                judged.append(judge(truth, seen, ours, mask))
        flick = [np.mean([weighted(np.abs(b[k] - a[k]), mask) for a, b in pairwise(errors)]) for k in (0, 1)]
        mean = np.nanmean(np.array(rows), 0)
        yield {
            "input": mean[0],
            "classic_gain": mean[1],
            "ours": mean[2],
            "flicker": float(flick[1] / max(flick[0], 1e-9)),
            **({k: float(np.nanmean([j[k] for j in judged])) for k in judged[0]} if judged else {}),
        }


def object_rows(
    faces: list[Face], restore: Network, side: int, seed: int, api: str
) -> Iterator[dict[str, float]]:
    """One row a face: the mean change, in code values, of what an opaque thing in front of it shows."""
    for number, face in enumerate(faces):
        shot = shoot(face, number, "object", seed)
        framed = through_api(api, shot) if api else []
        restore.begin()
        changes: list[float] = []
        for i in range(len(shot.seen)):
            m = at(shot.matrices[i], side)
            crop = cut(shot.seen[i], m, side)
            seen = crop.astype(np.float32) / 255
            ours = cut(framed[i], m, side).astype(np.float32) / 255 if api else locked(seen, restore(crop))
            if i < WARM:
                continue
            cover = cv2.resize(shot.covers[i], (side, side), interpolation=cv2.INTER_AREA)
            hidden = (cover > 0.99) & (oval_mask(side) > 0)
            changes.append(255 * float(np.abs(ours - seen)[hidden].mean()))
        yield {"change": float(np.mean(changes))}


def still_rows(
    faces: list[Face], restore: Network, side: int, seed: int, judge: Judge | None
) -> Iterator[dict[str, float]]:
    """Two rows a face: PSNR of input and ours, and the baseline's gain, on the still degradations."""
    mask = oval_mask(side)
    for number, face in enumerate(f for f in faces if f.px >= side):
        r = np.random.default_rng([seed, number, 7])
        m = at(similarity(face.px / 512, 0, ((face.px - 1) / 2, (face.px - 1) / 2), 512), side)
        image = face.load()
        truth = cut(image, m, side).astype(np.float32) / 255
        for turn in range(2):
            crop = cut(degrade.still(image, r, face.px / 512), m, side)
            seen = crop.astype(np.float32) / 255
            restore.begin()
            before = psnr(seen, truth, mask)
            base = psnr(locked(seen, classic(crop)), truth, mask) - before if turn == number % 4 else np.nan
            ours = locked(seen, restore(crop))
            yield {"input": before, "classic_gain": base, "ours": psnr(ours, truth, mask),
                   **(judge(truth, seen, ours, mask) if judge else {})}  # fmt: skip


def summary(rows: list[dict[str, float]]) -> dict[str, float]:
    """Means, gain over the input, and the worst single gain."""
    gains = [r["ours"] - r["input"] for r in rows]
    out = {k: float(np.nanmean([r[k] for r in rows])) for k in rows[0]}
    out |= {"gain": float(np.mean(gains)), "worst": float(np.min(gains))}
    out |= {f"{k}_ratio": out[k] / out[f"{k}_in"] for k in ("st_lpips", "identity", "landmarks") if k in out}
    return {k: round(v, 3) for k, v in out.items()} | {"n": len(rows)}


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--faces", type=Path, required=True)
    p.add_argument("--engine", default="rtface-s")
    p.add_argument("--model", type=Path, help="an engine's folder (default: the one in the package)")
    p.add_argument("--through", choices=("network", "api"), default="network")
    p.add_argument("--protocols", default="stills,call,heavy,clean")
    p.add_argument("--people", choices=("held-out", "fresh"), default="held-out",
                   help="fresh: people of sources that nothing is trained or tuned on")
    p.add_argument("--count", type=int, default=40, help="faces for the film protocols")
    p.add_argument("--seed", type=int, default=11)
    p.add_argument("--judge", action="store_true",
                   help="also SSIM, landmarks, and (RTFACE_METRIC_WEIGHTS) ST-LPIPS and identity; much slower")
    p.add_argument("--json", type=Path)
    a = p.parse_args()
    cv2.setNumThreads(2)
    held = load_fresh(a.faces) if a.people == "fresh" else split(load_faces(a.faces))[1]
    actors = [f for f in held if f.px >= 384]
    order = np.random.default_rng(a.seed).permutation(len(actors))[: a.count]
    package = Path(__file__).parents[2] / "rtface" / "models" / a.engine
    restore = Network(a.model or package)
    side = restore.side
    judge = Judge() if a.judge else None
    api = a.engine if a.through == "api" else ""
    result: dict[str, Any] = {
        "engine": a.engine,
        "through": a.through,
        "people": a.people,
        "identities": len({f.identity for f in held}),
    }
    for name in a.protocols.split(","):
        if name == "object":
            changes = [r["change"] for r in object_rows([actors[int(i)] for i in order], restore, side, a.seed, api)]
            each = {k: round(float(np.mean(changes[i :: len(OBSTACLES)])), 2) for i, k in enumerate(OBSTACLES)}
            result[name] = {"change": round(float(np.mean(changes)), 2), "worst": round(max(changes), 2), **each}
            print(name, result[name], flush=True)
            continue
        if name == "stills":
            rows = list(still_rows(held, restore, side, a.seed, judge))
        else:
            rows = list(film_rows([actors[int(i)] for i in order], name, restore, side, a.seed, api, judge))
        result[name] = summary(rows)
        if name == "clean":
            result[name] = {"psnr_to_input": round(float(np.mean([r["ours"] for r in rows])), 2), "n": len(rows)}
        print(name, result[name], flush=True)
    if restore.times:
        result["crop_ms"] = {f"p{q}": round(float(np.percentile(restore.times, q)), 2) for q in (5, 50, 95)}
        print("crop_ms", result["crop_ms"])
    if a.json:
        a.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
