"""How early `rtface review` names the frames that are wrong: by a judge that sees the truth and none of its figures.

usage: python -m benchmarks.review {tuning,measure} --clips DIR --weights DIR [--cache DIR] [--save]

Real clips are degraded by `training.evaluation.clip_protocols` and by H.264 at their own size, a run restores each, and
all frames of one setting are ranked together by `Doubt.score` of the place that they lie in; a frame without a
correction comes last. The judge calls a frame wrong where the face of the output is farther from the truth than that of
the input by one of `LIMITS`: in PSNR, or in the distance of EdgeFace, which neither rtface nor any training uses.
``tuning`` is for the clips that `rtface.analysis.doubt.TERMS` was set on, ``measure`` for those set aside: by
`training.evaluation.clip_protocols.SETS`, and of other clips those where the first byte of the SHA-256 of their name is
odd.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from math import inf
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import rtface
from benchmarks.common import CACHE, save
from benchmarks.guard import psnr
from rtface.analysis.doubt import Doubt
from training.crop_space import U8, cut
from training.degradation.coded_film import FPS, decoded, level
from training.evaluation.clip_protocols import Clip, set_of, shot_of, watch
from training.evaluation.edgeface import EdgeFace
from training.evaluation.native_protocols import Truth
from training.evaluation.native_runs import film_file

PROTOCOLS = ("real/heavy", "h264/34", "hevc/28")
SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "vivid": {"correct": "always", "fidelity": 0.0, "guard": "on"},
}
LIMITS = {"psnr": (0.5, inf), "identity": (inf, 0.05), "either": (0.5, 0.05), "either, before": (0.2, 0.1)}
"""By how many dB, or by what distance, a face is farther from the truth than it was."""
EVERY = 3
"""Frames from one that is judged to the next."""
FIRST = 0.1, 0.2, 0.3
"""The parts of the list in which the wrong frames are looked for."""


def is_tuning(name: str) -> bool:
    """Whether figures of a clip may decide."""
    if (known := set_of(name)) != "other":
        return known == "tuning"
    return hashlib.sha256(name.encode()).digest()[0] % 2 == 0


def degraded(clip: Clip, protocol: str, cache: Path) -> tuple[Path, list[U8], list[U8]]:
    """The film that a run gets, the truth, and the film's frames."""
    if protocol.startswith("real/"):
        shot, how = shot_of(clip, protocol, cache / "shots")[0], level("clean/0")
        clean, seen = shot.clean, shot.seen
    else:
        clean, how = clip.clean, level(protocol)
        seen = clean
    height, width = (side // 2 * 2 for side in clean[0].shape[:2])
    film = film_file(Truth(clip.name, "clips", [f[:height, :width] for f in seen], clip.matrices), how, cache / "coded")
    return film, [f[:height, :width] for f in clean], list(decoded(film, how.siting))


def judged(
    clip: Clip, protocol: str, settings: Sequence[str], judge: EdgeFace, cache: Path
) -> Iterator[dict[str, Any]]:
    """The frames of each setting: what a run noted of them, and by how much they are farther from the truth."""
    kept = {s: cache / "judged" / f"{clip.name}-{protocol.replace('/', '-')}-{s}.json" for s in settings}
    for setting, path in kept.items():
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(measured(clip, degraded(clip, protocol, cache), SETTINGS[setting], judge)))
            print(path.stem, flush=True)
        yield {"clip": clip.name, "protocol": protocol, "setting": setting, **json.loads(path.read_text())}


def measured(
    clip: Clip, films: tuple[Path, list[U8], list[U8]], options: dict[str, Any], judge: EdgeFace
) -> dict[str, Any]:
    """The doubts of one run, and the distances of some of its frames; `films` as `degraded` gives them."""
    film, clean, seen = films
    with tempfile.TemporaryDirectory() as folder:
        made = rtface.run(film, Path(folder) / "out.mkv", codec="ffv1", **options)
        shown = list(decoded(Path(folder) / "out.mkv", level("clean/0").siting))
    frames: list[dict[str, Any]] = []
    for n in range(0, len(clip.matrices), EVERY):
        want, before, after = (cut(of[n], clip.matrices[n], 512) for of in (clean, seen, shown))
        distance = judge.distance(after, want) - judge.distance(before, want)
        frames.append({"number": n, "db": psnr(after, want) - psnr(before, want), "distance": distance})
    return {"doubts": [doubt for track in made.to_dict()["tracks"] for doubt in track["doubts"]], "frames": frames}


