"""The plan of a run: all its checks are made here, and nothing is written.

`plan_frames` checks what is done with frames, `plan_run` also where the results go, both before the input is opened;
`plan_film` what becomes of a film that was opened. What builds and runs the steps takes a plan, never options: what was
not planned cannot run.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from fractions import Fraction
from pathlib import Path

from rtface._version import __version__
from rtface.analysis.treatment_file import Treatments, read_treatments
from rtface.config.options import (
    InputOptions,
    Options,
    OutputOptions,
    Scope,
    learnt_persons,
    locked,
    locked_error,
)
from rtface.engine.engine_set import check_persons, engine_names, without_persons
from rtface.errors import Message, UsageError
from rtface.frame import FadingCurve, Transfer
from rtface.media.cuda.nvenc import choose_encoder, encoding
from rtface.media.files.fingerprint import fingerprint
from rtface.media.files.image_names import is_image
from rtface.media.files.outputs import OutputPath, check_outputs, film_folder, names_folder
from rtface.media.files.workfile import Target
from rtface.media.marks.provenance import describe, own_tags
from rtface.media.read.container import open_container
from rtface.media.read.media_info import MediaInfo
from rtface.media.read.pipe import is_pipe
from rtface.media.read.source import FileSource
from rtface.media.read.start_timecode import output_timecode
from rtface.media.stills.image_write import ONLY_FROM_EXR, SUFFIXES
from rtface.media.stills.images import IMAGE_KINDS, SequenceSource
from rtface.media.write.encoders import VideoPlan
from rtface.media.write.intra_copy import IntraCopy
from rtface.media.write.invented import plan_map
from rtface.media.write.packet_copy import PacketCopy, find_copy, fit_copy
from rtface.media.write.stream_plan import FORMATS, OutputPlan, check_folder, plan_output, supported_encoders
from rtface.pipeline.compare import plan_pairs
from rtface.pipeline.runtime import codec_device
from rtface.pipeline.threads import Threads
from rtface.report import Report, is_unfinished, metadata_options, report_options
from rtface.shots.clock import FilmClock
from rtface.shots.files import check_shots_file, read_shots
from rtface.shots.settings import NO_SHOTS, ShotList
from rtface.stages.options import absolute
from rtface.stages.runner import Stages
from rtface.stats import Stats
from rtface.trust.credentials import can_hold, signing_key
from rtface.trust.sidecar import has_sidecar, sidecar_path
from rtface.trust.signing import SigningKey
from rtface.util.timecode import Timecode
from rtface.util.urls import Address

_TRANSFERS: dict[str, Transfer] = {"log": "log", "linear": "linear", "video": "sdr"}


@dataclass(frozen=True, slots=True)
class FramePlan:
    """What is done with the frames of an input.

    Attributes:
        input: what is read.
        options: of the run.
        treatments: what the treatment file says.
        warnings: for the user, by key.
    """

    input: Path | Address
    options: Options
    treatments: Treatments = field(default_factory=Treatments)
    warnings: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def engines(self) -> Sequence[str]:
        """The engines from which the run chooses."""
        return engine_names(self.options.engine, self.options.engine_control)

    @property
    def learnt(self) -> Sequence[str]:
        """The persons of the run who were learnt."""
        return learnt_persons(self.options.person)

    @property
    def threads(self) -> Threads:
        """The budget of the run."""
        return Threads.for_film(self.options.threads)

    def tags(self, engine: str) -> dict[str, str]:
        """What an output says that was done (`rtface.media.marks.provenance.describe`), by an engine with its
        version."""
        return describe(engine, __version__, self.options.strength, metadata_options(self.options))

    @property
    def on_host(self) -> bool:
        """True if a step needs frames in the host's memory, as comparisons, repairs and stages do."""
        options = self.options
        return (
            bool(options.stages)
            or options.colour == "restore"
            or options.scale is not None
            or options.invented is not None
            or options.compare is not None
        )


