"""Types of the keywords of `rtface.run`, `analyze` and `Enhancer`, for type checkers and editors.

Generated from rtface/config/options.py by ``python -m tests.docs.option_tables``.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from os import PathLike
from typing import Literal, TypedDict


class AnalyzeOptions(TypedDict, total=False):
    """Options of `rtface.analyze`; `rtface.Options` says what each is."""

    look: float | Literal["faithful", "clear", "vivid"]
    threads: int | None
    tracker: str
    faces: str
    person: Sequence[str]
    max_faces: int | None
    start: float | str | None
    end: float | str | None
    timecode: str | None
    variant: int | str
    sequence: bool
    fps: Fraction | float | str | None
    transfer: Literal["auto", "log", "linear", "video"]
    fields: Literal["auto", "tff", "bff", "none"]
    scale: int | str | None


class EnhancerOptions(TypedDict, total=False):
    """Options of `rtface.Enhancer`, besides its own arguments."""

    look: float | Literal["faithful", "clear", "vivid"]
    commercial_use: bool
    keyframe: int | Literal["auto"]
    grain: Literal["match", "less", "none"]
    region: Literal["auto", "face", "head"]
    threads: int | None
    tracker: str
    faces: str
    person: Sequence[str]
    max_faces: int | None
    guard: Literal["auto", "on", "off"]
    correct: Literal["auto", "always", "never"]
    stages: Sequence[str]


class RunOptions(AnalyzeOptions, EnhancerOptions, total=False):
    """Options of `rtface.run`."""

    engine: str
    strength: float
    colour: Literal["lock", "restore"]
    device: str
    treatment: str | PathLike[str] | None
    shots: str | PathLike[str] | None
    size: tuple[int, int] | str | None
    decode: str
    strict: bool
    drop: Sequence[str]
    compare: str | PathLike[str] | None
    report: str | PathLike[str] | None
    sidecar: bool
    sign: str | None
    invented: str | PathLike[str] | Literal["show"] | None
    overwrite: bool
    dry_run: bool
    codec: str | None
    crf: float | None
    preset: str | None
    encode: Literal["auto", "cuda", "software"]
    copy: Literal["auto", "off", "require"]
    bitrate: int | str | None
    latency: float
    cpu_budget: float
    delay: float | None
    audio: str | None
    slate: str | None
    also: str | PathLike[str] | None
    light: float
    turn: Literal["0", "90", "180", "270"]
    mirror: bool
    loop: bool
