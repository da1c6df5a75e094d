"""Figures of any engine on real clips and films of stills, as users run it: one table a protocol.

``python -m training.evaluation.measure --engine rtface-s,rtface-m --clips DIR --protocols real/call,vfhq/1``

Each engine runs through ``rtface.Enhancer`` with its default options (own tracker, analysis, int8 where the engine has
it) except for ``grain="none"``: grain is drawn at random, and would hide what the network does. *Alone* is the same
engine on the same faces with every frame marked as unrelated to the one before (``still=True``), so that nothing is
remembered. *Input* is what the engine gets (do nothing), and *unsharp* the input plus 0.6 of its difference from a
Gaussian of 2 px of 512.

Protocols: see `training.evaluation.clip_protocols` (``real``, ``vfhq``, ``icme``; ``--clips``: files, or a folder that
holds the clips of ``--set``) and `training.evaluation.film_protocols` (``film/call``, ``film/heavy``; ``--faces``:
people set aside). Real clips decide; films of stills move rigidly and reward memory too much.

Measured in canonical space (512 px) along the truth's faces, inside the oval, after one affine RGB map a clip and
source (`metrics.tone_map`), for input and baselines too; means over clips:

- **gain**: dB of PSNR over the input; *raw* the same without the map;
- **found** and **energy** of the two finest octaves (`metrics.Octaves`), on every second frame, where the face crop
  has 400 px or more;
- **flicker**: change of the error from frame to frame, divided by the input's: 1 for the input;
- with torch and ``RTFACE_METRIC_WEIGHTS``, on every tenth frame (``--every``): **ST-LPIPS**, **identity** (EdgeFace's
  cosine to the truth), **distance** (1 − identity, divided by the input's where that is 0.05 or more).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import rtface
from rtface.engine.engine_set import recipe_named
from rtface.util.paths import CONFIG, config_dir
from training.crop_space import F64, U8, cut, oval_mask, roi
from training.data.portraits import load_faces, split
from training.evaluation.clip_protocols import LEVELS, SETS, Clip, chosen, set_of, shot_of, side_of, watch
from training.evaluation.film_protocols import PROTOCOLS, Shot, shoot
from training.evaluation.metrics import Column, Octaves, mapped, psnr, table_lines, tone_map, weighted
from training.losses.weight_files import VARIABLE

FILMS = tuple(f"film/{name}" for name in PROTOCOLS)
SIDE = 512
WINDOW = roi(SIDE)
SPARSE = 2
"""Octaves on every second frame."""
SHARP_CROP = 400
"""Least side in pixels of a face crop whose finest octaves of 512 px are measured."""
UNSURE = 0.05
"""Least distance of the input's identity at which a ratio says anything."""
HIGHER_IS_WORSE = ("st_lpips", "distance", "distance_ratio", "flicker")

Row = dict[str, float]
Faces = tuple[rtface.Face, ...]


@dataclass(frozen=True)
class Engine:
    """An engine in the run time: ``label`` of its rows, whether it is ``recurrent``."""

    label: str
    recurrent: bool
    enhancer: rtface.Enhancer


class Judge:
    """The networks that compare faces, where torch and the weights that ``RTFACE_METRIC_WEIGHTS`` names are here:
    ST-LPIPS (AlexNet), and EdgeFace, which no network was trained with.

    Raises:
        FileNotFoundError: the folder is named but the weights are not in it (the message says how to get them).
    """

    def __init__(self) -> None:
        self.st_lpips = self.edgeface = None
        if os.environ.get(VARIABLE) and importlib.util.find_spec("torch"):
            from training.evaluation.edgeface import EdgeFace
            from training.losses.perceptual import StLpips

            self.st_lpips, self.edgeface = StLpips(), EdgeFace()


@dataclass
class Seen:
    """What is measured of one film: the region of every measured frame (uint8 h×w×3), whole crops (uint8 512×512×3) of
    the sparse ones, by number."""

    parts: list[U8] = field(default_factory=list[U8])
    whole: dict[int, U8] = field(default_factory=dict[int, U8])


