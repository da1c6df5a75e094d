"""Trains and evaluates the network of `--colour restore`.

``python -m training.evaluation.fading --faces DIR``: DIR contains folders with MANIFEST.csv. A model of dyes that lose
density fades some portraits. Others are changed by `LOOKS`, which the network must not mistake for fading. Half of the
portraits, by name, train the network (``--weights``); the other half evaluates it (``--out``: file for the counts).
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from rtface.analysis import fading
from rtface.frame import FadingCurve

Array = NDArray[np.float64]
SIDE, HIDDEN, STEPS, DRAWS = 128, 24, 4000, 3
SKIN = slice(round(0.42 * SIDE), round(0.6 * SIDE))
"""Rows (and columns) of an aligned portrait that show skin."""
SHARES = {"strong": (0.7, 1.0), "weak": (0.4, 0.55)}
"""Degree of fading → range of the share of the fade that is applied."""
FILM_COUNT, PICTURES = 200, (1, 12)
"""Number of films per kind; numbers of pictures per film that are evaluated."""
ABSORPTION = np.array([[1, 0.12, 0.02], [0.22, 1, 0.08], [0.08, 0.28, 1]])
"""Density of the cyan, magenta and yellow dye (columns) in red, green and blue (rows)."""
LARGEST_DENSITY = 2.6
FADES: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "cyan": ((0.5, 0.85, 0.9), (0, 0, 0)),
    "cyan, much": ((0.35, 0.8, 0.75), (0, 0.02, 0.05)),
    "cyan, little": ((0.7, 0.85, 0.95), (0, 0, 0.03)),
    "yellow": ((0.9, 0.9, 0.45), (0, 0, 0)),
    "cyan and yellow": ((0.6, 0.8, 0.6), (0, 0, 0.08)),
    "magenta": ((0.85, 0.55, 0.9), (0, 0, 0)),
}
"""Kind → (remaining shares of the cyan, magenta and yellow dye, density of the stain in red, green and blue)."""
LOOKS: dict[str, Callable[[Array], Array]] = {
    "matte": lambda v: 0.08 + 0.9 * v,
    "matte, warm": lambda v: np.array([0.12, 0.07, 0.05]) + v * [0.88, 0.9, 0.85],
    "teal and orange": lambda v: np.array([0, 0.05, 0.08]) + v * [1.02, 0.93, 0.82],
    "bleach bypass": lambda v: 0.55 * v + 0.45 * (v @ [0.299, 0.587, 0.114])[..., None],
    "tungsten": lambda v: encoded(linear(v) * [1.1, 0.75, 0.45]),
    "red light": lambda v: encoded(linear(v) * [1.2, 0.4, 0.4]),
    "under water": lambda v: np.array([0, 0.06, 0.12]) + encoded(linear(v) * [0.4, 0.8, 0.9]) * 0.85,
}
"""Colour grades and lights that change intact pictures."""
TRAINING_LOOKS = ("teal and orange", "bleach bypass", "tungsten", "red light", "under water")
"""The `LOOKS` that are used in training. Matte looks are not, because they resemble fading."""


def linear(v: Array) -> Array:
    return np.where(v <= 0.04045, v / 12.92, ((np.maximum(v, 0.04045) + 0.055) / 1.055) ** 2.4)


def encoded(t: Array) -> Array:
    return np.where(t <= 0.0031308, 12.92 * t, 1.055 * np.maximum(t, 0.0031308) ** (1 / 2.4) - 0.055).clip(0, 1)


def fade(v: Array, name: str, share: float) -> Array:
    """Fades the dyes of a picture (0…1). Rounds the result to 8 bits."""
    remaining, stain = (np.array(value) for value in FADES[name])
    min_value = 10**-LARGEST_DENSITY
    density = -np.log10(linear(v) * (1 - min_value) + min_value)
    dyes = density @ np.linalg.inv(ABSORPTION).T * (1 - (1 - remaining) * share)
    return np.rint(255 * encoded(10 ** -(dyes @ ABSORPTION.T + stain * share))) / 255


def best_line(before: Array, after: Array) -> Array:
    """Fits a power law between the channels of two pictures: 3×2 (power - 1, log gain)."""
    line = np.zeros((3, 2))
    for channel in range(3):
        x, y = (np.log(v[..., channel].ravel() + fading.FADED_FLOOR) for v in (before, after))
        power = np.clip((np.cov(x, y)[0, 1] + 1e-3) / (x.var() + 1e-3), 0.8, 2.5)
        line[channel] = power - 1, y.mean() - power * x.mean()
    return line


def difference(a: Array, b: Array) -> float:
    """Returns the mean ΔE (CIE 1976) between two pictures."""
    lab_a, lab_b = (cv2.cvtColor(v.astype(np.float32), cv2.COLOR_RGB2LAB) for v in (a, b))
    return float(np.linalg.norm(lab_a - lab_b, axis=-1).mean())


def skin_of(v: Array) -> Array:
    return np.median(v[SKIN, SKIN].reshape(-1, 3), axis=0)


def measures(v: Array) -> Array:
    return fading.measures_of(v.astype(np.float32), skin_of(v))


def portraits(root: Path) -> dict[str, Array]:
    """Loads colour portraits by name, SIDE×SIDE, 0…1."""
    by_name: dict[str, Array] = {}
    for folder in sorted(root.iterdir()):
        for row in csv.DictReader((folder / "MANIFEST.csv").open()):
            if row["gray"] in ("", "0"):
                image = cv2.imread(str(folder / row["file"]), cv2.IMREAD_COLOR)
                assert image is not None, row["file"]
                small = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
                by_name[row["file"]] = small[..., ::-1] / 255
    return by_name


def part_of(name: str) -> int:
    """Returns the part to which a portrait belongs: 0 trains, 1 evaluates."""
    return hashlib.sha256(f"sound-1:{name}".encode()).digest()[0] % 2


def fit(sound: Sequence[Array], rng: np.random.Generator) -> dict[str, NDArray[np.float32]]:
    """Trains the network. Returns its weights."""
    inputs: list[Array] = []
    lines: list[Array] = []
    for v in sound:
        intact = measures(v)
        graded = LOOKS[str(rng.choice(TRAINING_LOOKS))](v).clip(0, 1)
        inputs += [intact, intact, measures(graded)]
        lines += [np.zeros((3, 2))] * 3
        for _ in range(DRAWS):
            faded = fade(v, str(rng.choice(list(FADES))), rng.uniform(0.4, 1))
            inputs.append(measures(faded))
            lines.append(best_line(faded, v))
    x, y = np.array(inputs), np.array(lines).reshape(-1, 6)
    mean, scale = x.mean(0), x.std(0) + 1e-6
    samples, targets = (torch.tensor(v, dtype=torch.float32) for v in ((x - mean) / scale, y))
    torch.manual_seed(0)
    first, last = torch.nn.Linear(x.shape[1], HIDDEN), torch.nn.Linear(HIDDEN, 6)
    network = torch.nn.Sequential(first, torch.nn.SiLU(), last)
    optimiser = torch.optim.AdamW(network.parameters(), 3e-3, weight_decay=5e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 6e-3, STEPS)
    for _ in range(STEPS):
        batch = torch.randint(0, len(samples), (512,))
        loss = (network(samples[batch] + 0.05 * torch.randn(512, x.shape[1])) - targets[batch]).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    into = first.weight.detach().numpy().T / scale[:, None]
    return {
        "into": into.astype(np.float32),
        "hidden": (first.bias.detach().numpy() - mean @ into).astype(np.float32),
        "out": last.weight.detach().numpy().T,
        "bias": last.bias.detach().numpy(),
    }


def line_of(v: Array) -> Array | None:
    return fading.line_of(np.rint(255 * v).astype(np.uint8), skin_of(v))


def curve_of(pictures: Sequence[Array]) -> FadingCurve | None:
    lines = [(line, skin_of(v)) for v in pictures if (line := line_of(v)) is not None]
    return fading.curve_of([line for line, _ in lines], [skin for _, skin in lines])


def count(kind: str, films: Sequence[Sequence[Array]], truth: Sequence[Array]) -> dict[str, Any]:
    """Counts films in which fading is detected. Measures ΔE between their first picture and the truth."""
    curves = [curve_of(film) for film in films]
    corrected = [(film[0], t, curve) for film, t, curve in zip(films, truth, curves, strict=True) if curve]
    before = [difference(v, t) for v, t, _ in corrected]
    after = [difference(fading.values_through(v, curve), t) for v, t, curve in corrected]
    row: dict[str, Any] = {"kind": kind, "pictures": len(films[0]), "of": len(curves), "found": len(corrected)}
    if corrected:
        row["ΔE before, after, worst after"] = [
            round(float(v), 1) for v in (np.mean(before), np.mean(after), max(after))
        ]
        row["further away"] = sum(a > b for a, b in zip(after, before, strict=True))
    print(json.dumps(row, ensure_ascii=False), flush=True)
    return row


def evaluate(portraits: Sequence[Array], pictures: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Evaluates intact, graded and faded films with ``pictures`` pictures each."""
    films = [[portraits[k] for k in rng.choice(len(portraits), pictures)] for _ in range(FILM_COUNT)]
    truth = [film[0] for film in films]
    rows = [count("sound", films, truth)]
    for name, look in LOOKS.items():
        rows.append(count(f"sound, {name}", [[look(v).clip(0, 1) for v in film] for film in films], truth))
    for name in FADES:
        for degree, (low, high) in SHARES.items():
            shares = rng.uniform(low, high, FILM_COUNT)
            faded = [[fade(v, name, share) for v in film] for film, share in zip(films, shares, strict=True)]
            rows.append(count(f"{name}, {degree}", faded, truth))
    return rows


def main() -> None:
    """Runs the command: trains and evaluates the network, and writes weights and counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=Path, required=True)
    parser.add_argument("--weights", type=Path, help="train the network and write its weights to this file")
    parser.add_argument("--out", type=Path, help="evaluate rtface's network and write the counts to this file")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    rng = np.random.default_rng(46)
    by_name = portraits(args.faces)
    if args.weights is not None:
        np.savez(args.weights, **fit([v for name, v in by_name.items() if part_of(name) == 0], rng))  # type: ignore[arg-type]
    if args.out is None:
        return
    test_portraits = [v for name, v in by_name.items() if part_of(name) == 1]
    rows = [row for pictures in PICTURES for row in evaluate(test_portraits, pictures, rng)]
    args.out.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
