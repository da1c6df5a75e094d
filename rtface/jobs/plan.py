"""The plan of a job: which film, with which options, engines and versions, in which segments (docs/films.md)."""

from __future__ import annotations

import hashlib
import json
import threading
from array import array
from bisect import bisect_left
from collections.abc import Iterable
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import Any, cast

import av

from rtface._version import __version__
from rtface.config.options import OPTIONS, Options, Trait, having, learnt_persons
from rtface.engine.engine_set import (
    DEFAULT,
    LIGHT,
    check_allowed,
    engine_names,
    is_here,
    names_of_persons,
    recipe_named,
)
from rtface.errors import InputError, UsageError
from rtface.jobs.borders import SEGMENT_S, borders, image_times, read_times
from rtface.jobs.folder import FORMAT, JobFolder
from rtface.media.files.fingerprint import FINGERPRINT
from rtface.media.formats.mxf import check_times
from rtface.media.read.decoder import Fields
from rtface.media.read.source import FileSource
from rtface.media.stills.image_read import MAX_PIXELS
from rtface.media.stills.images import SUFFIXES, SequenceSource
from rtface.media.write.stream_plan import FORMATS
from rtface.pipeline.build import open_film, open_scans
from rtface.pipeline.plan import FilmPlan, FramePlan, RunPlan, makes_folder, plan_film, planned_options
from rtface.pipeline.threads import Threads
from rtface.redaction import redacted_values
from rtface.shots.settings import ShotList
from rtface.stages.entry_points import stage_version
from rtface.stages.options import Spec
from rtface.stats import Stats
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
    read_regular,
    row,
    text,
)

# Seconds before a segment in which faces are tracked and measured where its worker did not process the segment before
# it: the first where that is finished and says how each face is treated, the second where it is not.
LEAD_IN_S, UNKNOWN_LEAD_IN_S = Fraction(2), Fraction(6)
# The last of them, in which faces are corrected, too.
CORRECTED_LEAD_IN_S = Fraction(1)


def _size(value: Any) -> bool:
    """Width, height and pixel format of frames; a folder of scans may hold larger ones than a film."""
    if not row(count, count, text)(value) or not 0 < value[0] * value[1] <= MAX_PIXELS:
        return False
    try:
        return bool(av.VideoFormat(value[2]))
    except ValueError:
        return False


def _film(value: Any) -> bool:
    """The path of a film that can be written, or of a folder for its stills, with a slash."""
    return file_path(value) and (value.endswith("/") or Path(value).suffix.lower() in FORMATS)


_SHAPE: Shape = {
    "input": file_path,
    "file": FINGERPRINT,
    "output": _film,
    "options": lambda options: isinstance(options, dict) and OPTIONS.keys() >= cast("dict[str, Any]", options).keys(),
    "container": none_or(text),
    "folder": none_or(lambda kind: kind in SUFFIXES),
    "video": none_or({"encoder": text}),
    "further": lambda films: (
        isinstance(films, dict)
        and all(fits(film, {"container": text, "encoder": text}) for film in cast("dict[str, Any]", films).values())
    ),
    "job": {
        "files": {},
        "engines": {},
        "versions": {"rtface": text},
        "stages": {},
        "origin": ratio,
        "begins": ratio,
        "size": _size,
        "starts": [ratio],
        "frames": [count],
        "ends": ratio,
        "numbered": flag,
    },
}