class Ruler:
    """The measured frames of one clip with their truth, and the figures of any film of them.

    Args:
        shot: clean frames and matrices.
        first, last: numbers of the first and last frame measured.
        every: whole crops are judged on every ``every``-th of them.
        judge: the networks that compare faces.
        sharp: whether the finest octaves say anything.
    """

    def __init__(self, shot: Shot, first: int, last: int, every: int, judge: Judge, sharp: bool) -> None:
        x, y, w, h = WINDOW
        self._matrices, self._first, self._judge, self._sharp = shot.matrices, first, judge, sharp
        self.numbers = range(first, min(last + 1, len(shot.matrices)))
        self._judged = range(0, len(self.numbers), every)
        self._mask = np.ascontiguousarray(oval_mask(SIDE)[y : y + h, x : x + w])
        self._truth = self.seen(shot.clean)
        self._clean = [part.astype(np.float32) / 255 for part in self._truth.parts]

    def seen(self, frames: Sequence[U8]) -> Seen:
        """The measured parts of whole frames."""
        out = Seen()
        for k, number in enumerate(self.numbers):
            out.parts.append(cut(frames[number], self._matrices[number], SIDE, WINDOW))
            if k in self._judged:
                out.whole[k] = cut(frames[number], self._matrices[number], SIDE)
        return out

    def row(self, seen: Seen) -> Row:
        """Absolute figures of one film."""
        truths, mask = self._clean, self._mask
        tone = tone_map(seen.parts, self._truth.parts, mask)
        shown = [mapped(part, tone) for part in seen.parts]
        raw = [psnr(p.astype(np.float32) / 255, t, mask) for p, t in zip(seen.parts, truths, strict=True)]
        errors = [s - t for s, t in zip(shown, truths, strict=True)]
        octaves = Octaves(mask)
        for s, t in list(zip(shown, truths, strict=True))[::SPARSE]:
            octaves.add(s, t)
        return {
            "psnr": float(np.mean([psnr(s, t, mask) for s, t in zip(shown, truths, strict=True)])),
            "psnr_raw": float(np.mean(raw)),
            **(octaves.summary() if self._sharp else {}),
            "flicker": float(np.mean([weighted(np.abs(b - a), mask) for a, b in pairwise(errors)])),
            **self._judgement(seen, tone),
        }

    def _judgement(self, seen: Seen, tone: F64) -> Row:
        found: dict[str, list[float]] = {}
        x, y, w, h = WINDOW  # half of the crop, and the whole oval
        for k in self._judged:
            shown = np.clip(mapped(seen.whole[k], tone), 0, 1)
            if self._judge.st_lpips:
                far = self._judge.st_lpips.distance(shown[y : y + h, x : x + w], self._clean[k], self._mask)
                found.setdefault("st_lpips", []).append(far)
            if self._judge.edgeface:
                far = self._judge.edgeface.distance(shown, self._truth.whole[k])
                found.setdefault("distance", []).append(far)
        out = {name: float(np.mean(values)) for name, values in found.items()}
        return out | ({"identity": 1 - out["distance"]} if "distance" in out else {})


def compared(rows: dict[str, Row]) -> dict[str, Row]:
    """Figures relative to the row *input* beside the absolute ones."""
    base = rows["input"]
    out: dict[str, Row] = {}
    for name, row in rows.items():
        more = {"gain": row["psnr"] - base["psnr"], "gain_raw": row["psnr_raw"] - base["psnr_raw"],
                "flicker": row["flicker"] / max(base["flicker"], 1e-9)}  # fmt: skip
        if base.get("distance", 0) >= UNSURE:
            more["distance_ratio"] = row["distance"] / base["distance"]
        out[name] = row | more
    return out


# --- what is compared ---


def unsharp(frame: U8, side: float) -> U8:
    """The baseline: 0.6 of the difference from a Gaussian of 2 px of 512 is added; ``side`` of the crop in pixels."""
    soft = cv2.GaussianBlur(frame, (0, 0), 2.0 * side / SIDE)
    return np.asarray(cv2.addWeighted(frame, 1.6, soft, -0.6, 0), np.uint8)