@dataclass(frozen=True, slots=True)
class Outputs:
    """What a run writes, by name; None for what it does not.

    Attributes:
        film: the film, the still, or the folder of stills.
        comparison, map: the further films (`--compare`, `--invented`).
        report, sidecar: of the run, and of the output.
    """

    film: Target
    comparison: Target | None = None
    map: Target | None = None
    report: Target | None = None
    sidecar: Target | None = None

    def named(self) -> dict[str, Target]:
        """All that is written, by name."""
        return {one.name: target for one in fields(self) if (target := getattr(self, one.name)) is not None}

    @property
    def further(self) -> dict[str, Target]:
        """The further films by name."""
        return {name: target for name, target in self.named().items() if name in ("comparison", "map")}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan(FramePlan):
    """A run from file to file.

    Attributes:
        output: file or folder, as the user named it.
        outputs: what is written.
        stills: whether the input is separate stills.
        folder: whether the output is a folder of stills.
        job: whether the run is a job.
        key: signs the output; None for not.
    """

    output: Path | str
    outputs: Outputs
    stills: bool
    folder: bool
    job: bool
    key: SigningKey | None

    @property
    def signed_inside(self) -> bool:
        """True if the output itself holds the signature."""
        return (
            self.key is not None
            and isinstance(self.input, Path)
            and (self.stills if self.folder else can_hold(self.outputs.film.path))
        )

    def to_dict(self) -> dict[str, object]:
        """The plan as JSON has it: what is read, with which options, and what is written."""
        sampled = isinstance(self.input, Path) and (self.options.sequence or self.input.is_file())
        outputs = {name: str(target.path) for name, target in self.outputs.named().items()}
        return {
            "rtface": __version__,
            "file": fingerprint(Path(self.input)) if sampled else None,
            "input": str(self.input.absolute() if isinstance(self.input, Path) else self.input),
            "output": str(Path(self.output).absolute()) + ("/" if self.folder else ""),
            "options": planned_options(self.options),
            "outputs": outputs,
        }

    def report(self) -> Report:
        """The report of the run, before it."""
        return Report(
            str(self.input),
            os.fspath(self.output),
            __version__,
            self.options.engine,
            self.options.device,
            options=report_options(self.options),
        )


@dataclass(frozen=True, slots=True)
class FolderPlan:
    """How a film becomes a folder of stills.

    Attributes:
        kind: of the stills, as `rtface.media.stills.image_write.SUFFIXES` has them.
        timecode: of the first still; None for none.
        written: the timecode that the headers of the stills get; None leaves theirs.
        video: how their samples compare with those of the frames, as an encoder that keeps them; None where the stills
            hold others.
        warning: for the user; "" for none.
    """

    kind: str
    timecode: Timecode | None
    written: Timecode | None
    video: VideoPlan | None
    warning: str = ""


@dataclass(frozen=True, slots=True)
class FilmPlan:
    """What becomes of a film that was opened.

    Attributes:
        frames: what is done with its frames.
        info: of the input.
        shots: those with settings.
        streams: of the output; None for a folder of stills, and where no film is written.
        folder: how it becomes a folder of stills; None for a film.
        video: how its frames are encoded; None where nothing is written, and where stills hold other samples.
        copy: how packets of the frames are copied; None where every frame is encoded.
        further: the further films by name.
        notes: for the user.
        curve: what takes the fading out of it (`rtface.pipeline.fading`); None for nothing.
    """

    frames: FramePlan
    info: MediaInfo
    shots: ShotList
    streams: OutputPlan | None
    folder: FolderPlan | None
    video: VideoPlan | None
    copy: PacketCopy | None
    further: Mapping[str, OutputPlan]
    notes: Sequence[str]
    curve: FadingCurve | None = None

    @property
    def begins(self) -> Fraction:
        """Where the output begins, in seconds of the input's clock."""
        return self.info.video_start if self.info.start is None else self.info.start

    def to_dict(self) -> dict[str, object]:
        """The plan as JSON has it, without names of files; that of the run, notes and warnings are apart."""
        streams = self.streams.streams if self.streams is not None else ()
        return {
            "start": float(self.begins - self.info.video_start),
            "duration_s": self.info.duration_s,
            "container": None if self.streams is None else self.streams.format,
            "folder": None if self.folder is None else self.folder.kind,
            "video": None if self.video is None else self.video.to_dict(),
            "streams": [
                {
                    "index": each.stream.index,
                    "kind": each.stream.kind,
                    "codec": each.stream.codec,
                    "language": each.stream.language,
                    "action": each.action,
                    "encoder": each.encoder,
                }
                for each in streams
            ],
            "further": {
                name: {"container": film.format, **film.video.to_dict()} for name, film in self.further.items()
            },
            "curve": self.curve,
            "shots": len(self.shots),
        }

    def describe(self, report: Report) -> None:
        """Tells the report what was decided."""
        report.notes += self.notes
        report.first_s = round(float(self.info.first - self.info.clock_start), 6)
        if (plan := self.streams) is not None:
            report.timecode = str(plan.timecode) if plan.timecode else None
            report.encoder = plan.video.described
        elif self.folder is not None:
            report.timecode = str(self.folder.timecode) if self.folder.timecode else None


