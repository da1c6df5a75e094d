"""Temporal stability of an engine, and what it costs.

``python -m training.evaluation.temporal_stability --engine NAME …``

The same engine in several ways, all through the run time's whole frames (known or tracked faces, no grain): *each*:
every frame as if it were the only one; *averaged*: the gated average over time; *key/N*: on every N-th frame of a film
(`rtface.enhance.keyframes.scheduler`), and *live key/N*: the same without looking ahead; *small*: rtface-s alone.
Films as in ``evaluate``
(``--faces``: people set aside; ``--people train`` to tune on), or real clips as in ``clip_protocols`` (``--clips``), as
they are (``--protocols asis``) or through a call.

- **psnr**: dB to the clean film, and *between*: on the frames between keyframes only;
- **flicker**: how much the error changes from frame to frame (as in ``evaluate``);
- **tremble**: the same along the motion: how much the error differs from that of the frame before, moved as the
  clean film moves (dense flow, where forward and backward agree), as in the warping error of Lai et al.,
  "Learning Blind Video Temporal Consistency", 2018. Detail that nobody restored moves with a face, and is no flicker;
- **warping**: the same of what is shown itself, as in that paper: needs no truth;
- **fine**: energy of the fine structure of what is shown (luma above a Gaussian of sigma 2 at 512 px).

All but psnr are relative to *each*. A blurred film flickers less, so *fine* stands beside. Two rows show how far the
figures can fall at all: *truth* is the clean film, *blurred* the same, blurred to the psnr of *each*.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from training.crop_space import F32, U8, at, cut, oval_mask
from training.data.portraits import load_faces, split
from training.evaluation.clip_protocols import shot_of, watch
from training.evaluation.film_protocols import WARM, Shot, shoot, through_api, through_film
from training.evaluation.motion import Motion

SIDE = 512
Way = Callable[[Shot], list[U8]]


def crops(pictures: list[U8], shot: Shot) -> list[F32]:
    """float32 S×S×3 of 0..1 of every frame."""
    return [cut(p, at(m, SIDE), SIDE).astype(np.float32) / 255 for p, m in zip(pictures, shot.matrices, strict=True)]


def fine(shown: F32, mask: F32) -> float:
    """Energy of the fine structure."""
    luma = shown @ np.array([0.299, 0.587, 0.114], np.float32)
    return float(((luma - cv2.GaussianBlur(luma, (0, 0), 2.0)) ** 2 * mask).mean() / mask.mean())


def figures(shown: list[F32], truth: list[F32], motion: Motion, every: int) -> dict[str, float]:
    """One film in absolute figures."""
    mask = oval_mask(SIDE)
    weight = mask[..., None] / mask.mean()
    errors = [a - b for a, b in zip(shown, truth, strict=True)]
    db = [float(-10 * np.log10(max(float((e * e * weight).mean()), 1e-10))) for e in errors]
    rest = [v for k, v in enumerate(db) if k >= WARM and k % every]
    return {
        "psnr": float(np.mean(db[WARM:])),
        "between": float(np.mean(rest)) if rest else float("nan"),
        "flicker": float(np.mean([(np.abs(b - a) * weight).mean() for a, b in pairwise(errors[WARM:])])),
        "tremble": motion.change(errors),
        "warping": motion.change(shown),
        "fine": float(np.mean([fine(p, mask) for p in shown[WARM:]])),
    }  # fmt: skip


def blurred(truth: list[F32], psnr: float) -> list[F32]:
    """The clean film, blurred until it is as far from itself as an engine's answer is: nothing but motion changes."""
    weight = oval_mask(SIDE)[..., None]
    low, high, soft = 0.2, 30.0, truth
    for _ in range(12):
        sigma = (low * high) ** 0.5
        soft = [cv2.GaussianBlur(p, (0, 0), sigma) for p in truth]
        error = np.mean([(weight * (a - b) ** 2).mean() / weight.mean() for a, b in zip(soft, truth, strict=True)])
        low, high = (sigma, high) if error < 10 ** (-psnr / 10) else (low, sigma)
    return soft