def enhanced(
    e: rtface.Enhancer, frames: Sequence[U8], faces: Sequence[Faces] | None = None
) -> tuple[list[U8], list[Faces]]:
    """Frames as the run time shows them, and the faces that it found; ``faces``: those instead, and no memory."""
    out: list[U8] = []
    found: list[Faces] = []
    e.reset()
    for k, frame in enumerate(frames):
        shown = e(frame) if faces is None else e(frame, faces=faces[k], still=True)
        out.append(np.asarray(shown, np.uint8))
        found.append(e.faces)
    return out, found


def films(shot: Shot, engines: list[Engine]) -> Iterator[tuple[str, list[U8]]]:
    """(name of the row, its frames) of every engine."""
    for engine in engines:
        shown, faces = enhanced(engine.enhancer, shot.seen)
        yield engine.label, shown
        if engine.recurrent:
            yield f"{engine.label} alone", enhanced(engine.enhancer, shot.seen, faces)[0]


def installed(folders: Sequence[Path], scratch: Path) -> list[tuple[str, str]]:
    """(name, label) of engines in folders, under names that the run time then finds.

    ``scratch`` becomes the settings folder of this process and links to them and to the engines of the user.
    """
    old = config_dir()
    (scratch / "engines").mkdir(parents=True)
    if old and (old / "engines").is_dir():
        for path in (old / "engines").iterdir():
            (scratch / "engines" / path.name).symlink_to(path.resolve())
    os.environ[CONFIG] = str(scratch)
    for number, folder in enumerate(folders):
        (scratch / "engines" / f"measured-{number}").symlink_to(folder.resolve())
    return [(f"measured-{number}", str(folder)) for number, folder in enumerate(folders)]


def open_engines(a: argparse.Namespace, scratch: Path, closing: ExitStack) -> list[Engine]:
    """The engines of ``--engine`` and ``--model``, ready.

    Raises:
        rtface.RtfaceError: an engine that is not there, or whose files are damaged.
    """
    names = [(n, n) for n in a.engine.split(",") if n]
    names += installed(a.model, scratch) if a.model else []
    found: list[Engine] = []
    for asked, label in names:
        name, _, fidelity = asked.partition("@")
        enhancer = rtface.Enhancer(engine=name, look=float(fidelity) if fidelity else "clear", device=a.device,
                                   format="rgb", grain="none")  # fmt: skip
        found.append(Engine(label, recipe_named(name).recurrent, closing.enter_context(enhancer)))
    return found


# --- tables ---


def mean_and_worst(rows: list[Row]) -> tuple[Row, Row]:
    """Means and worst values over clips, of the figures that any of them has."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    values = {name: [row[name] for row in rows if np.isfinite(row.get(name, np.nan))] for name in names}
    mean = {name: float(np.mean(v)) for name, v in values.items() if v}
    return mean, {name: max(v) if name in HIGHER_IS_WORSE else min(v) for name, v in values.items() if v}


COLUMNS: tuple[Column, ...] = (
    ("gain; worst", 13, ("gain", "{:+.2f}"), ("worst gain", "; {:+.2f}")),
    ("raw", 6, ("gain_raw", "{:+.2f}")),
    ("found", 8, ("found0", "{:.2f}"), ("found1", " {:.2f}")),
    ("energy", 9, ("energy0", "{:.2f}"), ("energy1", " {:.2f}")),
    ("ST-LPIPS", 8, ("st_lpips", "{:.4f}")),
    ("identity; worst", 15, ("identity", "{:.3f}"), ("worst identity", "; {:.3f}")),
    ("distance", 8, ("distance_ratio", "×{:.2f}")),
    ("flicker", 7, ("flicker", "{:.2f}")),
)


def table(title: str, clips: dict[str, dict[str, Row]]) -> tuple[list[str], dict[str, dict[str, Row]]]:
    """Lines of one protocol's table (Markdown under a title) and, by row, mean and worst."""
    sources = list(next(iter(clips.values())))
    out = {name: dict(zip(("mean", "worst"), mean_and_worst([c[name] for c in clips.values()]), strict=True))
           for name in sources}  # fmt: skip
    rows = {name: of["mean"] | {f"worst {k}": v for k, v in of["worst"].items()} for name, of in out.items()}
    lines = [title, *table_lines("", COLUMNS, rows)]
    for name in sources:
        if f"{name} alone" in sources:
            gaps = {clip: rows[name]["psnr"] - rows[f"{name} alone"]["psnr"] for clip, rows in clips.items()}
            each = ", ".join(f"{clip} {gap:+.2f}" for clip, gap in gaps.items())
            lines.append(f"{name} − alone: {np.mean(list(gaps.values())):+.2f} dB ({each})")
    return lines, out


