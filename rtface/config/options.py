"""Declares all options of a run once. The command line, variables, TOML files, Python and the docs use this.

To add an option, add a field to one of the groups below and run ``python -m tests.docs.option_tables``, which updates
the tables in ``docs/``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from enum import Flag, auto
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, Self

from rtface.config.look import LOOKS, USUAL, Look, control_of, detail_of, look_of
from rtface.config.policy import policy_table, site_path
from rtface.errors import Message, OptionFlag, UsageError
from rtface.util import parse as v
from rtface.util import plugins
from rtface.util.parse import format_time
from rtface.util.paths import expanded
from rtface.util.spelling import hint


class Scope(Flag):
    """Kinds and properties of runs. An option takes effect on a run that has any of its scopes."""

    FILM = auto()
    """The input is a film (a file or an address), or a folder of stills that is read as one."""
    SEQUENCE = auto()
    """The input is a folder of stills that is read as a film."""
    ENCODED = auto()
    """The output is a film."""
    STILLS = auto()
    LIVE = auto()
    CAMERA = auto()
    """The source of a live run is a camera."""
    PLAYED = auto()
    """The source of a live run is a film."""
    RECORDED = auto()
    """A live run writes a film, as OUTPUT or by ``--also``."""
    PUBLISHED = auto()
    """The output of a live run is the URL of a stream."""
    CONSOLE = auto()
    """A live run of the command line, which has keys, a control endpoint and a preview."""
    ENHANCER = auto()
    ANALYSIS = auto()
    """``rtface analyze``; messages do not mention it."""

    def __str__(self) -> str:
        return " or ".join(_SCOPE_WORDS[part] for part in self if part in _SCOPE_WORDS)


_SCOPE_WORDS = {
    Scope.FILM: "films",
    Scope.SEQUENCE: "a folder of stills with --sequence",
    Scope.ENCODED: "an OUTPUT that is a film",
    Scope.STILLS: "stills",
    Scope.LIVE: "live runs",
    Scope.CAMERA: "cameras",
    Scope.PLAYED: "films as the source of a live run",
    Scope.RECORDED: "live recordings",
    Scope.PUBLISHED: "published streams",
    Scope.CONSOLE: "live runs of the command 'rtface run'",
    Scope.ENHANCER: "rtface.Enhancer",
}
_LIVE = Scope.LIVE | Scope.CAMERA | Scope.PLAYED | Scope.RECORDED | Scope.PUBLISHED | Scope.CONSOLE
WHAT_IS_LIVE = "a run is live where INPUT or OUTPUT is a camera, a virtual camera, null: or a live stream"


class Trait(Flag):
    """Additional properties of an option."""

    FREE = auto()
    """The option changes no frame, so it may differ between calls of a job."""
    NAMED = auto()
    """Its value is stored in the metadata of an output."""
    FILM_PAGE = auto()
    """Users can set it in the studio for a film."""
    LIVE_PAGE = auto()
    """Users can set it in the studio for a live run."""
    CONTROL = auto()
    """Its value may change during a live run."""
    ONCE = auto()
    """It is for a single run, so the studio does not store it in a settings file."""
    READS = auto()
    """Its value contains paths of files that are read."""


_NO_TRAIT = Trait(0)
_FILES = Scope.FILM | Scope.STILLS
_RUNS = _FILES | Scope.LIVE
_ALL = _RUNS | Scope.ENHANCER
_ANALYSIS = Scope.ANALYSIS


@dataclass(frozen=True, slots=True)
class Option:
    """Declares one option.

    Attributes:
        check: function that converts a value or raises UsageError.
        scope: kinds of runs on which the option has an effect.
        help: one sentence for ``--help``.
        more: Markdown that the documentation adds to `help`.
        metavar: placeholder of the value in the help, if the check's own is unclear.
        unset: meaning of None in the documentation.
        flags: long flags of the command line, the preferred one first.
        traits: additional properties.
        name, default: name and default of the field.
        flag: the first of `flags`.
    """

    check: v.Check[Any]
    scope: Scope
    help: str
    more: str = ""
    metavar: str = ""
    unset: str = ""
    flags: tuple[str, ...] = ()
    traits: Trait = _NO_TRAIT
    name: str = ""
    default: Any = None
    flag: str = ""


def _option(default: Any, check: v.Check[Any], scope: Scope, help: str, more: str = "", **rest: Any) -> Any:
    return dataclasses.field(default=default, metadata={"option": Option(check, scope, help, more, **rest)})


@dataclass(frozen=True)
class _Group:
    def __post_init__(self) -> None:
        for f in fields(self):
            object.__setattr__(self, f.name, check(f.name, getattr(self, f.name), f.name))


@dataclass(frozen=True)
class QualityOptions(_Group):
    """Quality and speed: the engine, how its result is used, and where it runs."""

    engine: str = _option(
        "default",
        v.name,
        _ALL,
        "Engine that restores faces; 'rtface engines' lists them.",
        "`auto` chooses by face size, in live runs also by speed",
        traits=Trait.FILM_PAGE | Trait.LIVE_PAGE,
    )
    strength: float = _option(
        1.0,
        v.share,
        _ALL,
        "How much of the correction to add.",
        "0 changes nothing",
        traits=Trait.FILM_PAGE | Trait.LIVE_PAGE | Trait.CONTROL,
    )
    look: Look | float = _option(
        USUAL,
        v.or_words(v.share, *LOOKS),
        _ALL | _ANALYSIS,
        "Fine detail to add: none (faithful), as much as a face of this size has (clear), or more, invented (vivid).",
        "Or a number: 1, 0.5, 0, which also sets an engine's own control. [Looks](engines.md#looks)",
        metavar="|".join((*LOOKS, "0..1")),
        traits=Trait.NAMED | Trait.FILM_PAGE | Trait.LIVE_PAGE | Trait.CONTROL,
    )
    commercial_use: bool = _option(False, v.boolean, _ALL, "Reject engines whose licence forbids commercial use.")
    keyframe: int | Literal["auto"] = _option(
        "auto",
        v.or_words(v.number(1, 12, whole=True), "auto"),
        Scope.FILM | Scope.LIVE | Scope.ENHANCER,
        "Run a heavy engine on every N-th frame of a face, and the light engine on all frames.",
        "[Keyframes](engines.md#keyframes)",
    )
    colour: Literal["lock", "restore"] = _option(
        "lock",
        v.choice("lock", "restore"),
        _FILES,
        "Keep the colours (lock), or remove the fading of a film or still with one curve (restore).",
        "[How](analysis.md#fading)",
        flags=("--colour", "--color"),
        traits=Trait.NAMED,
    )
    repair: Path | str | None = _option(
        None,
        v.or_words(v.path, "auto"),
        Scope.STILLS,
        "Fill the damage of a photograph that a mask marks in white; auto: that a proposed mask marks.",
        "A mask has the photograph's size; for a folder, give a folder of masks. [How](analysis.md#damage)",
        unset="nothing",
        metavar="MASK.png|DIR|auto",
        traits=Trait.READS,
    )
    grain: Literal["match", "less", "none"] = _option(
        "match",
        v.choice("match", "less", "none"),
        _ALL,
        "Keep film grain and skin texture (match), or remove half (less) or all (none) of the grain in the head.",
        traits=Trait.NAMED | Trait.FILM_PAGE,
    )
    region: Literal["auto", "face", "head"] = _option(
        "auto",
        v.choice("auto", "face", "head"),
        _ALL,
        "Enhance the face only, or also hair, ears and neck; auto decides by the expected gain.",
        traits=Trait.FILM_PAGE | Trait.LIVE_PAGE,
    )
    device: str = _option(
        "auto",
        v.device,
        _ALL,
        "Device on which engines run; 'rtface doctor' lists the available ones.",
        "`cpu`, `cuda[:N]`, `openvino:gpu[.N]`, `openvino:npu`, `onnx`; `auto` is an "
        "NVIDIA GPU where one can be used, else the CPU. [More](gpu.md)",
        metavar="NAME",
    )
    threads: int | None = _option(
        None,
        v.number(1, 1024, whole=True),
        _ALL | _ANALYSIS,
        "CPU threads of the whole run.",
        unset="all cores",
        traits=Trait.FREE,
    )

    @property
    def look_name(self) -> Look:
        """The look, as a word."""
        return look_of(self.look)

    @property
    def detail(self) -> float:
        """Factor of detail for the look: 0 (faithful), 1 (clear) to `VIVID_DETAIL`."""
        return detail_of(self.look)

    @property
    def engine_control(self) -> float | None:
        """Position of an engine's control for the look, 0…1. None means its default."""
        return control_of(self.look)


