"""Evaluation of an engine on people that are not in the training data.

``python -m training.evaluation.evaluate --faces DIR --engine rtface-s``

Two protocols, on the identities that ``portraits.split`` sets aside or (``--people fresh``) those of
``portraits.load_fresh``:

- **stills**: single crops through the still degradations of training;
- **film**: a face moves smoothly over a 1280×720 canvas (its crop 310–490 px wide); *call* is 640×360, sensor
  noise σ 3, x264 veryfast zerolatency crf 31 and back up to 720p; *heavy* is 320×180, σ 6, crf 33; *clean* is not
  degraded (PSNR to the input); *object* is *call* with an opaque thing over a third of the face (how much it changes);
  in *alive*, which is a *call* too, the face turns, blinks, looks about and speaks.

PSNR is taken in canonical space, weighted with the face oval, after the colour lock and the mask of the run time. The
baselines stand in the same table: the input, and OpenCV's non-local means followed by an unsharp mask; another network
is measured by naming its folder (``--model``). ``--through api`` runs whole frames through ``rtface.Enhancer`` with
known faces instead of the bare network, ``--through tracker`` with those that the run time finds itself.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from training.crop_space import F32, U8, at, cut, oval_mask, roi, similarity, whole
from training.data.film_pairs import KINDS
from training.data.occluders import KINDS as OCCLUDERS
from training.data.portraits import Face, groups, load_faces, load_fresh, split
from training.degradation import single_image
from training.evaluation.crop_scores import Judge
from training.evaluation.film_protocols import FRAMES, WARM, Shot, shoot, through_api
from training.evaluation.metrics import coverage
from training.evaluation.restorers import Network, classic, locked, psnr, weighted

if TYPE_CHECKING:
    from training.data.shards import Pairs


class Doubt:
    """What the uncertainty head promised, beside the errors that came: every 17th value inside the oval."""

    def __init__(self) -> None:
        self.errors: list[F32] = []
        self.scales: list[F32] = []

    def see(self, restore: Network, ours: F32, truth: F32) -> None:
        """Takes one restored S×S×3 picture of 0..1; nothing of a network without such a head."""
        said = restore.said and restore.said.log_scale
        if said is None:
            return
        said = said[0]
        x, y, w, h = roi(restore.side)
        part = np.s_[y : y + h, x : x + w]
        inside = oval_mask(restore.side)[part] > 0.5
        scale = cv2.resize(said, (w, h), interpolation=cv2.INTER_LINEAR)
        self.errors.append(np.abs(ours - truth)[part][inside][::17])
        self.scales.append(scale[inside][::17, None])

    def summary(self) -> dict[str, float]:
        """Mean gap of nominal and observed coverage, 10…90 %."""
        if not self.errors:
            return {}
        return {"coverage_gap": coverage(np.concatenate(self.errors), np.concatenate(self.scales)).gap}


def film_rows(
    shots: Iterable[Shot],
    restore: Network,
    judge: Judge | None,
    doubt: Doubt,
    enhance: Callable[[Shot], list[U8]] | None,
) -> Iterator[dict[str, float]]:
    """One row a shot: mean PSNR of input and ours, the baseline's gain, our flicker relative to the input's, and what
    ``judge`` says of two frames. ``enhance``: the run time, instead of the bare network."""
    side = restore.side
    mask = oval_mask(side)
    for shot in shots:
        framed = enhance(shot) if enhance else []
        restore.begin()
        rows: list[tuple[float, float, float]] = []
        errors: list[tuple[F32, F32]] = []
        judged: list[dict[str, float]] = []
        count = len(shot.seen)
        for i in range(count):
            m = at(shot.matrices[i], side)
            truth, seen = (cut(p[i], m, side).astype(np.float32) / 255 for p in (shot.clean, shot.seen))
            crop = cut(shot.seen[i], m, side)
            ours = cut(framed[i], m, side).astype(np.float32) / 255 if enhance else locked(seen, restore(crop))
            if i < WARM:
                continue
            before = psnr(seen, truth, mask)
            base = psnr(locked(seen, classic(crop)), truth, mask) - before if i == count // 2 else np.nan
            rows.append((before, base, psnr(ours, truth, mask)))
            errors.append((seen - truth, ours - truth))
            doubt.see(restore, ours, truth)
            if judge and i in (count // 2, count - 1):
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
    faces: list[Face], restore: Network, seed: int, enhance: Callable[[Shot], list[U8]] | None
) -> Iterator[dict[str, float]]:
    """One row a face: the mean change, in code values, of what an opaque thing in front of it shows, and what the
    occlusion head (of the bare network) says of it and of the face beside it, 0..1."""
    side = restore.side
    for number, face in enumerate(faces):
        shot = shoot(face, number, "object", seed)
        framed = enhance(shot) if enhance else []
        restore.begin()
        changes: list[float] = []
        heads: list[tuple[float, float]] = []
        for i in range(len(shot.seen)):
            m = at(shot.matrices[i], side)
            crop = cut(shot.seen[i], m, side)
            seen = crop.astype(np.float32) / 255
            ours = cut(framed[i], m, side).astype(np.float32) / 255 if enhance else locked(seen, restore(crop))
            if i < WARM:
                continue
            cover = cv2.resize(shot.covers[i], (side, side), interpolation=cv2.INTER_AREA)
            hidden = (cover > 0.99) & (oval_mask(side) > 0)
            changes.append(255 * float(np.abs(ours - seen)[hidden].mean()))
            if restore.said and restore.said.occlusion is not None:
                free = (cover < 0.01) & (oval_mask(side) > 0.5)
                said = restore.said.occlusion[0]
                heads.append((float(said[hidden].mean()), float(said[free].mean())))
        on, off = np.mean(heads, 0) if heads else (np.nan, np.nan)
        yield {"change": float(np.mean(changes)), "head_on": float(on), "head_off": float(off)}


def still_rows(
    faces: list[Face], restore: Network, seed: int, judge: Judge | None, doubt: Doubt
) -> Iterator[dict[str, float]]:
    """Two rows a face: PSNR of input and ours, and the baseline's gain, on the still degradations."""
    side = restore.side
    mask = oval_mask(side)
    for number, face in enumerate(f for f in faces if f.px >= side):
        r = np.random.default_rng([seed, number, 7])
        m = at(similarity(face.px / 512, 0, ((face.px - 1) / 2, (face.px - 1) / 2), 512), side)
        image = face.load()
        truth = cut(image, m, side).astype(np.float32) / 255
        for turn in range(2):
            crop = cut(single_image.still(image, r, face.px / 512), m, side)
            seen = crop.astype(np.float32) / 255
            restore.begin()
            before = psnr(seen, truth, mask)
            base = psnr(locked(seen, classic(crop)), truth, mask) - before if turn == number % 4 else np.nan
            ours = locked(seen, restore(crop))
            doubt.see(restore, ours, truth)
            yield {"input": before, "classic_gain": base, "ours": psnr(ours, truth, mask),
                   **(judge(truth, seen, ours, mask) if judge else {})}  # fmt: skip


