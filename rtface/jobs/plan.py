"""The plan of a job: which film, with which options, engines and versions, in which segments (docs/films.md)."""

from __future__ import annotations

import hashlib
import json
import time
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from fractions import Fraction
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import Any, cast

import av

from rtface._version import __version__
from rtface.engine.engine_set import DEFAULT, LIGHT, check_allowed, engine_names, recipe_named
from rtface.engine.recipe import find_recipes
from rtface.errors import InputError, UsageError
from rtface.jobs.borders import SEGMENT_S, borders, read_times
from rtface.jobs.folder import FORMAT, JobFolder
from rtface.media.fingerprint import FINGERPRINT, fingerprint
from rtface.media.mxf import check_times
from rtface.media.stream_plan import OutputPlan
from rtface.options import Options, Trait, having
from rtface.pipeline.plan import FilmPlan
from rtface.redaction import redacted_values
from rtface.shots.settings import ShotList
from rtface.stages.entry_points import stage_version
from rtface.stages.options import Spec
from rtface.util.foreign import (
    Shape,
    anything,
    check_shape,
    count,
    file_path,
    fits,
    flag,
    none_or,
    ratio,
    row,
    text,
)

# Seconds before a segment in which faces are tracked and measured where its worker did not process the segment before
# it: the first where that is finished and says how each face is treated, the second where it is not.
LEAD_IN_S, UNKNOWN_LEAD_IN_S = Fraction(2), Fraction(6)
# The last of them, in which faces are corrected, too.
CORRECTED_LEAD_IN_S = Fraction(1)


def _side(value: Any) -> bool:
    """Samples in one direction of a frame."""
    return count(value) and 0 < value < 1 << 16


_SHAPE: Shape = {
    "input": {"path": file_path, "name": text, **FINGERPRINT}, "output": {"path": file_path, "container": text},
    "options": {}, "files": {}, "engines": {}, "versions": {"rtface": text}, "video": {"encoder": text},
    "clock": {"start": none_or(ratio), "end": none_or(ratio), "origin": none_or(ratio), "begins": none_or(ratio)},
    "size": row(_side, _side, text), "ends": ratio, "lead_in": ratio, "segments": [{"start": ratio, "frames": count}],
    "stages?": {}, "further?": lambda films: isinstance(films, dict) and all(
        fits(film, {"container": text, "encoder": text}) for film in cast("dict[str, Any]", films).values()),
    "numbered?": flag, "created?": text}