@dataclass(frozen=True)
class FaceOptions(_Group):
    """Faces: how they are found, and which are corrected."""

    tracker: str = _option(
        "auto",
        v.choice("auto", *plugins.BUILT_IN["tracker"], extension="tracker"),
        _ALL | _ANALYSIS,
        "Tracker that finds and follows faces.",
        "`auto` is `openvino`",
    )
    faces: str = _option(
        "all",
        v.faces,
        _ALL | _ANALYSIS,
        "Faces to enhance: all, the largest, or tracks and persons.",
        "`1,P2,anna`: as `rtface analyze` lists them, and names of `--person`. [Persons](persons.md)",
        traits=Trait.NAMED | Trait.LIVE_PAGE,
    )
    person: tuple[str, ...] = _option(
        (),
        v.persons,
        _ALL | _ANALYSIS,
        "Recognise a person from photos without other faces, or, with NAME alone, a learnt person.",
        "`NAME@P2,5`: person P2 and track 5 of `rtface analyze` are this person. [Persons](persons.md)",
        metavar="NAME[@P2,...][=PHOTO,...]",
        traits=Trait.LIVE_PAGE | Trait.READS,
    )
    max_faces: int | None = _option(
        None,
        v.number(1, 1000, whole=True),
        _ALL | _ANALYSIS,
        "Maximum number of faces in a frame.",
        unset="no limit; in live runs 8",
    )
    guard: Literal["auto", "on", "off"] = _option(
        "auto",
        v.choice("auto", "on", "off"),
        _ALL,
        "Weaken corrections that would change a person's identity.",
        "`auto` watches engines that invent faces. [How](persons.md#the-identity-guard)",
    )
    correct: Literal["auto", "always", "never"] = _option(
        "auto",
        v.choice("auto", "always", "never"),
        _ALL,
        "Correct the faces that need it, all of them, or none.",
        "[What a face needs](analysis.md#the-treatment)",
        traits=Trait.FILM_PAGE | Trait.LIVE_PAGE,
    )
    treatment: Path | None = _option(
        None,
        v.path,
        _FILES,
        "Apply this file, written by 'rtface analyze --json' and edited.",
        unset="none",
        traits=Trait.READS,
    )
    shots: Path | None = _option(
        None,
        v.path,
        Scope.FILM,
        "Apply the settings for each shot in this CSV or EDL file.",
        "[Settings by shot](films.md#settings-by-shot)",
        unset="none",
        traits=Trait.READS,
    )


