"""Measures the accuracy of the map of invented detail.

usage: python -m benchmarks.invented {calibrate,measure} --clips DIR --faces DIR [--engine NAME,...] [--cache DIR]

Clips and people are those of `training.evaluation` (engines/training/README.md). Real clips and films of stills are
degraded, restored by `rtface.Enhancer`, and compared with the originals. ``calibrate`` fits the constants of
`rtface.correct.expected_error` to the tuning clips and to people of the training set, and prints them. Groups with a
larger coverage error get more weight. ``measure`` uses held-out clips and people, and only samples that a correction
changed. It reports their coverage (the share whose luma differs from the truth by at most the map's value; required:
0.90 ± 0.05), and the share that is at least 2 of 255 farther from the truth than the input is. Names with ``still``
use only the first frame of each film, names with ``half`` ``--strength 0.5``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import rtface
from benchmarks.common import CACHE, RESULTS, save
from rtface.correct.colour import LUMA
from rtface.correct.expected_error import CALIBRATIONS
from rtface.frame import Frame
from rtface.pipeline.invented import ChangedFace, InventedMaps
from training.data.portraits import load_faces, split
from training.degradation.coded_film import coded_frames, level
from training.evaluation.clip_protocols import PROTOCOLS, Shot, choose_clips, degrade_clip, load_clip
from training.evaluation.truths import portrait

FILMS = {"call": "call/2", "heavy": "heavy/4"}
COVERAGE = 0.9
"""Required share of samples within the bound."""
ASKED = ("real/call", "real/heavy", "film/call", "film/heavy", "still/call", "still/heavy")
"""The protocols that must reach the coverage."""
FIRST, EVERY, SAMPLES = 10, 3, 2500
WORSE = 2.0  # a sample whose error exceeds the input's by this many code values counts as worse
FEATURES = 5  # number of feature columns of a sample; columns of errors follow

Samples = Any


class _RecordingMaps(InventedMaps):
    """Maps of invented detail that store their faces until the next frame."""

    def __init__(self) -> None:
        super().__init__()
        self.faces: list[ChangedFace] = []

    def original(self, frame: Frame) -> Any:
        self.faces = []
        return super().original(frame)

    def changed_face(self, *arguments: Any, **options: Any) -> ChangedFace | None:
        face = super().changed_face(*arguments, **options)
        self.faces += [] if face is None else [face]
        return face


def shots(arguments: argparse.Namespace) -> Iterator[tuple[str, Shot]]:
    """Yields degraded films with their protocols."""
    for path in choose_clips(arguments.clips, "tuning" if arguments.what == "calibrate" else "set-aside"):
        clip = load_clip(path, arguments.frames, arguments.cache)
        for protocol in PROTOCOLS:
            yield protocol, degrade_clip(clip, protocol)
    people = [face for face in split(load_faces(arguments.faces))[int(arguments.what == "measure")] if face.px >= 384]
    for number, place in enumerate(np.random.default_rng(11).permutation(len(people))[: arguments.count]):
        truth = portrait(people[int(place)], frames=FIRST + 8)
        for protocol, coding in FILMS.items():
            degraded = coded_frames(truth.frames, level(coding), number)
            yield f"film/{protocol}", Shot(truth.frames, degraded, truth.matrices)


def samples(enhancer: rtface.Enhancer, maps: _RecordingMaps, shot: Shot, *, still: bool = False) -> Samples:
    """Draws changed samples of a film. Returns n×8: five features as in `ErrorCalibration`, the output's error, the
    input's error, and the map's value."""
    enhancer.reset()
    rows: list[Samples] = []
    weights = np.array(LUMA, np.float32)
    for number, (clean, degraded) in enumerate(zip(shot.clean, shot.seen, strict=True)):
        maps.faces = []
        restored = np.asarray(enhancer(degraded, still=still))
        if not still and (number < FIRST or (number - FIRST) % EVERY):
            continue
        for face in maps.faces:
            truth = clean[face.part].astype(np.float32) @ weights
            change, contrast, overall = face.features()
            bounds = np.clip(np.rint(face.within()), 1, 255)
            is_drawn = face.changed & (np.random.default_rng(number).random(truth.shape) < SAMPLES / face.changed.sum())
            columns = (
                face.log_scale + np.float32(np.log(255.0)),
                np.log1p(change),
                np.log1p(contrast),
                np.full_like(truth, np.log(overall + 0.2)),
                np.full_like(truth, np.log(face.scale)),
                np.abs(restored[face.part].astype(np.float32) @ weights - truth),
                np.abs(face.before - truth),
                bounds,
            )
            rows.append(np.stack([column[is_drawn] for column in columns], 1))
        if still:
            break
    return np.concatenate(rows) if rows else np.zeros((0, FEATURES + 3), np.float32)


def collect_samples(engine: str, a: argparse.Namespace, films: Sequence[tuple[str, Shot]]) -> dict[str, Samples]:
    """Collects the samples of an engine by protocol."""
    by_protocol: dict[str, list[Samples]] = {}
    for strength in (1.0, 0.5) if a.what == "measure" else (1.0,):
        with rtface.Enhancer(engine=engine, format="rgb", device="cpu", strength=strength) as enhancer:
            maps = _RecordingMaps()
            enhancer._enhance.invented = maps
            for protocol, shot in films:
                if strength < 1.0 and protocol not in PROTOCOLS:
                    continue
                name = protocol if strength == 1.0 else f"half {protocol}"
                by_protocol.setdefault(name, []).append(samples(enhancer, maps, shot))
                if strength == 1.0 and protocol.startswith("film/"):
                    by_protocol.setdefault(protocol.replace("film", "still"), []).append(
                        samples(enhancer, maps, shot, still=True)
                    )
    print(f"{engine}: samples collected", flush=True)
    return {name: np.concatenate(parts) for name, parts in by_protocol.items() if sum(map(len, parts))}


# -- calibrate ------------------------------------------------------------------------------------------------------


def fit_bound(groups: dict[str, Samples], rounds: int = 8, steps: int = 800) -> tuple[Any, float]:
    """Fits factor and exponents of `ErrorCalibration`. Also returns the maximum coverage error of the groups.

    Adam minimises the quantile loss of the logarithm. After each round, groups with a coverage error get more weight.
    The factor is then scaled so that the largest positive and negative coverage errors are equal.
    """
    weight = dict.fromkeys(groups, 1.0)
    best: tuple[float, Any] = (1.0, None)
    x, y = (np.concatenate(parts) for parts in zip(*(_regression(part) for part in groups.values()), strict=True))
    mean, deviation = x.mean(0), x.std(0) + 1e-9
    mean[0], deviation[0] = 0.0, 1.0
    for _ in range(rounds):
        shares = np.cumsum(
            np.concatenate([np.full(len(part), weight[name] / len(part)) for name, part in groups.items()])
        )
        w = np.zeros(x.shape[1])
        w[0] = np.quantile(y, COVERAGE)
        m, v = np.zeros_like(w), np.zeros_like(w)
        for t in range(1, steps + 1):
            s = np.searchsorted(shares, np.random.default_rng(t).random(8000) * shares[-1])
            z = (x[s] - mean) / deviation
            step = -(np.where(y[s] > z @ w, COVERAGE, COVERAGE - 1.0)[:, None] * z).mean(0)
            m, v = 0.9 * m + 0.1 * step, 0.99 * v + 0.01 * step * step
            w = w - 0.03 * (1 - t / steps + 0.02) * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.99**t)) + 1e-8)
        fit = w / deviation
        fit[0] = w[0] - (w[1:] * mean[1:] / deviation[1:]).sum()
        gaps = {
            name: abs(float((ys <= xs @ fit).mean()) - COVERAGE)
            for name, (xs, ys) in ((name, _regression(part)) for name, part in groups.items())
        }
        fit[0] += _balancing_shift([y - x @ fit for x, y in map(_regression, groups.values())])
        covered = [float((y <= x @ fit).mean()) for x, y in map(_regression, groups.values())]
        best = min(best, (max(abs(c - COVERAGE) for c in covered), fit), key=lambda candidate: candidate[0])
        weight = {
            name: value * (np.exp(8 * gaps[name]) if gaps[name] > 0.02 else 1.0) for name, value in weight.items()
        }
    return np.array([np.exp(best[1][0]), *best[1][1:]]), best[0]


def _balancing_shift(errors: Sequence[Any]) -> float:
    """Returns the bound's shift that balances the highest and lowest coverage."""
    shifts = np.linspace(-0.3, 0.3, 61)
    covered = np.array([[(group_errors <= shift).mean() for group_errors in errors] for shift in shifts]) - COVERAGE
    return float(shifts[np.abs(covered.max(1) + covered.min(1)).argmin()])