def rows_of(run: dict[str, Any], decibels: float, distance: float) -> Iterator[tuple[Doubt | None, bool]]:
    """Of each frame the doubt of its place, and whether it is wrong."""
    doubts = [Doubt.of(doubt) for doubt in run["doubts"]]
    for frame in run["frames"]:
        time = frame["number"] / FPS
        here = [doubt for doubt in doubts if doubt.from_s - 0.001 <= time <= doubt.to_s + 0.001]
        wrong = frame["db"] <= -decibels or frame["distance"] >= distance
        yield max(here, key=lambda one: one.score, default=None), wrong


def figures(rows: Sequence[tuple[Doubt | None, bool]], rounds: int = 200) -> dict[str, Any]:
    """How many frames of a list are wrong, which share of these stands in its first parts, with ties in the middle, and
    how often a wrong frame stands before another (area under the curve); the same in a random order, at most in 95 % of
    them."""
    scores, wrong = np.array([0.0 if d is None else d.score for d, _ in rows]), np.array([w for _, w in rows])
    r, count = np.random.default_rng(1), max(1, int(wrong.sum()))
    orders = [np.lexsort((r.random(len(rows)), -scores)) for _ in range(rounds)]
    firsts = [round(part * len(rows)) for part in FIRST]
    chance = [wrong[r.permutation(len(rows))[: firsts[0]]].sum() / count for _ in range(rounds)]
    above, below = scores[wrong][:, None], scores[~wrong][None]
    pairs = (above > below) + 0.5 * (above == below)
    return {
        "frames": len(rows),
        "wrong": int(wrong.sum()),
        "in_first": [round(float(np.mean([wrong[order[:n]].sum() / count for order in orders])), 3) for n in firsts],
        "at_best": [round(min(1.0, n / count), 3) for n in firsts],
        "area": round(float(pairs.mean()), 3) if pairs.size else None,
        "random": round(float(np.mean(chance)), 3),
        "random_95": round(float(np.quantile(chance, 0.95)), 3),
    }


def of_setting(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The figures of one setting, by what counts as wrong."""
    return {name: figures([row for run in runs for row in rows_of(run, *limits)]) for name, limits in LIMITS.items()}


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("what", choices=("tuning", "measure"), help="which half of the clips is looked at")
    p.add_argument("--clips", type=Path, required=True)
    p.add_argument("--weights", type=Path, help="folder of EdgeFace's weights (default: $RTFACE_METRIC_WEIGHTS)")
    p.add_argument("--cache", type=Path, default=CACHE / "review")
    p.add_argument("--frames", type=int, default=36, help="of a clip at most")
    p.add_argument("--settings", default=",".join(SETTINGS))
    p.add_argument("--protocols", default=",".join(PROTOCOLS))
    p.add_argument("--save", action="store_true", help="write benchmarks/results/review.json")
    a = p.parse_args()
    cv2.setNumThreads(1)
    judge, runs = EdgeFace(a.weights), list[dict[str, Any]]()
    for path in sorted(a.clips.iterdir()):
        if path.suffix == ".csv" or is_tuning(path.stem) != (a.what == "tuning"):
            continue
        try:
            clip = watch(path, a.frames, a.cache / "tracks")
        except ValueError as error:
            print(f"left out: {error}", flush=True)
            continue
        for protocol in a.protocols.split(","):
            runs += judged(clip, protocol, a.settings.split(","), judge, a.cache)
    result: dict[str, Any] = {"clips": sorted({run["clip"] for run in runs}), "frames_of_a_clip": a.frames}
    for setting in a.settings.split(","):
        mine = [run for run in runs if run["setting"] == setting]
        result[setting] = {
            name: of_setting([run for run in mine if run["protocol"] in protocols])
            for name, protocols in {"all": PROTOCOLS, **{one: (one,) for one in PROTOCOLS}}.items()
        }
    if a.save:
        save("review", result)
    else:
        print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
