"""What default runs make of faces that were soft before they were coded, with and without `enhance.soft_sources`.

usage: python -m benchmarks.soft_sources {tuning,measure} --clips DIR [--codings LIST] [--frames N] [--engine NAME]

Codings are those of `benchmarks.review.degraded`; after "soft+" the clip is blurred (σ 2.5 of a crop of 512) before it
is coded, and that is the truth; after "up+" it comes as a poor call that is coded again. Luma in the face's oval
against the truth, and the mean change of its error from frame to frame. ``tuning`` is for the clips that the limits
were set on, ``measure`` for those set aside (`benchmarks.review.is_tuning`).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np

import rtface
from benchmarks.common import CACHE
from benchmarks.review import degraded, is_tuning
from rtface.enhance import soft_sources
from training.crop_space import U8, cut
from training.degradation.coded_film import decoded, level
from training.evaluation.clip_protocols import Clip, shot_of, watch

CODINGS = (
    "h264/22", "h264/28", "h264/34", "hevc/28", "mpeg2/8", "real/call", "real/heavy", "up+h264/28", "up+hevc/28",
    "soft+h264/22", "soft+h264/28", "soft+h264/34", "soft+hevc/28", "soft+mpeg2/8", "soft+clean/0",
)  # fmt: skip
_OVAL: Any = cv2.ellipse(np.zeros((512, 512), np.uint8), (256, 275), (128, 162), 0, 0, 360, 1, -1) > 0


def films(clip: Clip, coding: str, cache: Path) -> tuple[Path, list[U8], list[U8]]:
    """The film that a run gets, the truth, and the film's frames."""
    kind, _, coding = coding.rpartition("+")
    if kind == "soft":
        sigma = 2.5 * clip.side / 512
        clip = replace(clip, name=f"{clip.name}_soft", clean=[cv2.GaussianBlur(f, (0, 0), sigma) for f in clip.clean])
    if kind == "up":
        shot = shot_of(clip, "real/heavy", cache / "shots")[0]
        film, _, seen = degraded(replace(clip, name=f"{clip.name}_up", clean=shot.seen), coding, cache)
        return film, [f[: seen[0].shape[0], : seen[0].shape[1]] for f in shot.clean], seen
    return degraded(clip, coding, cache)


def errors(clip: Clip, frames: Sequence[U8], truth: Sequence[U8]) -> list[Any]:
    """The error of luma in the face's oval, frame by frame."""

    def luma(image: U8, matrix: Any) -> Any:
        return cv2.cvtColor(cut(image, matrix, 512), cv2.COLOR_RGB2GRAY)[_OVAL].astype(np.float32)

    return [luma(a, m) - luma(b, m) for a, b, m in zip(frames, truth, clip.matrices, strict=True)]


def decibels(before: list[Any], after: list[Any]) -> float:
    """The mean gain of PSNR."""
    pairs = zip(before, after, strict=True)
    return float(np.mean([10 * np.log10(max(1e-3, (b**2).mean()) / max(1e-3, (a**2).mean())) for b, a in pairs]))


def flicker(off: list[Any]) -> float:
    return float(np.mean([np.abs(b - a).mean() for a, b in pairwise(off)]))


def figures(clip: Clip, coding: str, cache: Path, **options: Any) -> Iterator[float]:
    """Gain without and with the rule, dB, and the flicker of the input, without and with it."""
    film, truth, seen = films(clip, coding, cache)
    off = [errors(clip, seen, truth)]
    with tempfile.TemporaryDirectory() as folder:
        for name, engines in (("without", ()), ("with", soft_sources.ENGINES)):
            with patch.object(soft_sources, "ENGINES", engines):
                rtface.run(film, Path(folder) / f"{name}.mkv", codec="ffv1", **options)
            made = list(decoded(Path(folder) / f"{name}.mkv", level("clean/0").siting))
            off.append(errors(clip, made, truth))
    yield from (decibels(off[0], one) for one in off[1:])
    yield from map(flicker, off)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("what", choices=("tuning", "measure"), help="which clips are looked at")
    p.add_argument("--clips", type=Path, required=True)
    p.add_argument("--cache", type=Path, default=CACHE / "review")
    p.add_argument("--codings", default=",".join(CODINGS))
    p.add_argument("--frames", type=int, default=13, help="of a clip at most")
    p.add_argument("--engine", default="default")
    a = p.parse_args()
    cv2.setNumThreads(1)
    clips = list[Clip]()
    for path in sorted(a.clips.iterdir()):
        if path.suffix != ".csv" and is_tuning(path.stem) == (a.what == "tuning"):
            try:
                clips.append(watch(path, a.frames, a.cache / "tracks"))
            except ValueError as error:
                print(f"left out: {error}", flush=True)
    for coding in a.codings.split(","):
        rows = np.array([[*figures(clip, coding, a.cache, engine=a.engine)] for clip in clips])
        (without, now, *flickers), worst = rows.mean(0), rows.min(0)
        print(
            f"| {coding} | {len(rows)} | {without:+.2f} ({worst[0]:+.2f}) | {now:+.2f} ({worst[1]:+.2f}) | "
            + ", ".join(f"{value:.2f}" for value in flickers)
            + " |",
            flush=True,
        )


if __name__ == "__main__":
    main()