@dataclass(frozen=True, slots=True)
class JobPlan:
    """What a job makes, and how.

    Attributes:
        input: absolute path of the film, `name` relative to the folder, and its fingerprint.
        output: absolute path of the result, and its container.
        options: those that are not the default, as text.
        files: SHA-256 of the files that they name.
        engines: version and SHA-256 of the recipe (which names that of the network) of every engine that may run.
        versions: of rtface, PyAV and FFmpeg's libraries.
        video: how the frames are encoded.
        clock: the input's `start`, `end` (of the cut; null for none) and `origin`, the time that becomes 0 in the
            output, all in seconds of the input's clock; `begins` is the start of that.
        size: width, height and pixel format of the frames.
        starts: first time of every segment, in seconds of the input's clock.
        frames: of every segment, as the packets say.
        ends: end of the last segment.
        lead_in: seconds.
        stages: what tells the stages from others of their names (`rtface.stages.entry_points.stage_version`).
        further: how the frames of the further films are encoded, and their containers, by name
            (`rtface.jobs.further_films`).
        numbered: whether options name tracks or persons, so that the film's faces get their numbers first
            (`rtface.jobs.face_numbers`).
        format: version of the folder's format.
        created: date and time.
    """

    input: dict[str, Any]
    output: dict[str, Any]
    options: dict[str, Any]
    files: dict[str, str]
    engines: dict[str, dict[str, str]]
    versions: dict[str, str]
    video: dict[str, Any]
    clock: dict[str, str | None]
    size: tuple[int, int, str]
    starts: list[Fraction]
    frames: list[int]
    ends: Fraction
    lead_in: Fraction = LEAD_IN_S
    stages: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])
    further: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    numbered: bool = False
    format: int = FORMAT
    created: str = field(default_factory=lambda: time.strftime("%Y-%m-%dT%H:%M:%S%z"))

    def __len__(self) -> int:
        """Number of segments."""
        return len(self.starts)

    @property
    def source(self) -> Path:
        """The film."""
        return Path(self.input["path"])

    @property
    def target(self) -> Path:
        """The output."""
        return Path(self.output["path"])

    @property
    def container(self) -> str:
        """FFmpeg's name of the output's container."""
        return self.output["container"]

    @property
    def origin(self) -> Fraction:
        """The time of the input's clock that becomes 0 in the output, in seconds."""
        return Fraction(self.clock["origin"] or 0)

    @property
    def begins(self) -> Fraction:
        """Start of the input's clock in seconds."""
        return Fraction(self.clock["begins"] or 0)

    def first_pts(self, base: Fraction) -> list[int]:
        """The least pts that belongs to each segment, in units of `base` seconds."""
        return [ceil(start / base) for start in self.starts]

    def seconds(self, number: int) -> float:
        """Length of a segment."""
        end = self.starts[number + 1] if number + 1 < len(self.starts) else self.ends
        return float(end - self.starts[number])

    @property
    def duration_s(self) -> float:
        """Length of all segments in seconds."""
        return float(self.ends - self.starts[0])

    def to_json(self) -> dict[str, Any]:
        """Plain values, for plan.json."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        segments = [{"start": str(start), "frames": frames}
                    for start, frames in zip(self.starts, self.frames, strict=True)]
        values |= {"ends": str(self.ends), "lead_in": str(self.lead_in), "segments": segments}
        del values["starts"], values["frames"]
        return {"format": values.pop("format"), **values}

    @classmethod
    def load(cls, folder: JobFolder) -> JobPlan:
        """The plan in a folder.

        Raises:
            InputError: there is none, it cannot be read, or has another format.
            ForeignPlan: another user made it, and it is not `JobFolder.agreed`.
        """
        plan, sha256, own = cls.look(folder)
        if not own and sha256 != folder.agreed:
            raise ForeignPlan(f"{folder.path}: another user planned this job, and a plan decides what is read and "
                              "written; look at it with 'rtface status', then take part with 'rtface work' and "
                              "--trust-plan")
        return plan

    @classmethod
    def look(cls, folder: JobFolder) -> tuple[JobPlan, str, bool]:
        """The plan in a folder, whoever made it, the SHA-256 of its file, and whether this user made it.

        A plan of another user can name any file that this one may read, as INPUT or in its options, and a stage that
        runs code: it is looked at, and not worked on before its SHA-256 is `JobFolder.agreed`. Raises InputError as
        `load`.
        """
        values, sha256, own = folder.read_from(folder.plan, {"format": anything})
        if values is None:
            raise InputError(f"{folder.path}: is no job (it has no plan.json); name the folder that 'rtface run' made")
        try:
            if values["format"] != FORMAT:
                raise UsageError(f"{folder.path}: has format {values['format']}, and this rtface reads {FORMAT}; use "
                                 f"rtface {values['versions']['rtface']}, or begin again with --restart")
            check_shape(values, _SHAPE)
            segments = values.pop("segments")
            values |= {"starts": [Fraction(s["start"]) for s in segments], "frames": [s["frames"] for s in segments],
                       "ends": Fraction(values["ends"]), "lead_in": Fraction(values["lead_in"]),
                       "size": tuple(values["size"])}
            plan = cls(**values)
            if not segments or any(after <= before for before, after in pairwise([*plan.starts, plan.ends])):
                raise ValueError("the segments do not follow each other")
            return plan, sha256, own
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, UsageError):
                raise
            raise InputError(f"{folder.plan}: cannot be used ({error}); begin again with --restart") from error


class ForeignPlan(UsageError):
    """Another user planned the job, and this one did not agree to that."""


def frame_options(options: Options) -> dict[str, Any]:
    """The options that change frames, where they are not the default, as JSON values."""
    free = having(Trait.FREE)
    return redacted_values({key: value for key, value in options.to_dict().items() if key not in free})


def option_files(options: Options) -> dict[str, str]:
    """SHA-256 of the files that options name and frames depend on.

    Raises:
        UsageError: one cannot be read.
    """
    found: dict[str, str] = {}
    for name, path in (("shots", options.shots), ("treatment", options.treatment)):
        if path is not None:
            try:
                found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
            except OSError as error:
                raise UsageError(f"--{name} {path}: cannot be read ({error.strerror})") from error
    return found


def names_faces(options: Options, shots: ShotList) -> bool:
    """Whether options, shots or stages name tracks or persons."""
    return bool(options.treatment or options.person or shots.names_tracks
                or any(text not in ("", "all", "largest") for text in (options.faces, *(
                    (Spec.parse(stage).values or {}).get(key, "") for stage in options.stages
                    for key in ("faces", "names")))))


def options_of(plan: JobPlan, **more: object) -> Options:
    """The options of a plan, and some that change no frame."""
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in plan.options.items()}
    return Options.of({**values, **more})


def versions() -> dict[str, str]:
    """What decides how frames are decoded and encoded: versions of rtface, PyAV and FFmpeg's libraries."""
    found = {"rtface": __version__, "av": av.__version__}
    for name in ("libavcodec", "libavformat", "libswscale"):
        found[name] = ".".join(map(str, av.library_versions.get(name, ())))
    return found