@dataclass(frozen=True)
class EnhanceOptions(FaceOptions, QualityOptions):
    """The options of the enhancement step: which faces, and how."""


@dataclass(frozen=True)
class InputOptions(_Group):
    """Input: what part of it is read, and how."""

    start: float | None = _option(
        None,
        v.time,
        Scope.FILM | _ANALYSIS,
        "Start at this time: seconds or HH:MM:SS.mmm.",
        unset="the start",
        traits=Trait.ONCE,
    )
    end: float | None = _option(
        None,
        v.time,
        Scope.FILM | _ANALYSIS,
        "End at this time: seconds or HH:MM:SS.mmm.",
        unset="the end",
        traits=Trait.ONCE,
    )
    timecode: str | None = _option(
        None,
        v.timecode,
        Scope.FILM | _ANALYSIS,
        "Timecode of the first frame, for OUTPUT and lists of shots.",
        "`01:00:00:00`, or `01:00:00;00` for drop-frame",
        unset="the film's own",
    )
    variant: str = _option(
        "best",
        v.variant,
        Scope.FILM | Scope.LIVE | _ANALYSIS,
        "Read this variant (quality) of an HLS list.",
        "A height (720), or the number in the list (1)",
    )
    sequence: bool = _option(False, v.boolean, _FILES | _ANALYSIS, "Read a folder of stills as a film.")
    fps: Fraction | None = _option(
        None,
        v.rate,
        Scope.SEQUENCE | Scope.CAMERA | _ANALYSIS,
        "Frame rate of a --sequence, or the rate to request from a camera: 25, 30000/1001.",
        unset="25; for a camera 30",
    )
    transfer: Literal["auto", "log", "linear", "video"] = _option(
        "auto",
        v.choice("auto", "log", "linear", "video"),
        Scope.SEQUENCE | _ANALYSIS,
        "Meaning of the samples of a --sequence: printing density (log), linear light, or video.",
        "`auto` reads headers. [Scans](formats.md#scans-sequences-of-dpx-exr-and-tiff)",
    )
    size: tuple[int, int] | None = _option(
        None, v.size, Scope.CAMERA, "Frame size to request from a camera.", unset="the camera's"
    )
    decode: str = _option(
        "auto",
        v.decoder,
        Scope.FILM,
        "Where to decode frames; software is used if a GPU cannot.",
        "`auto` is software; `cuda` is faster and corrects less: [hardware codecs](gpu.md#hardware-codecs)",
    )
    fields: Literal["auto", "tff", "bff", "none"] = _option(
        "auto",
        v.choice("auto", "tff", "bff", "none"),
        Scope.FILM | _ANALYSIS,
        "First field of a frame (top or bottom), or none; auto uses the film's flag.",
        "[Combed frames](films.md#combed-frames)",
    )
    scale: str | None = _option(
        None,
        v.scale,
        _RUNS | _ANALYSIS,
        "Enlarge the frames first, so that faces are found and restored at the size of the output.",
        "`1` to `4` are factors. [How](films.md#enlarging)",
        unset="the INPUT's size",
        traits=Trait.FILM_PAGE,
    )
    strict: bool = _option(
        False,
        v.boolean,
        _FILES,
        "Stop, instead of warning, if any part of the INPUT would be lost.",
    )
    drop: tuple[str, ...] = _option(
        (),
        v.streams,
        Scope.FILM,
        "Leave a stream of the INPUT out of the OUTPUT; repeat it for more.",
        "Its number, or `audio`, `video` (not the enhanced one), `subtitle`, `data`, `attachment`, `cover`, `chapters`",
        metavar="STREAM",
        traits=Trait.ONCE,
    )