def _regression(part: Samples) -> tuple[Any, Any]:
    return (
        np.concatenate([np.ones((len(part), 1)), part[:, :FEATURES]], 1).astype(np.float64),
        np.log(part[:, FEATURES] + 0.3).astype(np.float64),
    )


# -- measure --------------------------------------------------------------------------------------------------------


def figures(part: Samples) -> dict[str, float]:
    """Computes the coverage and the shares of worse samples for one protocol."""
    error, input_error, bounds = part[:, FEATURES:].T
    return {
        "samples": len(part),
        "covered": round(float((error <= bounds).mean()), 3),
        "mean_error": round(float(error.mean()), 2),
        "mean_error_of_input": round(float(input_error.mean()), 2),
        "mean_within": round(float(bounds.mean()), 1),
        "worse": round(float((error - input_error >= WORSE).mean()), 3),
    }


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("what", choices=("calibrate", "measure"))
    p.add_argument("--engine", default=",".join(CALIBRATIONS))
    p.add_argument("--clips", type=Path, nargs="+", required=True)
    p.add_argument("--faces", type=Path, required=True)
    p.add_argument("--cache", type=Path, default=CACHE / "invented")
    p.add_argument("--frames", type=int, default=30, help="frames of a clip; the first ten are not measured")
    p.add_argument("--count", type=int, default=12, help="number of people for films of stills")
    a = p.parse_args()
    cv2.setNumThreads(1)
    films = list(shots(a))
    results_file = RESULTS / "invented.json"
    result: dict[str, Any] = json.loads(results_file.read_text())["engines"] if results_file.exists() else {}
    for engine in a.engine.split(","):
        groups = collect_samples(engine, a, films)
        if a.what == "calibrate":
            values, gap = fit_bound({name: part for name, part in groups.items() if name in ASKED})
            print(
                f'    "{engine}": ErrorCalibration({", ".join(f"{value:.2f}" for value in values)}),  # gap {gap:.3f}',
                flush=True,
            )
            continue
        rows = {name: figures(part) for name, part in sorted(groups.items())}
        gap = max(abs(rows[name]["covered"] - COVERAGE) for name in ASKED if name in rows)
        result[engine] = {"frames": a.frames, "people": a.count, "largest_gap": round(gap, 3), "protocols": rows}
        # Saved after each engine, because each engine takes minutes.
        save("invented", {"coverage_asked": COVERAGE, "asked_of": ASKED, "engines": result})


if __name__ == "__main__":
    main()