def engines_of(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Version and digest of engines, by name; raises as `rtface.engine.engine_set.recipe_named`."""
    recipes = {DEFAULT if name == "default" else name: recipe_named(name) for name in names}
    return {name: {"version": recipe.version, "recipe_sha256": recipe.digest} for name, recipe in recipes.items()}


def stages_of(options: Options) -> dict[str, dict[str, str]]:
    """Versions of the stages of a run that are there, by name."""
    found = {name: stage_version(name) for name in {Spec.parse(text).name: None for text in options.stages}}
    return {name: version for name, version in found.items() if version is not None}


def described_further(films: Mapping[str, OutputPlan]) -> dict[str, dict[str, Any]]:
    """The plans of further films as JSON values."""
    return {name: {"container": film.format, **film.video.to_dict()} for name, film in films.items()}


def make_plan(film: FilmPlan, source: Path, output: Path, length: Fraction = SEGMENT_S) -> JobPlan | str:
    """Plans a job.

    Args:
        film: what becomes of the film.
        source, output: absolute paths.
        length: of a segment, about, in seconds.

    Returns:
        The plan, or one line that says why the film cannot be divided.

    Raises:
        OutputError: the container cannot hold what the input has.
    """
    info, options, shots, streams = film.info, film.frames.options, film.shots, film.streams
    assert streams is not None
    times = read_times(source, info.start, info.end)
    if times.fault or not times.pts:
        return f"{source.name} is processed without a job, because {times.fault or 'no frame was found'}"
    for name in shots.engines:
        check_allowed(recipe_named(name))
    container, video = streams.format, streams.video
    for path, format, each in ((output, container, video), *(
            (each.target.path, each.format, each.video) for each in film.further.values())):
        if format == "mxf":
            check_times(str(path), path.stem, times.pts, times.base, info.rate)
        if "vp" in each.encoder and each.pix_fmt.startswith("yuva"):
            return (f"{source.name} is processed without a job, because its transparency is a second stream in the "
                    "encoder")
    firsts = [times.pts[0], *borders(times, length)]
    places = [*(bisect_left(times.pts, pts) for pts in firsts), len(times.pts)]
    return JobPlan(
        input={"path": str(source), "name": source.name, **fingerprint(source)},
        output={"path": str(output), "container": container},
        options=frame_options(options), files=option_files(options),
        engines=engines_of((*engine_names(options.engine, options.fidelity), *shots.engines, LIGHT)),
        versions=versions(), video=video.to_dict(),
        clock={"start": None if info.start is None else str(info.start),
               "end": None if info.end is None else str(info.end), "origin": str(info.origin),
               "begins": str(info.clock_start)},
        size=(info.width, info.height, info.pix_fmt), starts=[pts * times.base for pts in firsts],
        frames=[after - before for before, after in pairwise(places)],
        ends=_end(times.pts, times.base), stages=stages_of(options),
        further=described_further(film.further), numbered=names_faces(options, shots))


def _end(pts: array[int], base: Fraction) -> Fraction:
    step = (pts[-1] - pts[0]) // (len(pts) - 1) if len(pts) > 1 else 1
    return (pts[-1] + step) * base


def difference(name: str, planned: dict[str, Any], found: dict[str, Any], *, missing: str = "missing",
               when: str = "here") -> str | None:
    """One line that names the first difference between a part of a plan and what was found; None where they are the
    same.

    Args:
        name: of a value, with {} for its key.
        planned, found: the two.
        missing: the word for a value that is not there.
        when: ends the line.
    """
    for key in {**planned, **found}:
        if planned.get(key) != found.get(key):
            was, now = (_shown(values[key]) if key in values else missing for values in (planned, found))
            return f"{name.format(key)} was {was} when the job began, and is {now} {when}"
    return None


def _shown(value: object) -> str:
    return " ".join(map(str, value.values())) if isinstance(value, dict) else str(value)


class WorkerRefused(UsageError):
    """This installation would make other frames than the one that planned the job."""


def check_worker(plan: JobPlan, options: Options) -> None:
    """Checks that this installation makes the same frames as the one that planned the job.

    Raises:
        WorkerRefused: a version, an engine, a stage or FFmpeg differs; the message names it.
    """
    found = (difference("the version of {}", plan.versions, versions())
             or difference("engine {}", plan.engines, engines_of(plan.engines.keys() & find_recipes().keys()))
             or difference("the stage {}", plan.stages, stages_of(options))
             or difference("the file of {}", plan.files, option_files(options)))
    if found:
        raise WorkerRefused(f"this worker cannot take part: {found}; install the same")


def check_video(plan: JobPlan, film: FilmPlan) -> None:
    """`check_worker` for the encoders of the output and of the further films."""
    assert film.video is not None
    found = difference("the encoder's {}", plan.video, json.loads(json.dumps(film.video.to_dict())))
    for name, values in json.loads(json.dumps(described_further(film.further))).items():
        found = found or difference(f"the {name}'s {{}}", plan.further.get(name, {}), values)
    if found:
        raise WorkerRefused(f"this worker cannot take part: {found}")