def by_kind(pairs: Pairs, restore: Network) -> dict[str, str]:
    """Mean gain (and how many, and the worst) by kind of degradation, on pairs of people set aside."""
    side, found = restore.side, dict[str, list[float]]()
    mask = oval_mask(side)
    for i, kind in enumerate(pairs.kinds):
        truth, crop = (whole(part, side) for part in pairs.get(i))
        seen = crop.astype(np.float32) / 255
        restore.begin()
        gain = psnr(locked(seen, restore(crop)), truth.astype(np.float32) / 255, mask)
        found.setdefault(KINDS[kind], []).append(gain - psnr(seen, truth.astype(np.float32) / 255, mask))
    return {name: spread(gains) for name, gains in found.items() if name != "clean"}


def spread(gains: list[float]) -> str:
    """Mean, worst and number of gains in dB."""
    return f"{np.mean(gains):+.2f} dB, worst {min(gains):+.2f} ({len(gains)})"


def summary(rows: list[dict[str, float]]) -> dict[str, float]:
    """Means, gain over the input, and the worst single gain."""
    gains = [r["ours"] - r["input"] for r in rows]
    out = {k: float(np.nanmean([r[k] for r in rows])) for k in rows[0]}
    out |= {"gain": float(np.mean(gains)), "worst": float(np.min(gains))}
    out |= {f"{k}_ratio": out[k] / out[f"{k}_in"] for k in ("st_lpips", "identity", "dlib", "landmarks") if k in out}
    return {k: round(v, 3) for k, v in out.items()} | {"n": len(rows)}