@dataclass(frozen=True)
class EncodeOptions(_Group):
    """Encoding: codec, quality and rate of the output."""

    codec: str | None = _option(
        None,
        v.name,
        Scope.FILM | Scope.RECORDED,
        "Video encoder, or the image format for a folder/.",
        "Images are `png`, `tiff` or `dpx`; films: [formats](formats.md#video)",
        unset="by INPUT and container",
    )
    crf: float | None = _option(
        None,
        v.number(0, 63),
        Scope.ENCODED | Scope.RECORDED,
        "Quality value of the encoder; lower is better.",
        unset="by codec",
    )
    preset: str | None = _option(
        None, v.name, Scope.ENCODED | Scope.RECORDED | Scope.PUBLISHED, "Speed preset of the encoder.", unset="by codec"
    )
    encode: Literal["auto", "cuda", "software"] = _option(
        "auto",
        v.choice("auto", "cuda", "software"),
        Scope.ENCODED | Scope.PUBLISHED,
        "Where to encode frames; software is used if a GPU cannot.",
    )
    copy: Literal["auto", "off", "require"] = _option(
        "off",
        v.choice("auto", "off", "require"),
        Scope.FILM,
        "Copy unchanged coded frames of INPUT, instead of encoding all frames.",
        "[Copied frames](formats.md#copied-frames)",
    )
    bitrate: int | None = _option(
        None, v.bitrate, Scope.PUBLISHED, "Bit rate of a published stream: 4500k, 6M.", unset="by size and rate"
    )