def planned_options(options: Options) -> dict[str, object]:
    """The options of a run that are not at their default, as JSON has them, with absolute paths; raises as
    `rtface.stages.options.make_stage`."""
    values = options.to_dict() | ({"stages": [absolute(text) for text in options.stages]} if options.stages else {})
    values.pop("dry_run", None)
    return values


def plan_frames(input: Path | Address, options: Options) -> FramePlan:
    """Plans what is done with frames, whatever becomes of them.

    Args:
        input: a film, a still, or a folder of stills.
        options: of the run.

    Raises:
        UsageError: options do not go together, or the policy sets what a treatment file may.
        InputMissing, UsageError: the treatment file cannot be used.
    """
    check_invented(options, input=input)
    treatments, warnings = Treatments(), dict[str, str]()
    if (path := options.treatment) is not None:
        if (key := next((key for key in ("correct", "strength", "engine") if key in locked()), None)) is not None:
            raise locked_error(key)  # a treatment may set each of them
        treatments = read_treatments(path)
        if (other := treatments.other_than(input)) is not None:
            warnings["treatment"] = (
                f"the treatment file {path} was made for {other}; its tracks may be other faces of {input}"
            )
    plan = FramePlan(input, options, treatments, warnings)
    if (unused := without_persons(plan.engines, plan.learnt)) is not None:
        warnings["person"] = unused
    return plan


def plan_run(
    input: Path | Address,
    output: Path | str,
    options: Options,
    *,
    job: bool = False,
    made: Collection[Path] = (),
) -> RunPlan:
    """Plans a run from file to file; the input is not opened.

    Args:
        input: whatever PyAV opens (`Address`), a still, or a folder of stills.
        output: file or folder; a file's extension names its kind, and a name that ends in a slash means a folder.
        options: of the run.
        job: whether it is a job, which writes a sidecar unasked.
        made: films that an earlier call of the job finished; they are replaced.

    Raises:
        UsageError, InputError, OutputError, MissingComponent: see `rtface.errors`.
    """
    if options.sequence and not input.is_dir():
        raise UsageError(
            "{path} is not a folder: {--sequence=True} makes a film of a folder of stills",
            code="sequence_folder",
            path=input,
        )
    stills = is_stills_job(input, output, options)
    frames = plan_frames(input, options)
    if options.dry_run:
        check_persons(frames.engines, frames.learnt)
    folder = _into_folder(input, output, stills)
    named = {"film": OutputPath(output, folder=folder, resumes=stills)}
    named |= further_paths(options, still=stills)
    if options.report is not None:
        # That of a call which this one continues or begins again is replaced.
        part = {"start": options.start, "end": options.end}
        again = is_unfinished(options.report, input, output, part, job=job)
        named["report"] = OutputPath(options.report, "--report", replaces=again)
    key = signing_key(options, input)
    if job or options.sidecar or (key is not None and (folder or not can_hold(Path(output)))):
        # One of an earlier film of this name, which is gone, is replaced: jobs write theirs unasked.
        old = job and has_sidecar(Path(output))
        named["sidecar"] = OutputPath(sidecar_path(Path(output)), "--sidecar", replaces=old)
    read = [input, *(path for path in (options.treatment, options.shots) if path is not None)]
    if options.shots is not None:
        check_shots_file(options.shots)
    named |= {key: replace(one, replaces=True) for key, one in named.items() if Path(one.path).resolve() in made}
    if named["film"].replaces:  # what described that film is replaced, too
        named |= {key: replace(named[key], replaces=True) for key in ("report",) if key in named}
    targets = check_outputs(list(named.values()), inputs=read, overwrite=options.overwrite)
    outputs = Outputs(**dict(zip(named, targets, strict=True)))
    return RunPlan(
        input,
        options,
        frames.treatments,
        frames.warnings,
        output=output,
        outputs=outputs,
        stills=stills,
        folder=folder,
        job=job,
        key=key,
    )