def by_group(faces: list[Face], rows: list[dict[str, float]]) -> dict[str, str]:
    """Mean gain (and how many) by skin tone, pose and kind of the picture."""
    found: dict[str, list[float]] = {}
    for face, row in zip(faces, rows, strict=True):
        for name in groups(face):
            found.setdefault(name, []).append(row["ours"] - row["input"])
    return {name: spread(gains) for name, gains in sorted(found.items())}


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--faces", type=Path, required=True)
    p.add_argument("--engine", default="rtface-s")
    p.add_argument("--model", type=Path, help="an engine's folder (default: the one in the package)")
    p.add_argument("--through", choices=("network", "api", "tracker"), default="network")
    p.add_argument("--protocols", default="stills,call,heavy,clean")
    p.add_argument(
        "--people",
        choices=("held-out", "fresh"),
        default="held-out",
        help="fresh: people of sources that nothing is trained or tuned on",
    )
    p.add_argument("--count", type=int, default=40, help="faces for the film protocols")
    p.add_argument("--frames", type=int, default=FRAMES, help="of a film; in longer ones, what is remembered drifts")
    p.add_argument("--seed", type=int, default=11)
    p.add_argument(
        "--judge",
        action="store_true",
        help="also SSIM, landmarks, and (RTFACE_METRIC_WEIGHTS) ST-LPIPS and identity; much slower",
    )
    p.add_argument("--pairs", type=Path, help="of people set aside (films --held-out): gain by kind of degradation")
    p.add_argument("--json", type=Path)
    a = p.parse_args()
    cv2.setNumThreads(2)
    held = load_fresh(a.faces) if a.people == "fresh" else split(load_faces(a.faces))[1]
    actors = [f for f in held if f.px >= 384]
    actors = [actors[int(i)] for i in np.random.default_rng(a.seed).permutation(len(actors))[: a.count]]
    restore = Network(a.model or Path(__file__).parents[2] / "rtface" / "models" / a.engine)
    judge = Judge() if a.judge else None
    enhance = None if a.through == "network" else partial(through_api, a.engine, tracked=a.through == "tracker")
    result: dict[str, Any] = {
        "engine": a.engine,
        "through": a.through,
        "people": a.people,
        "identities": len({f.identity for f in held}),
    }
    for name in a.protocols.split(","):
        doubt = Doubt()
        if name == "object":
            rows = list(object_rows(actors, restore, a.seed, enhance))
            changes = [r["change"] for r in rows]
            heads = {k: round(float(np.mean([r[k] for r in rows])), 2) for k in ("head_on", "head_off")}
            each = {k: round(float(np.mean(changes[i :: len(OCCLUDERS)])), 2) for i, k in enumerate(OCCLUDERS)}
            result[name] = {"change": round(float(np.mean(changes)), 2), "worst": round(max(changes), 2)} | heads | each
        elif name == "stills":
            result[name] = summary(list(still_rows(held, restore, a.seed, judge, doubt)))
        else:
            shots = (shoot(face, number, name, a.seed, a.frames) for number, face in enumerate(actors))
            rows = list(film_rows(shots, restore, judge, doubt, enhance))
            if name == "clean":
                result[name] = {"psnr_to_input": round(float(np.mean([r["ours"] for r in rows])), 2), "n": len(rows)}
            else:
                result[name] = summary(rows) | {"groups": by_group(actors, rows)}
        result[name] |= {k: round(v, 3) for k, v in doubt.summary().items()}
        print(name, result[name], flush=True)
    if a.pairs:
        from training.data.shards import Pairs  # needs torch, the rest does not

        result["kinds"] = by_kind(Pairs(a.pairs, restore.side), restore)
        print("kinds", result["kinds"], flush=True)
    if restore.times:
        result["crop_ms"] = {f"p{q}": round(float(np.percentile(restore.times, q)), 2) for q in (5, 50, 95)}
        print("crop_ms", result["crop_ms"])
    if a.json:
        a.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