def compared(shot: Shot, ways: dict[str, Way], every: int) -> dict[str, dict[str, float]]:
    """Figures of every way, and of the input; PSNR less that of *each*, the rest divided by it."""
    truth = crops(shot.clean, shot)
    motion = Motion(truth, oval_mask(SIDE), WARM)
    found = {name: figures(crops(way(shot), shot), truth, motion, every) for name, way in ways.items()}
    found["input"] = figures(crops(shot.seen, shot), truth, motion, every)
    found["truth"] = figures(truth, truth, motion, every)
    found["blurred"] = figures(blurred(truth, found["each"]["psnr"]), truth, motion, every)
    base = found["each"]
    return {name: {k: v - base[k] if k in ("psnr", "between") else v / max(base[k], 1e-9) for k, v in row.items()}
            for name, row in found.items()}  # fmt: skip


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--engine", required=True, help="a stateless one, see training.evaluation.single_frame_engine")
    p.add_argument("--faces", type=Path)
    p.add_argument("--people", choices=("held-out", "train"), default="held-out")
    p.add_argument("--clips", type=Path, nargs="+", default=[])
    p.add_argument("--protocols", default="call,heavy")
    p.add_argument("--count", type=int, default=12)
    p.add_argument("--frames", type=int, default=25)
    p.add_argument("--every", type=int, default=4)
    p.add_argument("--ways", default="", help="only these, by their beginnings")
    p.add_argument("--seed", type=int, default=11)
    a = p.parse_args()
    ways: dict[str, Way] = {
        "each": partial(through_api, a.engine, analysis=False, still=True),
        "small": partial(through_api, "rtface-s", analysis=False),
        "averaged": partial(through_api, a.engine, analysis=False, keyframe=1),
        f"key/{a.every}": partial(through_film, a.engine, keyframe=a.every),
        f"live key/{a.every}": partial(through_api, a.engine, analysis=False, keyframe=a.every),
    }
    chosen = tuple(w for w in a.ways.split(",") if w)
    ways = {k: w for k, w in ways.items() if k == "each" or not chosen or k.startswith(chosen)}
    for protocol in a.protocols.split(","):
        rows: dict[str, list[dict[str, float]]] = {}
        for title, shot in shots(a, protocol):
            for name, row in compared(shot, ways, a.every).items():
                rows.setdefault(name, []).append(row)
            print(protocol, title, {n: said(r[-1]) for n, r in rows.items()}, flush=True)
        for name, found in rows.items():
            print(f"{protocol} {name:>12} {said({k: float(np.mean([r[k] for r in found])) for k in found[0]})} "
                  f"({len(found)})", flush=True)  # fmt: skip


def shots(a: argparse.Namespace, protocol: str) -> Iterator[tuple[str, Shot]]:
    """The films that were asked for."""
    if a.faces:
        people = [f for f in split(load_faces(a.faces))[a.people == "held-out"] if f.px >= 384]
        order = np.random.default_rng(a.seed).permutation(len(people))[: a.count]
        for number, k in enumerate(order):
            yield f"{number}", shoot(people[int(k)], number, protocol, a.seed, a.frames)
    for path in a.clips:
        try:
            clip = watch(path, a.frames)
        except ValueError as e:
            print(f"left out: {e}", flush=True)
            continue
        yield path.stem, (Shot(clip.clean, clip.clean, clip.matrices) if protocol == "asis" else
                          shot_of(clip, f"real/{protocol}")[0])  # fmt: skip


def said(row: dict[str, float]) -> str:
    """One row in a line."""
    return " ".join(f"{k} {v:+.2f}" if k in ("psnr", "between") else f"{k} {v:.2f}" for k, v in row.items())


if __name__ == "__main__":
    main()
