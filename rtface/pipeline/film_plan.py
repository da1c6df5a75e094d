"""Plans the output of an opened film: its streams and its frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from rtface.config.options import (
    Options,
)
from rtface.errors import Message, UsageError
from rtface.frame import FadingCurve
from rtface.media.cuda.nvenc import choose_encoder, encoding
from rtface.media.files.workfile import Target
from rtface.media.marks.provenance import own_tags
from rtface.media.read.media_info import MediaInfo
from rtface.media.read.source import FileSource
from rtface.media.read.start_timecode import output_timecode
from rtface.media.stills.image_write import ONLY_FROM_EXR, SUFFIXES
from rtface.media.stills.images import SequenceSource
from rtface.media.write.encoders import VideoPlan
from rtface.media.write.intra_copy import IntraCopy
from rtface.media.write.invented import plan_map
from rtface.media.write.packet_copy import PacketCopy, find_copy, fit_copy
from rtface.media.write.stream_plan import FORMATS, OutputPlan, check_folder, plan_output, supported_encoders
from rtface.pipeline.checks import check_invented, further_paths
from rtface.pipeline.compare import FURTHER, plan_pairs
from rtface.pipeline.plan import FramePlan, RunPlan
from rtface.pipeline.runtime import codec_device
from rtface.report import Report
from rtface.shots.clock import FilmClock
from rtface.shots.files import read_shots
from rtface.shots.settings import NO_SHOTS, ShotList
from rtface.stages.runner import Stages
from rtface.util.timecode import Timecode


@dataclass(frozen=True, slots=True)
class FolderPlan:
    """The plan of a folder of stills made from a film.

    Attributes:
        kind: kind of the stills, one of `rtface.media.stills.image_write.SUFFIXES`.
        timecode: timecode of the first still, or None.
        written: first timecode to write into the headers of the stills; None preserves their timecodes.
        video: encoding that preserves the frames' samples; None if the stills contain other samples.
        warning: a warning for the user, or "".
    """

    kind: str
    timecode: Timecode | None
    written: Timecode | None
    video: VideoPlan | None
    warning: str = ""


@dataclass(frozen=True, slots=True)
class FilmPlan:
    """The plan of an opened film's output.

    Attributes:
        frames: plan of the work on the film's frames.
        info: properties of the input.
        shots: shots with settings.
        streams: streams of the output; None for a folder of stills, or if no film is written.
        folder: plan of a folder of stills; None for a film.
        video: how the frames are encoded; None if nothing is written, or as in `FolderPlan`.
        copy: how packets of the frames are copied; None if every frame is encoded.
        further: plans of the additional films by name.
        notes: notes for the user.
        curve: curve that removes fading (`rtface.pipeline.fading`), or None.
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
        """Start of the output, in seconds of the input's clock."""
        return self.info.video_start if self.info.start is None else self.info.start

    def to_dict(self) -> dict[str, object]:
        """Returns the plan as JSON values, without file names, notes and warnings."""
        streams = self.streams.streams if self.streams is not None else ()
        return {
            "start": float(self.begins - self.info.video_start),
            "duration_s": self.info.duration_s,
            "container": None if self.streams is None else self.streams.format,
            "folder": None if self.folder is None else self.folder.kind,
            "video": None if self.video is None else self.video.to_dict(),
            "streams": [
                {
                    "index": stream_plan.stream.index,
                    "kind": stream_plan.stream.kind,
                    "codec": stream_plan.stream.codec,
                    "language": stream_plan.stream.language,
                    "action": stream_plan.action,
                    "encoder": stream_plan.encoder,
                }
                for stream_plan in streams
            ],
            "further": {
                name: {"container": film.format, **film.video.to_dict()} for name, film in self.further.items()
            },
            "curve": self.curve,
            "shots": len(self.shots),
        }

    def describe(self, report: Report) -> None:
        """Adds the notes, times and encoder of the plan to a report."""
        report.notes += self.notes
        report.first_s = round(float(self.info.first - self.info.clock_start), 6)
        if (plan := self.streams) is not None:
            report.timecode = str(plan.timecode) if plan.timecode else None
            report.encoder = plan.video.described
        elif self.folder is not None:
            report.timecode = str(self.folder.timecode) if self.folder.timecode else None


def makes_folder(frames: FramePlan, output: str | None) -> bool:
    """Returns whether a film becomes a folder of stills. The arguments are those of `plan_film`."""
    return frames.folder if isinstance(frames, RunPlan) else output is not None and output.endswith("/")


