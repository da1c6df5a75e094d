"""Measures runs on coded films and stills, with any engine.

``python -m training.evaluation.measure --faces DIR --clips DIR --cache runs/films --json runs/measure.json``

Prints one table for portraits and one for clips. Truths come from `training.evaluation.truths`, levels at the coded
size from `training.degradation.coded_film`, levels that enlarge clips from `training.evaluation.clip_protocols`. Each
coded film is a file. ``rtface.run`` restores it with default options and ``--option``; the result is called *default*.
Figures (`training.evaluation.figures`) refer to the feathered oval in all measured frames of a clip:

- **dB in**: PSNR of the coded film; **default**, **luma**: gain over the coded film in dB, in all colours or only in
  luma, in which errors are most visible; **harmed**: share of clips that lose more than 0.05 dB;
- **expected**: gain that the run's report predicts, with the mean error of the prediction in brackets;
- **changed**: share of frames that changed; **sharper**: energy of the luma's Laplacian, relative to the coded film;
  **flicker**: change of the error between frames, relative to the coded film;
- for three frames, if ``RTFACE_METRIC_WEIGHTS`` is set: **identity**, EdgeFace's cosine to the truth, and its change;
  if torch is also installed, **ST-LPIPS**.

A default run adds grain that matches the film; ``--option grain=none`` omits the grain.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2

import rtface
from rtface.util.paths import CONFIG
from training.data.portraits import Face, load_faces
from training.degradation.coded_film import LEVELS, decoded, level
from training.evaluation.clip_protocols import PROTOCOLS, SETS, Clip, choose_clips, load_clip
from training.evaluation.figures import Judge, Ruler, summary, table
from training.evaluation.runs import enhance, level_film
from training.evaluation.truths import MIN_SHARPNESS, WIDTH, Truth, people, portrait, sharpness

DEFAULT = {
    "portraits": (*(f"h264/{crf}" for crf in (18, 22, 27, 31, 36)), "hevc/27", "vp8/200k", "mpeg2/4", "mpeg2/18",
                  "twice/27-23", "call/2", "heavy/4", "jpeg/95", "jpeg/70", "jpeg/30", "clean/0", "clean/2"),
    "clips": ("real/call", "real/heavy", *(f"h264/{crf}" for crf in (20, 27, 31, 34, 37))),
}  # fmt: skip
"""Kind → default levels."""
CLIP_FRAMES = 40


def sharp_portraits(faces: Iterable[Face], count: int, width: float) -> Iterator[Truth]:
    """Yields films of the first ``count`` people with large, sharp portraits."""
    for number, face in enumerate(faces):
        if not count:
            return
        try:
            truth = portrait(face, width)
        except ValueError:
            continue
        if sharpness(truth) >= MIN_SHARPNESS:
            truth.name, count = f"face {number}", count - 1
            yield truth


def sources(a: argparse.Namespace) -> Iterator[tuple[str, Truth | Clip]]:
    """Yields (kind, source) for all portraits and clips that are measured."""
    if a.faces:
        for truth in sharp_portraits(people(load_faces(a.faces), a.people), a.count, a.width):
            yield "portraits", truth
    for path in choose_clips(a.clips, a.people)[: a.count]:
        try:
            yield "clips", load_clip(path, CLIP_FRAMES, a.cache / "tracks" if a.cache else None)
        except ValueError as error:
            print(f"skipped: {error}", flush=True)


def install(folder: Path, scratch: Path) -> str:
    """Links an engine's folder into the settings folder ``scratch``. Returns the name of the engine for runs."""
    (scratch / "engines").mkdir(parents=True)
    (scratch / "engines" / "measured").symlink_to(folder.resolve())
    os.environ[CONFIG] = str(scratch)
    return "measured"


def measure_at(source: Truth | Clip, name: str, options: dict[str, Any], judge: Judge, cache: Path) -> dict[str, Any]:
    """Measures the restoration of a source that is encoded at a level."""
    truth, coding, film = level_film(source, name, cache / "coded")
    # Stills are decoded by rtface because other JPEG decoders upsample chroma differently.
    no_correction = {"correct": "never"}
    coded = enhance(film, cache, coding, no_correction)[0] if coding.still else list(decoded(film, coding.siting))
    default, expected = enhance(film, cache, coding, options)
    row = Ruler(truth).row(coded, default) | judge.row(truth, coded, default)
    row |= {"expected": expected, "missed": abs(expected - row["default"])}
    return {"clip": truth.name, "level": name, "width": truth.width, **row}


def option_of(text: str) -> tuple[str, str]:
    """Parses an ``--option``, such as "region=head". rtface checks and converts the value later."""
    key, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text} is not KEY=VALUE, such as region=head")
    return key, value


def parser() -> argparse.ArgumentParser:
    """Builds the command line."""
    codings = "\n".join(f"  {name}/…  {text}" for name, (_, text) in LEVELS.items())
    p = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"levels:\n{codings}\n  for clips, also {', '.join(PROTOCOLS)}",
    )
    p.add_argument("--faces", type=Path, help="folder with train/MANIFEST.csv, the source of portraits")
    p.add_argument("--clips", type=Path, nargs="+", default=[], help="files, or a folder with the set of --people")
    p.add_argument("--people", choices=tuple(SETS), default="tuning",
                   help="people and clips for development decisions, or for the final measurement")  # fmt: skip
    p.add_argument("--levels", default="", help="such as h264/27,vp8/200k (default: a selection for each kind)")
    p.add_argument("--count", type=int, default=8, help="number of portraits; maximum number of clips")
    p.add_argument("--width", type=float, default=WIDTH, help="width of the faces of portraits, in pixels")
    p.add_argument("--option", type=option_of, action="append", default=[], metavar="KEY=VALUE",
                   help="option of rtface.run, such as engine=rtface-s; may be repeated")  # fmt: skip
    p.add_argument("--model", type=Path, help="folder of an engine that is not installed")
    p.add_argument("--cache", type=Path, help="cache folder for tracked faces and coded films")
    p.add_argument("--json", type=Path)
    return p


def main() -> None:
    p = parser()
    a = p.parse_args()
    cv2.setNumThreads(1)
    options, rows, means = dict(a.option), dict[str, list[dict[str, Any]]](), dict[str, Any]()
    level_names = [n.strip() for n in a.levels.split(",") if n.strip()]
    with tempfile.TemporaryDirectory() as folder:
        try:
            for name in set(level_names) - set(PROTOCOLS):
                level(name)
            if a.model:
                options["engine"] = install(a.model, Path(folder) / "settings")
            judge = Judge()
            for kind, source in sources(a):
                for name in level_names or DEFAULT[kind]:
                    row = measure_at(source, name, options, judge, a.cache or Path(folder))
                    rows.setdefault(kind, []).append(row)
                    print(f"{kind} {row['clip']} {name}: {row['default']:+.2f}", file=sys.stderr, flush=True)
        except (rtface.RtfaceError, OSError, ValueError) as e:
            p.error(str(e))
    for kind, kind_rows in rows.items():
        figures = [{k: v for k, v in row.items() if k not in ("clip", "level")} for row in kind_rows]
        means[kind] = {name: summary([f for f, row in zip(figures, kind_rows, strict=True) if row["level"] == name])
                       for name in dict.fromkeys(row["level"] for row in kind_rows)}  # fmt: skip
        print(f"\n{table(f'{kind}, {a.people}', means[kind])}", flush=True)
    if a.json:
        result = {"rtface": rtface.__version__, "people": a.people, "options": options, "means": means, "rows": rows}
        a.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