# --- the command ---


@dataclass
class Found:
    """Results of one protocol: rows by clip and source, and draws by clip; ``of``: the set of clips, or of people."""

    clips: dict[str, dict[str, Row]] = field(default_factory=dict[str, dict[str, Row]])
    draws: dict[str, str] = field(default_factory=dict[str, str])
    of: set[str] = field(default_factory=set[str])


def measured(shot: Shot, ruler: Ruler, engines: list[Engine]) -> dict[str, Row]:
    """All rows of one clip."""
    sharpened = [unsharp(f, side_of(shot)) for f in shot.seen]
    rows = {"input": ruler.row(ruler.seen(shot.seen)), "unsharp": ruler.row(ruler.seen(sharpened))}
    rows |= {name: ruler.row(ruler.seen(frames)) for name, frames in films(shot, engines)}
    return compared(rows)


def said(rows: dict[str, Row]) -> str:
    """The gains of one clip in a line."""
    return f"input {rows['input']['psnr']:.2f} dB; " + ", ".join(
        f"{name} {row['gain']:+.2f}" for name, row in rows.items() if name != "input")  # fmt: skip


def on_clips(a: argparse.Namespace, engines: list[Engine], judge: Judge, found: dict[str, Found]) -> None:
    """Measures all protocols of real clips."""
    first, last = a.frames
    protocols = [p for p in a.protocols if p in LEVELS]
    for path in chosen(a.clips, a.set) if protocols else []:
        try:
            clip: Clip = watch(path, last + 1, a.cache)
            if len(clip.clean) < first + 4:
                raise ValueError(f"{path.name} shows one face for {len(clip.clean)} frames only")
        except ValueError as e:
            print(f"left out: {e}", flush=True)
            continue
        family, ruler = "", None
        for protocol in protocols:
            try:
                shot, draws = shot_of(clip, protocol, a.cache)
            except ValueError as e:
                print(f"left out: {e}", flush=True)
                continue
            if ruler is None or family != protocol.partition("/")[0]:
                ruler = Ruler(shot, first, last, a.every, judge, clip.side >= SHARP_CROP)
                family = protocol.partition("/")[0]
            rows = measured(shot, ruler, engines)
            part = found[protocol]
            part.clips[clip.name], part.draws[clip.name] = rows, draws
            part.of.add(f"set {set_of(clip.name)}")
            print(f"{protocol} {clip.name} ({set_of(clip.name)}; {draws}): {said(rows)}", flush=True)


def on_faces(a: argparse.Namespace, engines: list[Engine], judge: Judge, found: dict[str, Found]) -> None:
    """Measures all protocols of films of stills, on people set aside."""
    protocols = [p for p in a.protocols if p in FILMS]
    if not protocols:
        return
    first, last = a.frames
    people = [f for f in split(load_faces(a.faces))[1] if f.px >= 384]
    people = [people[int(i)] for i in np.random.default_rng(a.seed).permutation(len(people))[: a.count]]
    for number, face in enumerate(people):
        for protocol in protocols:
            shot = shoot(face, number, protocol.partition("/")[2], a.seed, last + 1)
            ruler = Ruler(shot, first, last, a.every, judge, side_of(shot) >= SHARP_CROP)
            name, part = f"face {number}", found[protocol]
            rows = part.clips[name] = measured(shot, ruler, engines)
            part.of.add("people set aside")
            part.draws[name] = ", ".join(f"{k} {v:g}" for k, v in PROTOCOLS[protocol.partition("/")[2]].items())
            print(f"{protocol} {name} (people set aside): {said(rows)}", flush=True)