@dataclass(frozen=True)
class OutputOptions(_Group):
    """Output: what is written besides the film, and how."""

    compare: Path | None = _option(
        None,
        v.path,
        _FILES,
        "Also write before and after, side by side, to this file.",
        unset="none",
        traits=Trait.ONCE,
    )
    report: Path | None = _option(
        None,
        v.path,
        _RUNS,
        "Also write the report to this file.",
        "[Its keys](report.md)",
        metavar="FILE.json",
        unset="none",
        traits=Trait.FREE | Trait.ONCE,
    )
    sidecar: bool = _option(
        False,
        v.boolean,
        _FILES,
        "Also write OUTPUT.rtface.json: changes, their places, and SHA-256 of the files; 'rtface verify' reads it.",
        "[The sidecar](trust.md#the-sidecar)",
        traits=Trait.FREE,
    )
    sign: str | None = _option(
        None,
        v.name,
        _FILES | Scope.RECORDED,
        "Sign OUTPUT with this certificate (PEM, with its chain) and its key.",
        "[Credentials](trust.md#credentials)",
        metavar="CERT,KEY",
        unset="not signed",
        traits=Trait.FREE | Trait.READS,
    )
    invented: Path | Literal["show"] | None = _option(
        None,
        v.or_words(v.path, "show"),
        _FILES,
        "Also write the possible error of each changed sample to this file; show overlays it on the output.",
        "[What it says](trust.md#what-was-invented)",
        metavar="FILE.mkv|FILE.png|show",
        unset="none",
        traits=Trait.ONCE,
    )
    overwrite: bool = _option(
        False,
        v.boolean,
        _RUNS,
        "Replace an OUTPUT, comparison, report or recording that exists.",
        traits=Trait.FREE | Trait.ONCE,
    )
    dry_run: bool = _option(
        False,
        v.boolean,
        _RUNS,
        "Write nothing; print what would be done.",
        traits=Trait.FREE | Trait.ONCE,
    )
    stages: tuple[str, ...] = _option(
        (),
        v.names,
        _ALL,
        "Also apply this plugin stage to frames, after the faces; repeat it for more. help lists the installed stages, "
        "NAME:help a stage's keys.",
        "[Stages](stages.md)",
        metavar="NAME:key=value,...",
        flags=("--stage",),
        traits=Trait.LIVE_PAGE | Trait.READS,
    )

    @property
    def map_file(self) -> Path | None:
        """The file for the map of invented samples."""
        return None if self.invented == "show" else self.invented


@dataclass(frozen=True)
class LiveOptions(_Group):
    """Live runs: latency, sound, recording and control."""

    latency: float = _option(
        100.0,
        v.number(10, 10_000),
        Scope.LIVE,
        "Upper limit of the latency of a live run; close to it, quality is reduced.",
        metavar="MS",
    )
    cpu_budget: float = _option(
        1.0,
        v.budget,
        Scope.LIVE,
        "Upper limit of a live run's processor time: 50% of 8 cores is 4 cores.",
        "[How it is kept](live.md#processor-budget)",
        metavar="1..100%",
        traits=Trait.LIVE_PAGE | Trait.CONTROL,
    )
    delay: float | None = _option(
        None,
        v.number(0, 10_000),
        Scope.LIVE,
        "Keep the delay from camera to output at exactly this value.",
        "[Networks that jitter](live.md#networks-that-jitter)",
        metavar="MS",
        unset="as soon as possible",
    )
    audio: str | None = _option(
        None,
        v.name,
        Scope.LIVE,
        "Sound of a live run: a microphone of 'rtface devices', a stream, silence, or none.",
        "[Sound](live.md#sound)",
        metavar="NAME|URL|silent|none",
        unset="the input's own",
        traits=Trait.READS,
    )
    slate: str | None = _option(
        None,
        v.name,
        Scope.LIVE,
        "Text, PNG or JPEG that viewers see while the source is away.",
        "[Faults](live.md#faults)",
        metavar="TEXT|IMAGE",
        unset="the usual text",
        traits=Trait.READS,
    )
    also: Path | None = _option(
        None,
        v.path,
        Scope.LIVE,
        "Also record a live run to this film.",
        unset="none",
        traits=Trait.LIVE_PAGE | Trait.ONCE,
    )
    light: float = _option(
        0.0,
        v.light,
        Scope.LIVE,
        "Improve the light of a live run: dark frames, faces lit from one side, the colour of lamps.",
        "[Light](control.md#light)",
        traits=Trait.LIVE_PAGE | Trait.CONTROL,
    )
    turn: Literal["0", "90", "180", "270"] = _option(
        "0",
        v.choice("0", "90", "180", "270"),
        Scope.LIVE,
        "Turn the picture of a live run clockwise, by degrees.",
        traits=Trait.LIVE_PAGE,
    )
    mirror: bool = _option(
        False,
        v.boolean,
        Scope.LIVE,
        "Swap left and right in all outputs of a live run and its preview.",
        traits=Trait.LIVE_PAGE,
    )
    loop: bool = _option(
        False,
        v.boolean,
        Scope.PLAYED,
        "Repeat the film that stands in for a camera.",
        traits=Trait.LIVE_PAGE,
    )
    control: int | Literal["show"] | None = _option(
        None,
        v.or_words(v.number(0, 65_535, whole=True), "show"),
        Scope.CONSOLE,
        "Port of 127.0.0.1 on which programs control a live run; 0 chooses a free one, show opens a preview page in "
        "a browser.",
        "[Control](control.md)",
        metavar="PORT|show",
        unset="off",
    )


