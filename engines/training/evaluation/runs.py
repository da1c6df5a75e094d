"""Coded films, kept in a folder, and what rtface makes of them."""

from __future__ import annotations

import hashlib
import os
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

from training.crop_space import U8
from training.degradation.coded_film import Level, coded_film, decoded, level
from training.evaluation.clip_protocols import PROTOCOLS, Clip, shot_of
from training.evaluation.truths import Truth, halved


def film_of(source: Truth | Clip, name: str, folder: Path, first: int = 0) -> tuple[Truth, Level, Path]:
    """The truth of a level, how its film is coded, and the film, which the folder keeps.

    Args:
        source: a portrait, or a clip: halved, or as it is for one of `clip_protocols.PROTOCOLS`.
        name: the level's.
        first: the first frame of a clip that is measured.
    """
    if isinstance(source, Clip) and name in PROTOCOLS:
        shot = shot_of(source, name)
        truth, how = Truth(source.name, shot.clean, shot.matrices, first), level("clean/0")
        return truth, how, film_file(replace(truth, frames=shot.seen), how, folder)
    truth, how = replace(halved(source), first=first) if isinstance(source, Clip) else source, level(name)
    if how.still:
        truth = replace(truth, frames=truth.frames[:1], matrices=truth.matrices[:1], first=0)
    return truth, how, film_file(truth, how, folder)


def film_file(truth: Truth, how: Level, folder: Path) -> Path:
    """The coded film of a truth in a folder, which keeps it by the content of all that makes it."""
    modules = Path(__file__).parents[1] / "degradation"
    code = b"".join((modules / name).read_bytes() for name in ("coded_film.py", "ycbcr.py"))
    key = _digest(*(f.tobytes() for f in truth.frames), astuple(how), code)
    path = folder / f"{how.name.replace('/', '-')}-{key}{how.suffix}"
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


def enhanced(film: Path, folder: Path, how: Level, options: dict[str, Any]) -> tuple[list[U8], float]:
    """The frames that ``rtface.run`` makes of a file, through a file without loss; and the gain in dB that its report
    says is expected for the track that was seen most, 0 without one."""
    import rtface

    out = folder / ("out.png" if how.still else "out.mkv")
    made = rtface.run(film, out, overwrite=True, **({} if how.still else {"codec": "ffv1"}), **options)
    longest = max(made.tracks, key=lambda track: track.frames, default=None)
    expected = longest.treatment.get("gain_db") if longest and longest.treatment.get("on") else None
    return list(decoded(out, how.siting)), expected or 0.0
