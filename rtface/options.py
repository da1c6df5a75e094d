"""Every option of a run, with its default, its check, the runs it has an effect on, and where its value came from.

Order: flags of the command line > ``RTFACE_*`` environment variables > a TOML file > defaults. The file is the one
that ``--config`` (or ``RTFACE_CONFIG``) names, else ``rtface.toml`` in the configuration folder.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from enum import Flag, auto
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, Self

from rtface.errors import UsageError
from rtface.util import parse as v
from rtface.util.parse import format_time, hint, nearest
from rtface.util.paths import config_dir, expanded
from rtface.util.toml_dataclass import parse_toml

log = logging.getLogger("rtface")

PREFIX = "RTFACE_"
_OTHER_VARIABLES = ("RTFACE_CACHE", "RTFACE_CONFIG", "RTFACE_CONFIG_DIR", "RTFACE_TORCH_PYTHON")


@dataclass(frozen=True, slots=True)
class Options:
    """What a run is asked to do. Every value is checked when the object is made.

    Attributes:
        engine: name of an engine (``rtface engines`` lists them), "default" or "auto".
        strength: how much of the correction is added, 0…1.
        fidelity: of an engine that has this control: from 0 (beautiful) to 1 (near to what is there); None is its own.
        commercial_use: refuse engines whose licence forbids commercial use.
        keyframe: N: the engine runs on every N-th frame of a face, and its answer is carried to the others over that of
            the small engine; "auto" goes by what the engine takes (`rtface.enhance.keyframes.scheduler.spacing`); 1
            is every frame.
        colour: "lock" keeps the face's own colours, "restore" also corrects fading and exposure.
        grain: "match" brings noise back to the level of the skin beside the correction, "none" does not.
        region: "face", or "head": also hair, ears and neck, of engines that answer for all of their crop.
        device: where engines run: "auto", "cpu", or another of `rtface.util.parse.DEVICES`; ``rtface doctor`` says
        which
            are here.
        tracker: name of a tracker, or "auto".
        faces: "all", "largest", or track numbers as "1,3".
        max_faces: at most so many faces a frame.
        codec, crf, preset: of the video encoder; None keeps what the output's container asks for.
        decode: where pictures are decoded: "software", on an NVIDIA GPU ("cuda", "cuda:1" …), or "auto": there where
            the run's device is one.
        encode: "software", "cuda", or "auto": on the GPU where the pictures lie there and nothing is lost by it.
        start, end: seconds into the input; None for its own start and end.
        compare: also write before|after beside each other to this file.
        report: also write the report to this JSON file.
        correct: "auto" corrects the faces that need it, "always" all of them, "never" none.
        treatment: JSON file of ``rtface analyze --json`` that says what to do with each track.
        overwrite: replace an output that exists.
        strict: stop where something of the input would be lost, instead of a warning.
        dry_run: decide and say everything, write nothing.
        segments: places of the film that are worked on at once (`rtface.pipeline.segments`); None means 1.
        threads: CPU threads of the whole run; None takes all cores.
        sequence: a folder of stills is a film.
        fps: frames a second of that film, None means 25; of a camera, None means 30.
        stages: what else changes the pictures, after the faces (`rtface.stages`): "NAME" or "NAME:key=value,…" each.
        size: width and height asked of a camera.
        audio: sound of a live run: a microphone's name, a URL, "silent" or "none"; None is the input's own.
        latency: ceiling in milliseconds of what a live run may add; above it faces are done more simply.
        delay: milliseconds from capture to output, held constant; None is as soon as possible.
        buffer: milliseconds that packets of a network stream wait in front of the decoder, so that jitter loses no
            frame; "auto" takes what the measured jitter needs, up to a second, or what `delay` leaves.
        slate: what viewers see while the source of a live run is away: words, or the path of a picture; None is the
            usual words.
        also: a file that a live run is recorded to as well.
        bitrate: bits a second of a live run's encoder; None goes by size and rate.
        gop: seconds between its key frames.
        light: how much a dark picture of a live run is lightened, 0…1.
        preview: show before and after in a browser (a page of the control endpoint).
        control: port on 127.0.0.1 from which a live run is controlled; 0 takes a free one.
        metrics: port on 127.0.0.1 for Prometheus.
    """

    engine: str = "default"
    strength: float = 1.0
    fidelity: float | None = None
    commercial_use: bool = False
    keyframe: int | Literal["auto"] = "auto"
    colour: Literal["lock", "restore"] = "lock"
    grain: Literal["match", "none"] = "match"
    region: Literal["face", "head"] = "face"
    device: str = "auto"
    tracker: str = "auto"
    faces: str = "all"
    max_faces: int = 8
    codec: str | None = None
    crf: float | None = None
    preset: str | None = None
    decode: str = "auto"
    encode: Literal["auto", "cuda", "software"] = "auto"
    start: float | None = None
    end: float | None = None
    compare: Path | None = None
    report: Path | None = None
    correct: Literal["auto", "always", "never"] = "auto"
    treatment: Path | None = None
    overwrite: bool = False
    strict: bool = False
    dry_run: bool = False
    segments: int | None = None
    threads: int | None = None
    sequence: bool = False
    fps: Fraction | None = None
    stages: tuple[str, ...] = ()
    size: tuple[int, int] | None = None
    audio: str | None = None
    latency: float = 100.0
    delay: float | None = None
    buffer: float | Literal["auto"] = "auto"
    slate: str | None = None
    also: Path | None = None
    bitrate: int | None = None
    gop: float = 2.0
    light: float = 0.0
    preview: bool = False
    control: int | None = None
    metrics: int | None = None

    def __post_init__(self) -> None:
        for key in DECLARED:
            object.__setattr__(self, key, check(key, getattr(self, key), key))
        if self.start is not None and self.end is not None and self.end <= self.start:
            raise UsageError(f"end ({format_time(self.end)}) must come after start ({format_time(self.start)})")

    @classmethod
    def of(cls, values: Mapping[str, object]) -> Self:
        """Options from keywords; UsageError that names the nearest key for one that does not exist."""
        for key in values:
            known(key, key)
        return cls(**values)  # type: ignore[arg-type]  # __post_init__ checks and converts each


class Scope(Flag):
    """What a run is or has. An option has an effect on a run that is or has one of the things in the option's scope."""

    FILM = auto()
    """A film comes in, a file or an address; or a folder of stills that is one."""
    SEQUENCE = auto()
    """A folder of stills is a film."""
    ENCODED = auto()
    """OUTPUT is a film."""
    STILLS = auto()
    LIVE = auto()
    CAMERA = auto()
    """The source of a live run is a camera."""
    RECORDED = auto()
    """A live run writes a film, as OUTPUT or by ``--also``."""
    PUBLISHED = auto()
    """OUTPUT of a live run is a stream's URL."""
    CONSOLE = auto()
    """A live run of the command line, which has keys, a control endpoint and a preview."""
    ENHANCER = auto()

    def __str__(self) -> str:
        return " or ".join(_SCOPE_WORDS[part] for part in self)