@dataclass(frozen=True, slots=True)
class JobPlan:
    """What a job makes, and how.

    Attributes:
        run: `RunPlan.to_dict` and `FilmPlan.to_dict`, without secrets of addresses.
        files: SHA-256 of the files that options name.
        engines: version and SHA-256 of the recipe (which names that of the network) of every engine that may run.
        versions: of rtface, PyAV and FFmpeg's libraries.
        stages: what tells the stages from others of their names (`rtface.stages.entry_points.stage_version`).
        origin: the time of the input's clock that becomes 0 in the output, in seconds.
        begins: start of that clock.
        size: width, height and pixel format of the frames.
        starts: first time of every segment, in seconds of the input's clock.
        frames: of every segment, as the packets say.
        ends: end of the last segment.
        numbered: whether options name tracks or persons, so that the film's faces get their numbers first
            (`rtface.jobs.face_numbers`).
    """

    run: dict[str, Any]
    files: dict[str, str]
    engines: dict[str, dict[str, str]]
    versions: dict[str, str]
    stages: dict[str, dict[str, str]]
    origin: Fraction
    begins: Fraction
    size: tuple[int, int, str]
    starts: list[Fraction]
    frames: list[int]
    ends: Fraction
    numbered: bool

    def __len__(self) -> int:
        """Number of segments."""
        return len(self.starts)

    @property
    def source(self) -> Path:
        """The film."""
        return Path(self.run["input"])

    @property
    def file(self) -> dict[str, Any]:
        """Its fingerprint."""
        return self.run["file"]

    @property
    def target(self) -> Path:
        """The output."""
        return Path(self.run["output"])

    @property
    def output(self) -> str:
        """The output as a run takes it: a folder has a slash behind its name."""
        return self.run["output"]

    @property
    def folder(self) -> str | None:
        """Kind of the stills of an output that is a folder; None for a film."""
        return self.run["folder"]

    @property
    def container(self) -> str:
        """FFmpeg's name of the output's container."""
        return self.run["container"]

    @property
    def video(self) -> dict[str, Any] | None:
        """How the frames are encoded; None where stills hold other samples."""
        return self.run["video"]

    @property
    def options(self) -> dict[str, Any]:
        """Those that change frames, where they are not the default."""
        return _changing(self.run["options"])

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
        job = json.loads(json.dumps(asdict(self), default=str))
        return {"format": FORMAT, **job.pop("run"), "job": job}

    @classmethod
    def load(cls, folder: JobFolder) -> JobPlan:
        """The plan in a folder.

        Raises:
            InputError: there is none, it cannot be read, or has another format.
            ForeignPlan: another user made it, and it is not `JobFolder.agreed`.
        """
        plan, sha256, own = cls.look(folder)
        if not own and sha256 != folder.agreed:
            raise ForeignPlan(
                f"{folder.path}: another user planned this job, and a plan decides what is read and "
                "written; look at it with 'rtface status', then take part with 'rtface work' and "
                "--trust-plan"
            )
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
                raise UsageError(
                    f"{folder.path}: has format {values['format']}, and this rtface reads {FORMAT}; use "
                    "the rtface that began it, or begin again with --restart"
                )
            check_shape(values, _SHAPE)
            stills, film = values["folder"] is not None, None not in (values["container"], values["video"])
            if stills != values["output"].endswith("/") or not (stills or film):
                raise ValueError("it says nothing clear of its output")
            job = values.pop("job")
            job |= {
                "starts": list(map(Fraction, job["starts"])),
                "size": tuple(job["size"]),
                **{key: Fraction(job[key]) for key in ("origin", "begins", "ends")},
            }
            plan = cls(values, **job)
            if not 0 < len(plan.starts) == len(plan.frames) or any(
                after <= before for before, after in pairwise([*plan.starts, plan.ends])
            ):
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
    return _changing(redacted_values(planned_options(options)))


def _changing(options: dict[str, Any]) -> dict[str, Any]:
    free = having(Trait.FREE)
    return {key: value for key, value in options.items() if key not in free}


def option_files(options: Options) -> dict[str, str]:
    """SHA-256 of the files that options name and frames depend on.

    Raises:
        UsageError: one cannot be read.
    """
    found: dict[str, str] = {}
    for name, path in (("shots", options.shots), ("treatment", options.treatment)):
        if path is not None:
            try:
                found[name] = hashlib.sha256(read_regular(path)).hexdigest()
            except OSError as error:
                raise UsageError(f"--{name} {path}: cannot be read ({error.strerror})") from error
    return found


def names_faces(options: Options, shots: ShotList) -> bool:
    """Whether options, shots or stages name tracks or persons."""
    return bool(
        options.treatment
        or options.person
        or shots.names_tracks
        or any(
            text not in ("", "all", "largest")
            for text in (
                options.faces,
                *(
                    (Spec.parse(stage).values or {}).get(key, "")
                    for stage in options.stages
                    for key in ("faces", "names")
                ),
            )
        )
    )


def options_of(plan: JobPlan, **more: object) -> Options:
    """The options of a plan, and some that change no frame."""
    return Options.of(plan.options | more)


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


def open_whole(
    path: Path, options: Options, stats: Stats | None = None, *, hold: bool = True
) -> FileSource | SequenceSource:
    """A film, with its cut, but for its frames.

    Args:
        path, options: of the run.
        stats: receives warnings, which are not logged without it.
        hold: as of `SequenceSource`.
    """
    stats = stats or Stats(logs=False)
    if options.sequence:
        return open_scans(path, options, stats, hold=hold)
    return FileSource(path, start=options.start, end=options.end, threads=1, stats=stats, strict=options.strict)


