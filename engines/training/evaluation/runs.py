"""Caches coded films in a folder, and restores them with rtface."""

from __future__ import annotations

import hashlib
import os
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

from training.crop_space import U8
from training.degradation.coded_film import Level, coded_film, decoded, level
from training.evaluation.clip_protocols import PROTOCOLS, Clip, degrade_clip
from training.evaluation.truths import Truth, halve


def level_film(source: Truth | Clip, name: str, folder: Path, first: int = 0) -> tuple[Truth, Level, Path]:
    """Encodes a source unless it is cached. Returns truth, level and path of the coded film.

    Args:
        source: a portrait or a clip. A clip is halved, unless ``name`` is one of `clip_protocols.PROTOCOLS`.
        name: name of the level or protocol.
        first: number of the first measured frame of a clip.
    """
    if isinstance(source, Clip) and name in PROTOCOLS:
        shot = degrade_clip(source, name)
        truth, how = Truth(source.name, shot.clean, shot.matrices, first), level("clean/0")
        return truth, how, film_file(replace(truth, frames=shot.seen), how, folder)
    truth, how = replace(halve(source), first=first) if isinstance(source, Clip) else source, level(name)
    if how.still:
        truth = replace(truth, frames=truth.frames[:1], matrices=truth.matrices[:1], first=0)
    return truth, how, film_file(truth, how, folder)


def film_file(truth: Truth, how: Level, folder: Path) -> Path:
    """Encodes a truth unless the film is cached. The file name contains a hash of the frames, level and code."""
    modules = Path(__file__).parents[1] / "degradation"
    code = b"".join((modules / name).read_bytes() for name in ("coded_film.py", "ycbcr.py"))
    key = _digest(*(f.tobytes() for f in truth.frames), astuple(how), code)
    path = folder / f"{how.name.replace('/', '-')}-{key}{how.suffix}"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"making-{os.getpid()}-{path.name}")
        coded_film(truth.frames, how, temporary, int(_digest(truth.frames[0].tobytes(), how.name)[:8], 16))
        temporary.replace(path)
    return path


def _digest(*parts: object) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else repr(part).encode())
    return digest.hexdigest()[:16]


def enhance(film: Path, folder: Path, how: Level, options: dict[str, Any]) -> tuple[list[U8], float]:
    """Restores a film with ``rtface.run``, without loss. Returns the frames, and the gain in dB that the report
    predicts for the longest track; 0 if there is no track."""
    import rtface

    out = folder / ("out.png" if how.still else "out.mkv")
    report = rtface.run(film, out, overwrite=True, **({} if how.still else {"codec": "ffv1"}), **options)
    longest = max(report.tracks, key=lambda track: track.frames, default=None)
    expected = longest.treatment.get("gain_db") if longest and longest.treatment.get("on") else None
    return list(decoded(out, how.siting)), expected or 0.0