_SCOPE_WORDS = {
    Scope.FILM: "films", Scope.SEQUENCE: "a folder of stills with --sequence",
    Scope.ENCODED: "an OUTPUT that is a film", Scope.STILLS: "stills", Scope.LIVE: "live runs", Scope.CAMERA: "cameras",
    Scope.RECORDED: "live recordings", Scope.PUBLISHED: "published streams",
    Scope.CONSOLE: "live runs of the command 'rtface run'", Scope.ENHANCER: "rtface.Enhancer"}

_FILES = Scope.FILM | Scope.STILLS
_RUNS = _FILES | Scope.LIVE
_ALL = _RUNS | Scope.ENHANCER


@dataclass(frozen=True, slots=True)
class Declared:
    """What belongs to one option: `check` converts its value, `scope` says which runs it has an effect on."""

    check: v.Check
    scope: Scope


DECLARED: dict[str, Declared] = {
    "engine": Declared(v.name, _ALL),
    "strength": Declared(v.share, _ALL),
    "fidelity": Declared(v.share, _ALL),
    "commercial_use": Declared(v.boolean, _ALL),
    "keyframe": Declared(v.or_auto(v.number(1, 12, whole=True)), Scope.FILM | Scope.LIVE | Scope.ENHANCER),
    "colour": Declared(v.choice("lock", "restore"), _ALL),
    "grain": Declared(v.choice("match", "none"), _ALL),
    "region": Declared(v.choice("face", "head"), _ALL),
    "device": Declared(v.device, _ALL),
    "tracker": Declared(v.choice("auto", "openvino", "tasks", "none"), _ALL),
    "faces": Declared(v.faces, _ALL),
    "max_faces": Declared(v.number(1, 64, whole=True), _ALL),
    "codec": Declared(v.name, Scope.ENCODED | Scope.RECORDED),
    "crf": Declared(v.number(0, 63), Scope.ENCODED | Scope.RECORDED),
    "preset": Declared(v.name, Scope.ENCODED | Scope.RECORDED | Scope.PUBLISHED),
    "decode": Declared(v.decoder, Scope.FILM),
    "encode": Declared(v.choice("auto", "cuda", "software"), Scope.ENCODED | Scope.PUBLISHED),
    "start": Declared(v.time, Scope.FILM),
    "end": Declared(v.time, Scope.FILM),
    "compare": Declared(v.path, _FILES),
    "report": Declared(v.path, _RUNS),
    "correct": Declared(v.choice("auto", "always", "never"), _ALL),
    "treatment": Declared(v.path, _FILES),
    "overwrite": Declared(v.boolean, _RUNS),
    "strict": Declared(v.boolean, Scope.FILM),
    "dry_run": Declared(v.boolean, _RUNS),
    "segments": Declared(v.number(1, 64, whole=True), _FILES),
    "threads": Declared(v.number(1, 1024, whole=True), _ALL),
    "sequence": Declared(v.boolean, _FILES),
    "fps": Declared(v.rate, Scope.SEQUENCE | Scope.CAMERA),
    "stages": Declared(v.names, _ALL),
    "size": Declared(v.size, Scope.CAMERA),
    "audio": Declared(v.name, Scope.LIVE),
    "latency": Declared(v.number(10, 10_000), Scope.LIVE),
    "delay": Declared(v.number(0, 10_000), Scope.LIVE),
    "buffer": Declared(v.or_auto(v.number(0, 10_000)), Scope.LIVE),
    "slate": Declared(v.name, Scope.LIVE),
    "also": Declared(v.path, Scope.LIVE),
    "bitrate": Declared(v.bitrate, Scope.PUBLISHED),
    "gop": Declared(v.number(0.1, 20), Scope.RECORDED | Scope.PUBLISHED),
    "light": Declared(v.share, Scope.LIVE),
    "preview": Declared(v.boolean, Scope.CONSOLE),
    "control": Declared(v.number(0, 65_535, whole=True), Scope.CONSOLE),
    "metrics": Declared(v.number(0, 65_535, whole=True), Scope.CONSOLE),
}
_DEFAULTS: dict[str, Any] = {f.name: f.default for f in fields(Options)}