def further_paths(options: OutputOptions, *, still: bool = False) -> dict[str, OutputPath]:
    """The further films that a run writes, by name: "comparison", "map".

    Raises:
        UsageError: a map whose name is no Matroska file's, or of a still no image's.
    """
    wanted = ".png" if still else ".mkv"
    if (path := options.map_file) is not None and path.suffix.lower() != wanted:
        raise UsageError(
            "{--invented:{path}}: the map of a {kind}; name a {name}",
            code="invented_name",
            path=path,
            kind=Message("still is a PNG", code="still_png")
            if still
            else Message("film is Matroska", code="film_matroska"),
            name=wanted,
        )
    paths = {"comparison": (options.compare, "--compare"), "map": (options.map_file, "--invented")}
    return {name: OutputPath(path, flag) for name, (path, flag) in paths.items() if path is not None}


def open_scans(folder: Path, options: InputOptions, stats: Stats, *, hold: bool = True) -> SequenceSource:
    """A folder of stills as a film; `hold` and errors as of `SequenceSource`."""
    return SequenceSource(
        folder,
        fps=options.fps,
        start=options.start,
        end=options.end,
        transfer=None if options.transfer == "auto" else _TRANSFERS[options.transfer],
        stats=stats,
        strict=options.strict,
        hold=hold,
        scale=options.scale,
    )


def makes_folder(frames: FramePlan, output: str | None) -> bool:
    """True if a film becomes a folder of stills; arguments as of `plan_film`."""
    return frames.folder if isinstance(frames, RunPlan) else output is not None and output.endswith("/")


def plan_film(frames: FramePlan, source: FileSource | SequenceSource, *, output: str | None = None) -> FilmPlan:
    """Plans what becomes of a film that was opened.

    Args:
        frames: a `RunPlan` where a film or a folder of stills is written.
        source: the film.
        output: where segments of an output are made, as by a worker of a job; the output itself, a folder with a slash.

    Raises:
        UsageError, OutputError, MissingComponent: see `rtface.errors`.
    """
    options, info = frames.options, source.info
    check_invented(options, info.color.transfer, frames.input)
    notes = Stages.planned(options.stages, commercial_use=options.commercial_use)
    if "rtface_engine" in own_tags(info.metadata):
        notes.append(
            Message(
                "{path} was enhanced by rtface before: another correction gains nothing as a rule; "
                "run the original again",
                code="enhanced_before",
                path=info.path,
            )
        )
    streams = folder = video = copy = None
    named, further = dict[str, Target](), dict[str, OutputPlan]()
    if makes_folder(frames, output):
        folder = _plan_folder(options.codec, options.timecode, source)
        video = folder.video
        notes += [*info.notes, *(["a folder of stills holds no sound: it is left out"] if info.has_audio else [])]
    elif isinstance(frames, RunPlan):
        found = _find_copy(frames, info, FORMATS.get(Path(frames.output).suffix.lower(), ""))
        streams = plan_output(
            info,
            Path(frames.output),
            codec=_codec(frames, info, found),
            crf=options.crf,
            preset=options.preset,
            strict=options.strict,
            overwrite=frames.outputs.film.overwrite,
            encode=encoding(options.encode, codec_device(options.device)),
            timecode=options.timecode,
            drop=options.drop,
        )
        video = streams.video
        copy = streams.copy = _plan_copy(found, frames, info, video, streams.notes)
        notes += streams.notes
    elif output is not None:
        container = FORMATS[Path(output).suffix.lower()]
        found = _find_copy(frames, info, container)
        video = _encoder(options, info, container, _codec(frames, info, found))
        copy = _plan_copy(found, frames, info, video, notes)
    if isinstance(frames, RunPlan):
        named = frames.outputs.further
    elif output is not None:
        named = {name: Target(Path(path.path), str(path)) for name, path in further_paths(options).items()}
    for name, target in named.items():
        further[name] = (
            plan_map(target, info, options.look_name) if name == "map" else plan_pairs(info, target, options)
        )
        if isinstance(frames, RunPlan):
            check_folder(further[name])
    shots, said = NO_SHOTS, list[str]()
    if options.shots is not None:
        shots, said = read_shots(options.shots, FilmClock.of(info, options.timecode))
    return FilmPlan(frames, info, shots, streams, folder, video, copy, further, [*notes, *said])