# A dataclass collects the fields of its bases from last to first.
@dataclass(frozen=True)
class Options(LiveOptions, OutputOptions, EncodeOptions, InputOptions, EnhanceOptions):
    """All options of a run, checked and converted on creation.

    Each step of the pipeline that accepts one of the groups also accepts this.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        names = [name.lower() for name in person_photos(self.person)]
        for word in self.faces.split(","):
            if v.is_person_name(word) and word not in names:
                raise UsageError(
                    "faces: there is no person {name}{hint}; pass photos with {--person} {name}=photo.jpg, or use a "
                    "number from 'rtface analyze'",
                    code="faces_person",
                    name=word,
                    hint=hint(word, ("all", "largest", *names)),
                )
        if self.start is not None and self.end is not None and self.end <= self.start:
            raise UsageError(
                "end ({end}) must come after start ({start})",
                code="time_order",
                name="end",
                end=format_time(self.end),
                start=format_time(self.start),
            )

    @classmethod
    def of(cls, values: Mapping[str, object]) -> Self:
        """Creates options from keywords and the computer's policy.

        Raises:
            UsageError: an unknown key (the message contains the nearest one), or a value that the policy does not
                allow.
        """
        for key in values:
            check_key(key, key)
        values = {**values}
        for key, value in locked().items():
            requested = check(key, values[key], key) if key in values else value
            if key == "stages" and isinstance(value, tuple) and isinstance(requested, tuple):  # last, as labels must be
                value = tuple(one for one in requested if one not in value) + value
            elif requested != value:
                raise locked_error(key)
            values[key] = value
        return cls(**values)  # type: ignore[arg-type]  # __post_init__ checks and converts each

    def to_dict(self) -> dict[str, object]:
        """Returns the options that differ from the default, for JSON. Paths are absolute, except those of stages. The
        result can be passed to `of`."""
        return {
            key: _json(key, value) for key, option in OPTIONS.items() if (value := getattr(self, key)) != option.default
        }


def _json(key: str, value: Any) -> Any:
    if isinstance(value, Path):
        return str(value.absolute())
    if isinstance(value, Fraction):
        return str(value)
    if key == "person":
        parts = (one.partition("=") for one in value)
        return [f"{head}{equals}{photos and _absolute(photos, key)}" for head, equals, photos in parts]
    return _absolute(value, key) if key == "sign" else list(value) if isinstance(value, tuple) else value


def _absolute(paths: str, key: str) -> str:
    return ",".join(str(expanded(path.strip(), f"--{key}").absolute()) for path in paths.split(","))


def person_photos(person: Iterable[str]) -> dict[str, list[Path]]:
    """Returns the photos of each person of ``--person``, by name. A learnt person has none."""
    return {
        name: [
            expanded(photo.strip(), Message("{--person:{name}}", code="person_option", name=name))
            for photo in photos.split(",")
            if photo
        ]
        for name, _, photos in map(_parts, person)
    }


def learnt_persons(person: Iterable[str]) -> list[str]:
    """Returns the persons of ``--person`` without photos, which are learnt persons."""
    return [name for name, photos in person_photos(person).items() if not photos]


def assigned_persons(person: Iterable[str]) -> dict[str, str]:
    """Returns names of ``--person`` by their assigned label ("P2") or track ("5")."""
    return {label: name for name, labels, _ in map(_parts, person) for label in labels.split(",") if label}


def _parts(person: str) -> tuple[str, str, str]:
    """Splits a person's value into name, labels and photos."""
    head, _, photos = person.partition("=")
    name, _, labels = head.partition("@")
    return name, labels, photos


