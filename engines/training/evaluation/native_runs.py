"""The runs of the protocol *native*: truths and coded films, kept in a folder, and the rows of what rtface makes."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from training.crop_space import U8, cut
from training.data.portraits import Face
from training.degradation.coded_film import Level, coded_film, decoded, level
from training.evaluation.native_figures import Row, Ruler
from training.evaluation.native_protocols import (
    CLIP_FRAMES,
    FRAMES,
    REDUCTION,
    WIDTH,
    Truth,
    halved_clip,
    portrait,
)


@dataclass(frozen=True)
class Subject:
    """What a truth is made of: its ``name`` in tables, a portrait or the file of a clip, and of a portrait the
    ``width`` of its face, the least ``reduction`` and the ``background``, if it is another than its own."""

    kind: str
    name: str
    source: Face | Path
    width: float = WIDTH
    reduction: float = REDUCTION
    background: str = ""


@dataclass(frozen=True)
class Task:
    """One subject at some levels, and how it is measured."""

    subject: Subject
    levels: tuple[str, ...]
    options: dict[str, Any]
    always: bool
    cache: Path | None
    identity: bool
    threads: int


# --- truths and coded films ---


def truth_of(subject: Subject, cache: Path | None) -> Truth:
    """The truth of a subject; ``cache`` keeps it."""
    source = subject.source
    path = source.path if isinstance(source, Face) else source
    code = b"".join((Path(__file__).parent / f"{name}.py").read_bytes() for name in ("native_protocols", "backgrounds"))
    key = _digest(path.read_bytes(), code, subject.kind, subject.width, subject.background)
    kept = cache / "truths" / f"{subject.kind}-{path.stem}-{key}.npz" if cache else None
    if kept and kept.is_file():
        with np.load(kept) as data:
            return Truth(subject.name, subject.kind, list(data["frames"]), list(data["matrices"]),
                         int(data["first"]), bool(data["bounded"]))  # fmt: skip
    if isinstance(source, Face):
        frames = 1 if subject.kind == "stills" else FRAMES
        truth = portrait(source, subject.width, frames, subject.reduction, subject.background)
        truth = replace(truth, kind=subject.kind, name=subject.name)
    else:
        truth = halved_clip(source, CLIP_FRAMES, cache / "tracks" if cache else None)
    if kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez(kept, frames=np.stack(truth.frames), matrices=np.stack(truth.matrices), first=truth.first,
                 bounded=truth.bounded)  # fmt: skip
    return truth


def film_file(truth: Truth, how: Level, folder: Path) -> Path:
    """The coded film of a truth in a folder, which keeps it by the content of all that makes it."""
    modules = Path(__file__).parents[1] / "degradation"
    code = b"".join((modules / name).read_bytes() for name in ("coded_film.py", "ycbcr.py"))
    key = _digest(*(f.tobytes() for f in truth.frames), astuple(how), code)
    path = folder / f"{truth.kind}-{how.name.replace('/', '-')}-{key}{how.suffix}"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        working = path.with_name(f"making-{os.getpid()}-{path.name}")
        coded_film(truth.frames, how, working, int(_digest(truth.frames[0].tobytes(), how.name)[:8], 16))
        working.replace(path)
    return path


def _digest(*parts: object) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else repr(part).encode())
    return digest.hexdigest()[:16]


# --- runs ---


def enhanced(film: Path, folder: Path, how: Level, options: dict[str, Any]) -> tuple[list[U8], float]:
    """The frames that ``rtface.run`` makes of a file, through a file without loss; and the gain in dB that its report
    says is expected for the track that was seen most, 0 without one."""
    import rtface

    out = folder / ("out.png" if how.still else "out.mkv")
    made = rtface.run(film, out, overwrite=True, **({} if how.still else {"codec": "ffv1"}), **options)
    longest = max(made.tracks, key=lambda track: track.frames, default=None)
    expected = longest.treatment.get("gain_db") if longest and longest.treatment.get("on") else None
    return list(decoded(out, how.siting)), expected or 0.0


def measured(task: Task) -> list[dict[str, Any]]:
    """The rows of one task, with ``kind``, ``clip`` and ``level``."""
    cv2.setNumThreads(1)
    judge = None
    if task.identity:
        from training.evaluation.edgeface import EdgeFace

        judge = EdgeFace()
    rows: list[dict[str, Any]] = []
    truth = truth_of(task.subject, task.cache)
    ruler = Ruler(truth)
    options = task.options | ({"threads": task.threads} if task.threads else {})
    with tempfile.TemporaryDirectory() as scratch:
        for name in task.levels:
            how = level(name)
            film = film_file(truth, how, task.cache / "coded" if task.cache else Path(scratch))
            # Stills are read by rtface itself, as decoders of JPEG differ in how they bring chroma up.
            folder = Path(scratch)
            untouched = {"correct": "never"}
            coded = enhanced(film, folder, how, untouched)[0] if how.still else list(decoded(film, how.siting))
            default, expected = enhanced(film, folder, how, options)
            forced = options | {"correct": "always"}
            always = enhanced(film, folder, how, forced)[0] if task.always else None
            row = ruler.row(coded, default, always)
            row |= {"expected": expected, "missed": abs(expected - row["default"])}
            if judge:
                row |= _identity(judge, truth, coded, default)
            rows.append({"kind": truth.kind, "clip": truth.name, "level": name, "width": truth.width} | row)
    return rows


def _identity(judge: Any, truth: Truth, coded: Sequence[U8], default: Sequence[U8]) -> Row:
    """Mean cosines to the truth on three measured frames, and how much that of the default is larger, ``same``."""
    films, row = {"input": coded, "default": default}, {"input_identity": 0.0, "default_identity": 0.0}
    measured = np.linspace(truth.first, len(truth.frames) - 1, min(3, len(truth.frames))).astype(int).tolist()
    for n in measured:
        want = judge.embed(cut(truth.frames[n], truth.matrices[n], 512))
        for name, film in films.items():
            row[f"{name}_identity"] += float(judge.embed(cut(film[n], truth.matrices[n], 512)) @ want) / len(measured)
    return row | {"same": row["default_identity"] - row["input_identity"]}
