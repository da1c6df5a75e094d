"""Plans a run: makes all its checks, and writes nothing.

Before the input is opened, `plan_frames` checks the work on frames, and `plan_run` also checks the outputs.
`plan_film` (`rtface.pipeline.film_plan`) checks the output of an opened film. The code that builds and runs the steps
accepts plans, not options, so that only planned runs are possible.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rtface._version import __version__
from rtface.analysis.treatment_file import Treatments, read_treatments
from rtface.config.options import (
    InputOptions,
    Options,
    Scope,
    learnt_persons,
    locked,
    locked_error,
    person_photos,
)
from rtface.engine.engine_set import check_persons, engine_names, without_persons
from rtface.errors import UsageError
from rtface.media.files.fingerprint import fingerprint
from rtface.media.files.image_names import is_image
from rtface.media.files.outputs import OutputPath, check_outputs, film_folder, names_folder
from rtface.media.files.workfile import Target
from rtface.media.marks.provenance import describe
from rtface.media.read.container import open_container
from rtface.media.stills.images import IMAGE_KINDS
from rtface.media.write.stream_plan import FORMATS
from rtface.pipeline.checks import check_invented, further_paths
from rtface.pipeline.threads import Threads
from rtface.report import Report, is_unfinished, metadata_options, report_options
from rtface.shots.files import check_shots_file
from rtface.stages.options import absolute
from rtface.trust.credentials import can_hold
from rtface.trust.credentials_writing import signing_key
from rtface.trust.sidecar import has_sidecar, sidecar_path
from rtface.trust.signing import SigningKey
from rtface.util.paths import check_there
from rtface.util.urls import Address


@dataclass(frozen=True, slots=True)
class FramePlan:
    """The plan of the work on an input's frames.

    Attributes:
        input: path or address of the input.
        options: options of the run.
        treatments: content of the treatment file.
        warnings: warnings for the user, by key.
    """

    input: Path | Address
    options: Options
    treatments: Treatments = field(default_factory=Treatments)
    warnings: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def engines(self) -> Sequence[str]:
        """The engines that the run may use."""
        return engine_names(self.options.engine, self.options.engine_control)

    @property
    def learnt(self) -> Sequence[str]:
        """The learnt persons of the run."""
        return learnt_persons(self.options.person)

    @property
    def threads(self) -> Threads:
        """The thread budget of the run."""
        return Threads.for_film(self.options.threads)

    def tags(self, engine: str) -> dict[str, str]:
        """Returns the output's tags that describe the enhancement. `engine` is a name with a version (see
        `rtface.media.marks.provenance.describe`)."""
        return describe(engine, __version__, self.options.strength, metadata_options(self.options))

    @property
    def on_host(self) -> bool:
        """Whether a step, such as a comparison, needs frames in host memory."""
        options = self.options
        return (
            bool(options.stages)
            or options.colour == "restore"
            or options.scale is not None
            or options.invented is not None
            or options.compare is not None
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan(FramePlan):
    """A run from file to file.

    Attributes:
        output: file or folder, as the user entered it.
        outputs: targets by name: "film" (also for a still or a folder of stills), and "comparison", "map", "report" and
            "sidecar" if they are written.
        stills: whether the input is separate stills.
        folder: whether the output is a folder of stills.
        job: whether the run is a job.
        key: key that signs the output; None for no signature.
    """

    output: Path | str
    outputs: Mapping[str, Target]
    stills: bool
    folder: bool
    job: bool
    key: SigningKey | None

    def to_dict(self) -> dict[str, object]:
        """Returns the plan as JSON values: input, options and outputs."""
        sampled = isinstance(self.input, Path) and (self.options.sequence or self.input.is_file())
        outputs = {name: str(target.path) for name, target in self.outputs.items()}
        return {
            "rtface": __version__,
            "file": fingerprint(Path(self.input)) if sampled else None,
            "input": str(self.input.absolute() if isinstance(self.input, Path) else self.input),
            "output": str(Path(self.output).absolute()) + ("/" if self.folder else ""),
            "options": planned_options(self.options),
            "outputs": outputs,
        }

    def report(self) -> Report:
        """Returns a report of the run that is not filled in yet."""
        return Report(
            str(self.input),
            os.fspath(self.output),
            __version__,
            self.options.engine,
            self.options.device,
            options=report_options(self.options),
        )


def planned_options(options: Options) -> dict[str, object]:
    """Returns a run's non-default options as JSON values, with absolute paths. Raises as
    `rtface.stages.options.make_stage`."""
    values = options.to_dict() | ({"stages": [absolute(text) for text in options.stages]} if options.stages else {})
    values.pop("dry_run", None)
    return values


def plan_frames(input: Path | Address, options: Options) -> FramePlan:
    """Plans the work on frames, for any output.

    Args:
        input: a film, a still, or a folder of stills.
        options: options of the run.

    Raises:
        UsageError: options contradict each other, or the treatment file is invalid, or it is not allowed because the
            policy locks an option that treatment files may set.
        InputMissing: the treatment file does not exist.
    """
    check_invented(options, input=input)
    treatments, warnings = Treatments(), dict[str, str]()
    if (path := options.treatment) is not None:
        if (key := next((key for key in ("correct", "strength", "engine") if key in locked()), None)) is not None:
            raise locked_error(key)  # a treatment may set any of them
        treatments = read_treatments(path)
        if (other := treatments.other_than(input)) is not None:
            warnings["treatment"] = (
                f"the treatment file {path} was made for {other}; its tracks may be other faces in {input}"
            )
    plan = FramePlan(input, options, treatments, warnings)
    if (warning := without_persons(plan.engines, plan.learnt)) is not None:
        warnings["person"] = warning
    return plan


def plan_run(
    input: Path | Address,
    output: Path | str,
    options: Options,
    *,
    job: bool = False,
    finished: Collection[Path] = (),
) -> RunPlan:
    """Plans a run from file to file. Does not open the input.

    Args:
        input: anything that PyAV opens (`Address`), a still, or a folder of stills.
        output: file or folder. A file's extension determines its kind; a name that ends in a slash means a folder.
        options: options of the run.
        job: whether the run is a job, which always writes a sidecar.
        finished: films that an earlier call of the job finished; this run replaces them.

    Raises:
        UsageError, InputError, OutputError, MissingComponent: see `rtface.errors`.
    """
    if options.sequence and not input.is_dir():
        raise UsageError(
            "{path} is not a folder; {--sequence=True} requires a folder of stills, and makes a film of it",
            code="sequence_folder",
            path=input,
        )
    stills = is_stills_job(input, output, options)
    frames = plan_frames(input, options)
    if options.dry_run:
        check_persons(frames.engines, frames.learnt)
    folder = _into_folder(input, output, stills)
    paths = {"film": OutputPath(output, folder=folder, resumes=stills)}
    paths |= further_paths(options, still=stills)
    if options.report is not None:
        # If this run resumes or repeats an earlier call, it replaces that call's report.
        part = {"start": options.start, "end": options.end}
        replaces = is_unfinished(options.report, input, output, part, job=job)
        paths["report"] = OutputPath(options.report, "--report", replaces=replaces)
    key = signing_key(options, input)
    if job or options.sidecar or (key is not None and (folder or not can_hold(Path(output)))):
        # A job's sidecar replaces the sidecar of an earlier film of the same name that no longer exists.
        replaces_sidecar = job and has_sidecar(Path(output))
        paths["sidecar"] = OutputPath(sidecar_path(Path(output)), "--sidecar", replaces=replaces_sidecar)
    photos = (photo for photos in person_photos(options.person).values() for photo in photos)
    read = (options.treatment, options.shots, options.repair, *photos)
    inputs = [input, *(path for path in read if isinstance(path, Path))]
    if options.shots is not None:
        check_shots_file(options.shots)
    if isinstance(options.repair, Path):
        check_there(options.repair)
    paths |= {key: replace(path, replaces=True) for key, path in paths.items() if Path(path.path).resolve() in finished}
    if paths["film"].replaces:  # the film's report is replaced too
        paths |= {key: replace(paths[key], replaces=True) for key in ("report",) if key in paths}
    targets = check_outputs(list(paths.values()), inputs=inputs, overwrite=options.overwrite)
    return RunPlan(
        input,
        options,
        frames.treatments,
        frames.warnings,
        output=output,
        outputs=dict(zip(paths, targets, strict=True)),
        stills=stills,
        folder=folder,
        job=job,
        key=key,
    )


def is_stills_job(input: Path | Address, output: Path | str, options: InputOptions) -> bool:
    """Returns whether a job processes separate stills: a folder without `--sequence`, or one image.

    Raises:
        UsageError: the input is a folder of stills, but the output is a single file.
    """
    if isinstance(input, Address):
        return False
    suffix, folder = Path(output).suffix, names_folder(output)
    if input.is_dir() and not options.sequence:
        if suffix and not folder:
            raise UsageError(
                "{path} is a folder of stills, but {output} is a single file; use a folder as the output, or make a "
                "film of the stills with {--sequence=True} {--fps:RATE}",
                code="folder_to_file",
                path=input,
                output=output,
            )
        return True
    return suffix.lower() in IMAGE_KINDS and not folder and is_image(input)


def scope_of(input: Path | Address, output: Path | str, options: Options) -> Scope:
    """Returns the scope of a run from file to file. Raises UsageError as in `is_stills_job`."""
    if is_stills_job(input, output, options):
        return Scope.STILLS
    scope = Scope.FILM
    if options.sequence:
        scope |= Scope.SEQUENCE
    if options.compare or (Path(output).suffix and not names_folder(output)):
        scope |= Scope.ENCODED
    return scope


def _into_folder(input: Path | Address, output: Path | str, stills: bool) -> bool:
    """Returns whether the output is a folder of stills. Raises UsageError for an invalid name."""
    if stills:
        return input.is_dir()
    if Path(output).suffix.lower() in IMAGE_KINDS and not names_folder(output):
        if isinstance(input, Path) and input.is_file():
            open_container(input).close()  # raises if the input is neither an image nor a film, or an unsupported image
        raise UsageError(
            "{path} is a film; the output must be a film ({formats}) or a folder for its images, not {output}",
            code="output_not_stills",
            path=input,
            formats=", ".join(FORMATS),
            output=Path(output).name,
        )
    return film_folder(output, FORMATS, input, still=isinstance(input, Path) and is_image(input))