def _find_copy(frames: FramePlan, info: MediaInfo, container: str) -> PacketCopy | Message | None:
    """How packets could be copied; None where that was not asked for."""
    if frames.options.copy == "off":
        return None
    if frames.options.colour == "restore":
        return Message("{--colour:restore} may change every frame", code="copy_colour")
    if info.decoded is not None or frames.options.fields != "auto":
        return Message("{--scale} and {--fields} change every frame", code="copy_scale")
    return find_copy(info, frames.input, container)


def _codec(frames: FramePlan, info: MediaInfo, found: PacketCopy | Message | None) -> str | None:
    """The encoder that was asked for, or that of the input where its packets can be copied."""
    options = frames.options
    if options.codec is not None or info.coding.kind != "lossy" or isinstance(found, Message | None):
        return options.codec
    # It has neither crf nor preset, and no GPU encodes it.
    asked = (options.crf, options.preset) != (None, None) or options.encode == "cuda"
    return None if asked and isinstance(found, IntraCopy) else found.codec


def _plan_copy(
    found: PacketCopy | Message | None, frames: FramePlan, info: MediaInfo, video: VideoPlan, notes: list[str]
) -> PacketCopy | None:
    """How packets of a film are copied; notes why they are not. UsageError where they have to be."""
    copy, why = (None, found) if isinstance(found, Message | None) else (found, None)
    if copy is not None and (why := fit_copy(copy, info, video)) is not None:
        copy = None
    if (what := why if copy is None else copy.partly) is None:
        return copy
    if frames.options.copy == "require":
        raise UsageError(
            "{--copy:require}: all frames would be encoded: {why}; leave it out, or use {--copy:auto}",
            code="copy_required",
            why=what,
        )
    notes.append(what if copy is not None else Message("no packet is copied: {why}", code="copy_none", why=what))
    return copy


def _encoder(options: Options, info: MediaInfo, container: str, codec: str | None) -> VideoPlan:
    video, _ = choose_encoder(
        info,
        container,
        supported_encoders(container),
        codec=codec,
        crf=options.crf,
        preset=options.preset,
        wanted=encoding(options.encode, codec_device(options.device)),
        keep=True,
    )
    video.strict = options.strict
    return video