def known(key: str, shown: str) -> str:
    """`key` when it names an option; UsageError with the nearest one (written like `shown`) when not."""
    if key in _DEFAULTS:
        return key
    raise UsageError(f"{shown if len(shown) < 300 else shown[:300] + '…'} is not an option{hint(key, _DEFAULTS)}")


def check(key: str, value: object, shown: str) -> object:
    """The value of one option, converted; UsageError that begins with `shown` when it cannot be used."""
    if value is None and _DEFAULTS[key] is None:
        return None
    return DECLARED[key].check(value, shown)


def check_scope(given: Iterable[str], options: Options, run: Scope, *, flags: bool = True) -> None:
    """UsageError for an option that was given for this run and would have no effect on it.

    Args:
        given: names of the options that the command line or the caller named. What environment variables and a
            configuration file say holds for every run, and is not used where it has no effect.
        options: their values; one that is the default asks for nothing.
        run: what the run is and has.
        flags: messages call the options as on the command line.
    """
    for key in given:
        scope = DECLARED[key].scope
        if not scope & run and getattr(options, key) != _DEFAULTS[key]:
            raise UsageError(f"{_flag(key) if flags else key} has no effect here: it is for {scope}; leave it out")


def _flag(key: str) -> str:
    return "--stage" if key == "stages" else "--" + key.replace("_", "-")


@dataclass(frozen=True, slots=True)
class Loaded:
    """Options with the source of each value: "--strength", "RTFACE_STRENGTH", a file's path, or "default"."""

    options: Options
    sources: dict[str, str]

    @property
    def given(self) -> frozenset[str]:
        """The options that the command line named."""
        return frozenset(key for key, source in self.sources.items() if source == _flag(key))


def read_file(path: Path) -> dict[str, object]:
    """Checked values of a TOML file; keys may be written with - or _. UsageError names file, key and nearest key."""
    try:
        data = parse_toml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"the configuration file {path} is not there") from None
    except OSError as error:
        raise UsageError(f"the configuration file {path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"the configuration file {path} is not valid TOML: {error}") from None
    values: dict[str, object] = {}
    for written, value in data.items():
        key = known(written.replace("-", "_"), f"{path}: {written}")
        values[key] = check(key, value, f"{path}: {written}")
    return values


def _environment(environ: Mapping[str, str]) -> dict[str, object]:
    values: dict[str, object] = {}
    names = {PREFIX + key.upper(): key for key in _DEFAULTS}
    for variable, text in environ.items():
        if variable in names and text:
            values[names[variable]] = check(names[variable], text, variable)
        elif variable.startswith(PREFIX) and variable not in _OTHER_VARIABLES:
            near = nearest(variable.removeprefix(PREFIX).lower(), _DEFAULTS)
            if near and variable not in names:
                log.warning("%s is not known and has no effect; did you mean %s%s?", variable, PREFIX, near.upper())
    return values


def load(flags: Mapping[str, object], *, config: Path | None = None,
         environ: Mapping[str, str] = os.environ) -> Loaded:
    """Options from flags, environment, file and defaults, in this order of precedence.

    Args:
        flags: what the command line gave, by option name; nothing else.
        config: file that ``--config`` named; it has to exist. None looks at ``RTFACE_CONFIG``, then for
            ``rtface.toml`` in the configuration folder.
        environ: environment variables.

    Raises:
        UsageError: a value cannot be used or a key is not known; the message says which, where, and the nearest.
    """
    values: dict[str, object] = {}
    sources = dict.fromkeys(_DEFAULTS, "default")
    if config is None and environ.get("RTFACE_CONFIG"):
        config = expanded(environ["RTFACE_CONFIG"], "RTFACE_CONFIG")
    folder = config_dir()
    path = config or (folder / "rtface.toml" if folder else None)
    if path is not None and (config is not None or path.is_file()):
        for key, value in read_file(path).items():
            values[key], sources[key] = value, str(path)
    for key, value in _environment(environ).items():
        values[key], sources[key] = value, PREFIX + key.upper()
    for key, value in flags.items():
        flag = _flag(key)
        values[known(key, flag)], sources[key] = check(key, value, flag), flag
    return Loaded(Options.of(values), sources)