def open_from(
    plan: JobPlan,
    number: int,
    lead_in: Fraction,
    options: Options,
    threads: Threads,
    stats: Stats,
    stop: threading.Event,
    stack: ExitStack,
    *,
    fields: Fields | None = None,
    on_gpu: bool = False,
) -> FileSource | SequenceSource:
    """A film from some seconds before a segment on; arguments and errors as of `rtface.pipeline.build.open_film`."""
    start = plan.starts[number] - lead_in
    if options.sequence:
        source = open_film(plan.source, options, threads, Stats(logs=False), stop, stack, hold=plan.folder is None)
        assert isinstance(source, SequenceSource)
        source.go_to(start, stats)
        return source
    if number:
        options = replace(options, start=float(max(start - plan.begins, Fraction(options.start or 0))) or None)
    return open_film(plan.source, options, threads, stats, stop, stack, size=plan.size, fields=fields, on_gpu=on_gpu)


def plan_source(frames: FramePlan, path: Path, output: str | None = None, stats: Stats | None = None) -> FilmPlan:
    """`plan_film` of a film that is opened for that as by `open_whole`."""
    hold = not makes_folder(frames, output)
    with closing(open_whole(path, frames.options, stats, hold=hold)) as source:
        return plan_film(frames, source, output=output)


def make_plan(film: FilmPlan, length: Fraction = SEGMENT_S) -> JobPlan | str:
    """Plans a job.

    Args:
        film: what becomes of the film, in a `RunPlan`.
        length: of a segment, about, in seconds.

    Returns:
        The plan, or one line that says why the film cannot be divided.

    Raises:
        OutputError: the container cannot hold what the input has.
    """
    info, run, shots, source = film.info, film.frames, film.shots, film.frames.input
    assert isinstance(run, RunPlan)
    options = run.options
    times = image_times(info) if info.is_sequence else read_times(source, info.start, info.end)
    if times.fault or not times.pts:
        return f"{source.name} is processed without a job, because {times.fault or 'no frame was found'}"
    for name in shots.engines:
        check_allowed(recipe_named(name))
    for each in (*([film.streams] if film.streams is not None else []), *film.further.values()):
        if each.format == "mxf":
            check_times(str(each.target.path), each.target.path.stem, times.pts, times.base, info.rate)
        if "vp" in each.video.encoder and each.video.pix_fmt.startswith("yuva"):
            return (
                f"{source.name} is processed without a job, because its transparency is a second stream in the encoder"
            )
    named = *engine_names(options.engine, options.fidelity), *shots.engines
    firsts = [times.pts[0], *borders(times, length)]
    places = [*(bisect_left(times.pts, pts) for pts in firsts), len(times.pts)]
    return JobPlan(
        run=run.to_dict() | {"options": redacted_values(planned_options(options))} | film.to_dict(),
        files=option_files(options),
        engines=engines_of((*named, *names_of_persons(named, learnt_persons(options.person)), LIGHT)),
        versions=versions(),
        stages=stages_of(options),
        origin=info.origin,
        begins=info.clock_start,
        size=(info.width, info.height, info.pix_fmt),
        starts=[pts * times.base for pts in firsts],
        frames=[after - before for before, after in pairwise(places)],
        ends=_end(times.pts, times.base),
        numbered=names_faces(options, shots),
    )


def _end(pts: array[int], base: Fraction) -> Fraction:
    step = (pts[-1] - pts[0]) // (len(pts) - 1) if len(pts) > 1 else 1
    return (pts[-1] + step) * base


def difference(
    name: str, planned: dict[str, Any], found: dict[str, Any], *, missing: str = "missing", when: str = "here"
) -> str | None:
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
    found = (
        difference("the version of {}", plan.versions, versions())
        or difference("engine {}", plan.engines, engines_of(name for name in plan.engines if is_here(name)))
        or difference("the stage {}", plan.stages, stages_of(options))
        or difference("the file of {}", plan.files, option_files(options))
    )
    if found:
        raise WorkerRefused(f"this worker cannot take part: {found}; install the same")


def check_video(plan: JobPlan, film: FilmPlan) -> None:
    """`check_worker` for the encoders of the output and of the further films."""
    here = json.loads(json.dumps(film.to_dict()))
    found = difference("the encoder's {}", plan.video or {}, here["video"] or {})
    for name, values in here["further"].items():
        found = found or difference(f"the {name}'s {{}}", plan.run["further"].get(name, {}), values)
    if found:
        raise WorkerRefused(f"this worker cannot take part: {found}")
