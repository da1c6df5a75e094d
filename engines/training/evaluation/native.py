"""Protocol *native*: what a run does to coded film and stills at the size at which they were coded.

``python -m training.evaluation.native --faces DIR --clips DIR --cache runs/native --json runs/native.json``

Nothing is enlarged after coding. Truths are those of `training.evaluation.native_protocols`, levels those of
`training.degradation.coded_film`. Each coded film is a file; ``rtface.run`` makes *default* (its defaults, and
``--option``) and *always* (the same with ``correct="always"``) of it, without loss. Figures, one row a clip and level
(`training.evaluation.native_figures`):

- **input**, **default**, **always**: PSNR of the coded film in the feathered oval, pooled over the clip's measured
  frames, and what is gained over it in dB; the same in the **ring**, twice the face's box without the oval; **luma**:
  the default's gain in luma alone, where errors are seen most;
- **best**: strength *s* (0 to 1.6, one for the clip) at which the correction of *always* comes nearest to the truth,
  and the gain there; **regret**: best − default; **harmed**: share of clips that lose more than 0.05 dB;
- **expected**: the gain in the oval that the run's report says, and in brackets by how much it was off on average;
- **flicker**: change of the error from frame to frame by that of the coded film; **changed**: share of the frames;
- **energy**, **found**: of the luma's Laplacian in the oval, relative to the truth, and its correlation with that;
  **sharper**: energy by the coded film's;
- **identity** (``--identity``): EdgeFace's cosine to the truth, mean of three frames, and by how much it changes.

A default run draws the grain that it matches, as users have it; ``--option grain=none`` leaves that out.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from training.data.portraits import Face, load_faces
from training.degradation.coded_film import LEVELS, level
from training.evaluation.backgrounds import BACKGROUNDS
from training.evaluation.clip_protocols import SETS, chosen
from training.evaluation.native_figures import Row, summary, table
from training.evaluation.native_protocols import REDUCTION, SHARP, WIDTH, people, portrait, sharpness
from training.evaluation.native_runs import Subject, Task, measured

DEFAULT = {
    "portraits": (
        "h264/18",
        "h264/22",
        "h264/27",
        "h264/31",
        "h264/36",
        "hevc/27",
        "vp8/200k",
        "mpeg2/4",
        "mpeg2/18",
        "twice/27-23",
    ),
    "clips": ("h264/20", "h264/27", "h264/31", "h264/34", "h264/37"),
    "stills": ("jpeg/95", "jpeg/70", "jpeg/30"),
    "clean": ("clean/0", "clean/2"),
    "backgrounds": ("h264/18", "h264/22", "h264/27", "h264/31", "mpeg2/18", "clean/0"),
}
"""Kind → levels of a usual run."""
KINDS = tuple(DEFAULT)


def sharp_people(faces: Iterable[Face], count: int, width: float, reduction: float) -> tuple[dict[str, Face], int, int]:
    """The first ``count`` people whose portrait is sharp, by number; how many were rejected as soft, and how many as
    too small."""
    found: dict[str, Face] = {}
    soft = small = 0
    for number, face in enumerate(faces):
        if len(found) == count:
            break
        try:
            sharp = sharpness(portrait(face, width, frames=1, reduction=reduction)) >= SHARP
        except ValueError:
            small += 1
            continue
        if sharp:
            found[f"face {number}"] = face
        soft += not sharp
    return found, soft, small


def subjects_of(a: argparse.Namespace) -> list[Subject]:
    """All subjects that the command asks for."""
    out: list[Subject] = []
    portraits = [k for k in a.kinds if k != "clips"]
    if portraits:
        found, soft, small = sharp_people(people(load_faces(a.faces), a.people), a.count, a.width, a.reduction)
        print(f"{len(found)} people ({a.people}); left out as soft: {soft}, as too small: {small}", flush=True)
        out += [
            subject
            for kind in portraits
            for k, (name, face) in enumerate(found.items())
            for subject in _shown(Subject(kind, name, face, a.width, a.reduction), k)
        ]
    if "clips" in a.kinds:
        out += [Subject("clips", path.stem, path) for path in chosen([a.clips], a.people)[: a.count]]
    if not out:
        raise ValueError("nobody is left to measure on; make --width or --reduction smaller")
    return out


def _shown(subject: Subject, number: int) -> Iterator[Subject]:
    """The subject itself; before two of the backgrounds, by its number, where these are measured."""
    if subject.kind != "backgrounds":
        yield subject
        return
    names = list(BACKGROUNDS)
    for k in (2 * number, 2 * number + 1):
        name = names[k % len(names)]
        yield replace(subject, name=f"{subject.name} {name}", background=name)


def option_of(text: str) -> tuple[str, Any]:
    """For ``--option``: "region=head"; rtface checks and converts values."""
    key, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"give KEY=VALUE, as in region=head, not {text}")
    return key, value


def names_of(text: str) -> list[str]:
    """For lists that commas separate."""
    return [n.strip() for n in text.split(",") if n.strip()]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    codings = "\n".join(f"  {name}/…  {text}" for name, (_, text) in LEVELS.items())
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, epilog=f"levels:\n{codings}"
    )
    p.add_argument("--faces", type=Path, help="folder with train/MANIFEST.csv, for all kinds but clips")
    p.add_argument("--clips", type=Path, help="folder with the clips that clip_protocols.py names")
    p.add_argument(
        "--people",
        choices=tuple(SETS),
        default="tuning",
        help="people, or clips, that may decide while developing, or those that are set aside",
    )
    p.add_argument("--kinds", type=names_of, default=list(KINDS), help=f"separated by commas: {', '.join(KINDS)}")
    p.add_argument("--levels", type=names_of, default=[], help="as h264/27,vp8/200k; by default some of each kind")
    p.add_argument("--count", type=int, default=8, help="portraits, and clips at most")
    p.add_argument("--width", type=float, default=WIDTH, help="of the portraits' faces, pixels")
    p.add_argument(
        "--reduction",
        type=float,
        default=REDUCTION,
        help="least number of a photograph's pixels on one of "
        "the film; 1 allows faces of 270 px of photographs of 512 px",
    )
    p.add_argument(
        "--option",
        type=option_of,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="of rtface.run, for default and always; may be repeated",
    )
    p.add_argument("--no-always", action="store_true", help="leave out always, best and regret, in half the time")
    p.add_argument("--identity", action="store_true", help="needs RTFACE_METRIC_WEIGHTS and onnxruntime")
    p.add_argument("--cache", type=Path, help="folder for truths and coded films; may be deleted")
    p.add_argument("--jobs", type=int, default=1, help="processes")
    p.add_argument("--json", type=Path)
    return p


def main() -> None:
    import rtface

    p = parser()
    a = p.parse_args()
    for kind in a.kinds:
        if kind not in KINDS:
            p.error(f"no such kind: {kind}; there are: {', '.join(KINDS)}")
    if (a.kinds != ["clips"] and not a.faces) or ("clips" in a.kinds and not a.clips):
        p.error("--clips is needed for clips, --faces for all other kinds")
    started = time.monotonic()
    cv2.setNumThreads(1)
    try:
        levels = {kind: tuple(a.levels or DEFAULT[kind]) for kind in a.kinds}
        for name in {n for names in levels.values() for n in names}:
            level(name)
        threads = max(1, (os.cpu_count() or 1) // a.jobs) if a.jobs > 1 else 0
        tasks = [Task(s, levels[s.kind], dict(a.option), not a.no_always, a.cache, a.identity, threads)
                 for s in subjects_of(a)]  # fmt: skip
        rows = list(_all(tasks, a.jobs))
    except (rtface.RtfaceError, OSError, ValueError) as e:
        p.error(str(e))
    result = report(a, levels, rows)
    print(f"{time.monotonic() - started:.0f} s")
    if a.json:
        a.json.write_text(result, encoding="utf-8")


def _all(tasks: list[Task], jobs: int) -> Iterable[dict[str, Any]]:
    if jobs > 1:
        with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
            for k, rows in enumerate(pool.map(measured, tasks)):
                yield from _said(rows, k, tasks)
    else:
        for k, task in enumerate(tasks):
            yield from _said(measured(task), k, tasks)


def _said(rows: list[dict[str, Any]], k: int, tasks: list[Task]) -> list[dict[str, Any]]:
    each = ", ".join(f"{r['level']} {r['default']:+.2f}" for r in rows)
    subject = tasks[k].subject
    print(f"{k + 1}/{len(tasks)} {subject.kind} {subject.name}: {each}", file=sys.stderr, flush=True)
    return rows


def report(a: argparse.Namespace, levels: dict[str, tuple[str, ...]], rows: list[dict[str, Any]]) -> str:
    """Prints the tables; the JSON, with one row a line under the names of ``columns``."""
    import rtface

    words = ("kind", "clip", "level")
    means: dict[str, dict[str, Row]] = {kind: {} for kind in dict.fromkeys(r["kind"] for r in rows)}
    for kind in means:
        for name in levels[kind]:
            part = [r for r in rows if (r["kind"], r["level"]) == (kind, name)]
            means[kind] |= {name: summary([{k: v for k, v in r.items() if k not in words} for r in part])}
        width = np.median([r["width"] for r in rows if r["kind"] == kind])
        print(f"\n{table(f'{kind}, {a.people}, {width:.0f} px', means[kind])}", flush=True)
    columns = list(dict.fromkeys(k for row in rows for k in row))
    made: dict[str, Any] = {"rtface": rtface.__version__, "people": a.people, "width": a.width,
                            "options": dict(a.option),
                            "means": {kind: {n: _rounded(m) for n, m in part.items()} for kind, part in means.items()},
                            "columns": columns}  # fmt: skip
    lines = [json.dumps([_short(row.get(k)) for k in columns]) for row in rows]
    return json.dumps(made, indent=1)[:-2] + ',\n "rows": [\n  ' + ",\n  ".join(lines) + "\n ]\n}\n"


def _rounded(row: Row) -> Row:
    kept = {k: v for k, v in row.items() if not k.startswith("worst") or k[6:] in ("default", "always", "regret")}
    return {k: _short(v) for k, v in kept.items()}


def _short(value: Any) -> Any:
    return round(value, 3) if isinstance(value, float) else value


if __name__ == "__main__":
    main()