def plan_film(frames: FramePlan, source: FileSource | SequenceSource, *, output: str | None = None) -> FilmPlan:
    """Plans the output of an opened film.

    Args:
        frames: plan of the frames; a `RunPlan` if a film or a folder of stills is written.
        source: the film.
        output: the final output if only segments are made, as by a worker of a job. A folder's name ends in a slash.

    Raises:
        UsageError, OutputError, MissingComponent: see `rtface.errors`.
    """
    options, info = frames.options, source.info
    check_invented(options, info.color.transfer, frames.input)
    notes = Stages.planned(options.stages, commercial_use=options.commercial_use)
    if "rtface_engine" in own_tags(info.metadata):
        notes.append(
            Message(
                "{path} was already enhanced by rtface; a second correction usually gains nothing; use the original "
                "instead",
                code="enhanced_before",
                path=info.path,
            )
        )
    streams = folder = video = copy = None
    targets, further = dict[str, Target](), dict[str, OutputPlan]()
    if makes_folder(frames, output):
        folder = _plan_folder(options.codec, options.timecode, source)
        video = folder.video
        notes += [*info.notes, *(["a folder of stills has no audio, so it is left out"] if info.has_audio else [])]
    elif isinstance(frames, RunPlan):
        packets = _find_copy(frames, info, FORMATS.get(Path(frames.output).suffix.lower(), ""))
        streams = plan_output(
            info,
            Path(frames.output),
            codec=_codec(frames, info, packets),
            crf=options.crf,
            preset=options.preset,
            strict=options.strict,
            overwrite=frames.outputs["film"].overwrite,
            encode=encoding(options.encode, codec_device(options.device)),
            timecode=options.timecode,
            drop=options.drop,
        )
        video = streams.video
        copy = streams.copy = _plan_copy(packets, frames, info, video, streams.notes)
        notes += streams.notes
    elif output is not None:
        container = FORMATS[Path(output).suffix.lower()]
        packets = _find_copy(frames, info, container)
        video = _plan_encoder(options, info, container, _codec(frames, info, packets))
        copy = _plan_copy(packets, frames, info, video, notes)
    if isinstance(frames, RunPlan):
        targets = {name: target for name, target in frames.outputs.items() if name in FURTHER}
    elif output is not None:
        targets = {name: Target(Path(path.path), str(path)) for name, path in further_paths(options).items()}
    for name, target in targets.items():
        further[name] = (
            plan_map(target, info, options.look_name) if name == "map" else plan_pairs(info, target, options)
        )
        if isinstance(frames, RunPlan):
            check_folder(further[name])
    shots, shot_notes = NO_SHOTS, list[str]()
    if options.shots is not None:
        shots, shot_notes = read_shots(options.shots, FilmClock.of(info, options.timecode))
    return FilmPlan(frames, info, shots, streams, folder, video, copy, further, [*notes, *shot_notes])


def _find_copy(frames: FramePlan, info: MediaInfo, container: str) -> PacketCopy | Message | None:
    """Returns how packets can be copied, or why not. None if copying is off."""
    if frames.options.copy == "off":
        return None
    if frames.options.colour == "restore":
        return Message("{--colour:restore} may change every frame", code="copy_colour")
    if info.decoded is not None or frames.options.fields != "auto":
        return Message("{--scale} and {--fields} change every frame", code="copy_scale")
    return find_copy(info, frames.input, container)


def _codec(frames: FramePlan, info: MediaInfo, packets: PacketCopy | Message | None) -> str | None:
    """Returns the requested encoder, or the input's if packets can be copied."""
    options = frames.options
    if options.codec is not None or info.coding.kind != "lossy" or isinstance(packets, Message | None):
        return options.codec
    # An intra codec has neither crf nor preset, and GPUs cannot encode it.
    is_configured = (options.crf, options.preset) != (None, None) or options.encode == "cuda"
    return None if is_configured and isinstance(packets, IntraCopy) else packets.codec


def _plan_copy(
    packets: PacketCopy | Message | None, frames: FramePlan, info: MediaInfo, video: VideoPlan, notes: list[str]
) -> PacketCopy | None:
    """Returns how packets are copied; None, with a note, if impossible. Raises UsageError if copying is required."""
    copy, why = (None, packets) if isinstance(packets, Message | None) else (packets, None)
    if copy is not None and (why := fit_copy(copy, info, video)) is not None:
        copy = None
    if (reason := why if copy is None else copy.partly) is None:
        return copy
    if frames.options.copy == "require":
        raise UsageError(
            "{--copy:require}: all frames would be encoded: {why}; omit the option, or use {--copy:auto}",
            code="copy_required",
            why=reason,
        )
    notes.append(reason if copy is not None else Message("no packet is copied: {why}", code="copy_none", why=reason))
    return copy


def _plan_encoder(options: Options, info: MediaInfo, container: str, codec: str | None) -> VideoPlan:
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
    """Plans a folder of stills. ``--codec`` selects their kind; the default is the kind of INPUT's images, or PNG."""
    info, sequence = source.info, source if isinstance(source, SequenceSource) else None
    if codec == "exr" and not (sequence is not None and sequence.kind == "exr"):
        raise UsageError("{--codec} exr: {why}", code="codec_reason", why=ONLY_FROM_EXR)
    kind, warning = (sequence.kind if sequence is not None and sequence.kind in SUFFIXES else "png"), ""
    if codec in SUFFIXES:
        kind = codec
    elif codec is not None:
        warning = Message(
            "{--codec:{codec}}: a folder can only contain images ({kinds}); {kind} is written",
            code="folder_codec",
            codec=codec,
            kinds=", ".join(SUFFIXES),
            kind=kind.upper(),
        )
    timecode = output_timecode(info.timecode, begins, info.rate, info.skipped)
    same_kind = sequence is not None and sequence.kind == kind
    # Scans of the same kind retain the timecodes in their headers.
    written = timecode if kind in ("dpx", "exr") and (begins is not None or not same_kind) else None
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
        if same_kind and kind != "exr"
        else None
    )
    return FolderPlan(kind, timecode, written, video, warning)
