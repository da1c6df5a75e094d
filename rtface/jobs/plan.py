"""Stores a job's plan: film, options, engines, versions and segments (docs/films.md)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any

from rtface.config.options import Options, Trait, having
from rtface.errors import InputError, UsageError
from rtface.frame import FadingCurve
from rtface.jobs.folder import FORMAT, JobFolder
from rtface.media.files import fingerprint
from rtface.pipeline.checks import further_paths
from rtface.pipeline.plan import planned_options
from rtface.redaction import redacted_values
from rtface.util.foreign import converted


@dataclass(frozen=True, slots=True)
class JobPlan:
    """Describes a job; it is stored in the job's folder.

    Attributes:
        id: random name, because another job may use the same folder later.
        run: `RunPlan.to_dict` and `FilmPlan.to_dict`, without secrets of addresses.
        files: SHA-256 of the files that options name, by purpose.
        installed: versions on which the frames depend; see `rtface.jobs.planning.installed`.
        origin: time of the input's clock that becomes 0 in the output, in seconds.
        begins: time at which the input's clock starts, in seconds.
        size: width, height and pixel format of the frames.
        starts: first time of every segment, in seconds of the input's clock.
        frames: number of frames in each segment, according to the packets.
        ends: end of the last segment, in seconds of the input's clock.
        numbered: whether options name tracks or persons, so that faces are numbered first
            (`rtface.jobs.face_numbers`).
        damage: what a damaged container lost (`rtface.jobs.borders.FilmTimes`).
    """

    id: str
    run: dict[str, Any]
    files: dict[str, str]
    installed: dict[str, str]
    origin: Fraction
    begins: Fraction
    size: tuple[int, int, str]
    starts: list[Fraction]
    frames: list[int]
    ends: Fraction
    numbered: bool
    damage: str | None

    def __len__(self) -> int:
        """Returns the number of segments."""
        return len(self.starts)

    @property
    def source(self) -> Path:
        """The film."""
        return Path(self.run["input"])

    def check_film(self) -> None:
        """Checks the film. Raises InputError if it is missing, or is not the film of the plan."""
        fingerprint.check(self.run["file"], self.source)

    @property
    def target(self) -> Path:
        """The output."""
        return Path(self.run["output"])

    @property
    def films(self) -> list[Path]:
        """The films that the job writes: output and additional films. Raises the errors of `options_of`."""
        return [self.target, *(Path(film.path) for film in further_paths(options_of(self)).values())]

    @property
    def video(self) -> dict[str, Any] | None:
        """Encoding of the frames; None for a folder of stills."""
        return self.run["video"]

    @property
    def curve(self) -> FadingCurve | None:
        """The curve that corrects the fading of the film's frames."""
        return self.run["curve"]

    @property
    def options(self) -> dict[str, Any]:
        """Options that change frames and differ from the default."""
        return _without_neutral(self.run["options"])

    def first_pts(self, base: Fraction) -> list[int]:
        """Returns the first pts of each segment, in units of `base` seconds."""
        return [ceil(start / base) for start in self.starts]

    def seconds(self, number: int) -> float:
        """Returns the length of a segment in seconds."""
        end = self.starts[number + 1] if number + 1 < len(self.starts) else self.ends
        return float(end - self.starts[number])

    @property
    def duration_s(self) -> float:
        """Length of all segments in seconds."""
        return float(self.ends - self.starts[0])

    def to_json(self) -> dict[str, Any]:
        """Returns the values of plan.json."""
        job = json.loads(json.dumps(asdict(self), default=str))
        return {"format": FORMAT, **job.pop("run"), "job": job}

    @classmethod
    def load(cls, folder: JobFolder) -> JobPlan:
        """Loads the plan of a folder.

        Raises:
            InputError: the plan is missing, unreadable, or has another format.
        """
        values = folder.read(folder.plan) or {}
        try:
            if values.pop("format") != FORMAT:
                raise ValueError(f"its format is not {FORMAT}")
            plan = converted(values.pop("job") | {"run": values}, cls)
            options_of(plan)
        except (LookupError, TypeError, ValueError, AttributeError, UsageError) as error:
            raise InputError(
                "{path}: was planned by another version of rtface, or is damaged ({why}); use that version, or begin "
                "again with {--restart=True}",
                code="plan_unusable",
                path=folder.plan,
                why=error,
            ) from error
        return plan


def frame_options(options: Options) -> dict[str, Any]:
    """Returns the options that change frames, as JSON values. Defaults are left out."""
    return _without_neutral(redacted_values(planned_options(options)))


def _without_neutral(options: dict[str, Any]) -> dict[str, Any]:
    neutral = having(Trait.FREE)
    return {key: value for key, value in options.items() if key not in neutral}


def options_of(plan: JobPlan, **more: object) -> Options:
    """Returns the options of a plan. `more` overrides options that change no frame."""
    return Options.of(plan.options | more)