def protocols_of(text: str) -> list[str]:
    """For ``--protocols``: names of `LEVELS` and `FILMS`, separated by commas."""
    names = [n.strip() for n in text.split(",") if n.strip()]
    for name in names:
        if name not in (*LEVELS, *FILMS):
            raise argparse.ArgumentTypeError(f"no such protocol: {name}; there are: {', '.join((*LEVELS, *FILMS))}")
    return names


def frames_of(text: str) -> tuple[int, int]:
    """For ``--frames``: "10-59"."""
    first, _, last = text.partition("-")
    if not (first.isdigit() and last.isdigit() and int(last) >= int(first) + 3):
        raise argparse.ArgumentTypeError(f"give the first and the last frame, as in 10-59, and at least four: {text}")
    return int(first), int(last)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument(
        "--engine",
        default="",
        help="names of engines, our own or published, separated by commas; NAME@0.3 at that fidelity",
    )
    p.add_argument("--model", type=Path, nargs="+", default=[], help="folders of further engines (with recipe.toml)")
    p.add_argument("--clips", type=Path, nargs="+", default=[], help="files, or a folder with the clips of --set")
    p.add_argument(
        "--set",
        choices=(*SETS, "all"),
        default="tuning",
        help="of a folder: clips that may decide while developing, or those that are set aside",
    )
    p.add_argument("--faces", type=Path, help="for film/…: a folder with train/MANIFEST.csv")
    p.add_argument("--count", type=int, default=12, help="faces for film/…")
    p.add_argument(
        "--protocols",
        type=protocols_of,
        default=["real/call", "real/heavy"],
        help=f"separated by commas: {', '.join((*LEVELS, *FILMS))}",
    )
    p.add_argument("--frames", type=frames_of, default=(10, 59), help="first-last; engines see those before as well")
    p.add_argument("--every", type=int, default=10, help="judge identity and ST-LPIPS on every N-th frame")
    p.add_argument("--cache", type=Path, help="folder for tracked faces and degraded clips; may be deleted")
    p.add_argument("--device", default="cpu")
    p.add_argument("--seed", type=int, default=11, help="of the people and motions of film/…")
    p.add_argument("--json", type=Path)
    return p


def main() -> None:
    p = parser()
    a = p.parse_args()
    cv2.setNumThreads(1)
    clips, faces = any(n in LEVELS for n in a.protocols), any(n in FILMS for n in a.protocols)
    if (clips and not a.clips) or (faces and not a.faces):
        p.error("--clips is needed for real/…, vfhq/… and icme/…, --faces for film/…")
    found = {name: Found() for name in a.protocols}
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as closing:
        try:
            engines = open_engines(a, Path(scratch), closing)
            judge = Judge()
            on_clips(a, engines, judge, found)
            on_faces(a, engines, judge, found)
        except (rtface.RtfaceError, OSError, ValueError) as e:
            p.error(str(e))
    if judge.edgeface is None:
        print("Without RTFACE_METRIC_WEIGHTS and torch: no ST-LPIPS and identity (see engines/training/README.md).")
    result: dict[str, Any] = {"frames": list(a.frames), "every": a.every, "device": a.device}
    for name, part in found.items():
        if not part.clips:
            print(f"{name}: nothing was measured", file=sys.stderr)
            continue
        lines, summary = table(f"\n{name} ({', '.join(sorted(part.of))}; {len(part.clips)})", part.clips)
        print("\n".join(lines), flush=True)
        result[name] = {"summary": summary, "draws": part.draws, "clips": part.clips}
    if a.json:
        a.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