def _plan_folder(codec: str | None, begins: str | None, source: FileSource | SequenceSource) -> FolderPlan:
    """How a film becomes a folder of stills: ``--codec`` names their kind, which is that of INPUT's images without."""
    info, read = source.info, source if isinstance(source, SequenceSource) else None
    if codec == "exr" and not (read is not None and read.kind == "exr"):
        raise UsageError("{--codec} exr: {why}", code="codec_reason", why=ONLY_FROM_EXR)
    kind, warning = (read.kind if read is not None and read.kind in SUFFIXES else "png"), ""
    if codec in SUFFIXES:
        kind = codec
    elif codec is not None:
        warning = Message(
            "{--codec:{codec}}: a folder takes images ({kinds}); {kind} is written",
            code="folder_codec",
            codec=codec,
            kinds=", ".join(SUFFIXES),
            kind=kind.upper(),
        )
    timecode = output_timecode(info.timecode, begins, info.rate, info.skipped)
    same = read is not None and read.kind == kind
    # The headers of scans that were read have their own timecodes.
    written = timecode if kind in ("dpx", "exr") and (begins is not None or not same) else None
    video = (
        VideoPlan(
            kind,
            info.pix_fmt,
            info.width,
            info.height,
            info.rate,
            info.time_base,
            info.tags,
            info.aspect,
            lossless=True,
        )
        if same and kind != "exr"
        else None
    )
    return FolderPlan(kind, timecode, written, video, warning)


def check_invented(options: Options, transfer: Transfer = "sdr", input: Path | Address | None = None) -> None:
    """UsageError for options, or an input's transfer curve, with which no map can be made; where there is an `input`,
    also for what no fading can be taken out with."""
    faults = [
        (options.invented is not None, Message("what it changes is not in the map of {--invented}", code="fading_map")),
        (
            input is None or isinstance(input, Address) or is_pipe(input),
            Message("the input is looked at before the work, and can be read once only", code="fading_once"),
        ),
        (transfer != "sdr", Message("fading is known in SDR, and this is {kind}", code="fading_sdr", kind=transfer)),
    ]
    if (
        options.colour == "restore"
        and input is not None
        and (why := next((each for there, each in faults if there), None)) is not None
    ):
        raise UsageError("{--colour:restore}: {why}; leave one of them out", code="fading_not", why=why)
    if options.invented is None:
        return
    if options.keyframe not in ("auto", 1):
        raise UsageError(
            "{--invented}: between keyframes no engine says how large its error may be; leave {--keyframe} out",
            code="map_keyframe",
        )
    if transfer != "sdr":
        raise UsageError(
            "{--invented}: errors were measured on SDR only, and the input is {transfer}; leave it out, or convert "
            "the input first",
            code="map_sdr",
            transfer=transfer.upper(),
        )


def is_stills_job(input: Path | Address, output: Path | str, options: InputOptions) -> bool:
    """True if a job is about separate stills: a folder without `--sequence`, or an image to an image.

    Raises:
        UsageError: the input is a folder of stills and the output a single file.
    """
    if isinstance(input, Address):
        return False
    suffix, folder = Path(output).suffix, names_folder(output)
    if input.is_dir() and not options.sequence:
        if suffix and not folder:
            raise UsageError(
                "{path} is a folder of stills and {output} a single file: name a folder, or make a film of them "
                "with {--sequence=True} {--fps:RATE}",
                code="folder_to_file",
                path=input,
                output=output,
            )
        return True
    return suffix.lower() in IMAGE_KINDS and not folder and is_image(input)


def scope_of(input: Path | Address, output: Path | str, options: Options) -> Scope:
    """What a run from file to file is and has. Raises UsageError as `is_stills_job`."""
    if is_stills_job(input, output, options):
        return Scope.STILLS
    scope = Scope.FILM
    if options.sequence:
        scope |= Scope.SEQUENCE
    if options.compare or (Path(output).suffix and not names_folder(output)):
        scope |= Scope.ENCODED
    return scope


def _into_folder(input: Path | Address, output: Path | str, stills: bool) -> bool:
    """True if stills are written into a folder; UsageError for a name that is no output's."""
    if stills:
        return input.is_dir()
    if Path(output).suffix.lower() in IMAGE_KINDS and not names_folder(output):
        if isinstance(input, Path) and input.is_file():
            open_container(input).close()  # raises where it is neither, or an image that is not read
        raise UsageError(
            "{path} is a film: name a film ({formats}) or a folder for its images, not {output}",
            code="output_not_stills",
            path=input,
            formats=", ".join(FORMATS),
            output=Path(output).name,
        )
    return film_folder(output, FORMATS, input, still=isinstance(input, Path) and is_image(input))