LIVE_FACES = 8
"""Default limit of faces in a frame if time is short."""


GROUPS = (QualityOptions, FaceOptions, InputOptions, OutputOptions, EncodeOptions, LiveOptions)


OPTIONS: dict[str, Option] = {
    field.name: dataclasses.replace(option, name=field.name, default=field.default, flags=flags, flag=flags[0])
    for group in GROUPS
    for field in fields(group)
    for option in (field.metadata["option"],)
    for flags in (option.flags or (f"--{field.name.replace('_', '-')}",),)
}
"""The declaration of each option, by name, in the order of the groups."""


def having(trait: Trait) -> tuple[str, ...]:
    """Returns the names of the options with a trait."""
    return tuple(key for key, option in OPTIONS.items() if trait in option.traits)


ANALYSIS = tuple(key for key, option in OPTIONS.items() if Scope.ANALYSIS in option.scope)
"""The options of `rtface.analyze`."""


def check_key(key: str, display_name: str) -> str:
    """Checks that `key` is an option, and returns it. A UsageError contains the nearest one, written like
    `display_name`."""
    if key in OPTIONS:
        return key
    raise UsageError(
        "{option} is not an option{hint}",
        code="option_unknown",
        option=display_name if len(display_name) < 300 else display_name[:300] + "…",
        hint=hint(key, OPTIONS),
    )


def locked() -> dict[str, object]:
    """Returns the checked options that this computer's policy sets.

    Raises:
        UsageError: the policy cannot be read, or has an unusable key or value.
    """
    policy = dict[str, object]()
    for name, value in policy_table().items():
        key = check_key(name.replace("-", "_"), f"the policy {site_path()}: {name}")
        policy[key] = check(key, value, f"the policy {site_path()}: {name}")
    return policy


def locked_error(key: str) -> UsageError:
    """Returns the error for changing an option that the policy sets."""
    return UsageError(
        "the policy {path} sets {flag}; leave it out",
        code="policy",
        path=site_path(),
        flag=OptionFlag(OPTIONS[key].flag),
    )


def check(key: str, value: object, display_name: str) -> object:
    """Checks and converts the value of an option. Raises UsageError, whose message begins with `display_name`."""
    option = OPTIONS[key]
    return None if value is None and option.default is None else option.check(value, display_name)


def check_scope(given: Iterable[str], options: Options, run: Scope) -> None:
    """Raises UsageError for a given option without effect on this run.

    Args:
        given: names of options from the command line or the caller. Environment variables and a configuration file
            apply to all runs, and are ignored if they have no effect on this one.
        options: values of the options; defaults are ignored.
        run: kind and properties of the run.
    """
    for key in given:
        option = OPTIONS[key]
        if not option.scope & run and getattr(options, key) != option.default:
            differs = not run & Scope.ENHANCER and bool(option.scope & _LIVE) != bool(run & _LIVE)
            raise UsageError(
                "{option} has no effect here: it is for {scope}; leave it out{advice}",
                code="option_scope",
                option=option.flag,
                scope=option.scope,
                advice=f"; {WHAT_IS_LIVE}" if differs else "",
            )
