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
        source: a portrait or a clip. A clip is scaled to half its width and height, unless ``name`` is in
            `clip_protocols.PROTOCOLS`.
        name: name of the level or protocol.
        first: number of the first measured frame of a clip.
    """
    if isinstance(source, Clip) and name in PROTOCOLS:
        shot = degrade_clip(source, name)
        truth, coding = Truth(source.name, shot.clean, shot.matrices, first), level("clean/0")
        return truth, coding, film_file(replace(truth, frames=shot.seen), coding, folder)
    truth, coding = replace(halve(source), first=first) if isinstance(source, Clip) else source, level(name)
    if coding.still:
        truth = replace(truth, frames=truth.frames[:1], matrices=truth.matrices[:1], first=0)
    return truth, coding, film_file(truth, coding, folder)


def film_file(truth: Truth, coding: Level, folder: Path) -> Path:
    """Encodes a clip's ground-truth frames unless the film is cached. The file name contains a hash of the frames, the
    level and the encoder's source code."""
    modules = Path(__file__).parents[1] / "degradation"
    code = b"".join((modules / name).read_bytes() for name in ("coded_film.py", "ycbcr.py"))
    key = _digest(*(f.tobytes() for f in truth.frames), astuple(coding), code)
    path = folder / f"{coding.name.replace('/', '-')}-{key}{coding.suffix}"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"making-{os.getpid()}-{path.name}")
        coded_film(truth.frames, coding, temporary, int(_digest(truth.frames[0].tobytes(), coding.name)[:8], 16))
        temporary.replace(path)
    return path


def _digest(*parts: object) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else repr(part).encode())
    return digest.hexdigest()[:16]


def enhance(film: Path, folder: Path, coding: Level, options: dict[str, Any]) -> tuple[list[U8], float]:
    """Restores a film with ``rtface.run`` into a lossless file. Returns the frames, and the gain in dB that the report
    predicts for the longest track; 0 if there is no track."""
    import rtface

    out = folder / ("out.png" if coding.still else "out.mkv")
    report = rtface.run(film, out, overwrite=True, **({} if coding.still else {"codec": "ffv1"}), **options)
    longest = max(report.tracks, key=lambda track: track.frames, default=None)
    expected = longest.treatment.get("gain_db") if longest and longest.treatment.get("on") else None
    return list(decoded(out, coding.siting)), expected or 0.0
