"""The manifest of an output, ``OUTPUT.rtface.json``: files by SHA-256, settings, and the areas that were changed."""

from __future__ import annotations

import json
import platform
import re
import time
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

import av
from msgspec import UNSET, Meta, UnsetType, defstruct

from rtface._version import __version__
from rtface.config.options import OPTIONS, Options, person_photos
from rtface.engine.engine_set import recipe_named
from rtface.errors import InputError, InputMissing, Interrupted, Message, RtfaceError
from rtface.media.files.file_hashes import sha256_of, share_of_bytes
from rtface.media.files.image_names import list_images
from rtface.media.files.workfile import Target, write_whole
from rtface.media.marks.changed_frames import ChangedFrames
from rtface.redaction import redacted_values
from rtface.report import Report
from rtface.trust.checked import Doing
from rtface.trust.signing import SigningKey
from rtface.util.foreign import Count, FilePath, Text, converted, read_regular
from rtface.util.parse import SCALE
from rtface.util.toml_dataclass import parse_json
from rtface.util.urls import Address

SUFFIX = ".rtface.json"
"""Added to the output's name."""
FORMAT, VERSION = "rtface sidecar", 2
# The folders of a file that a stage's option names.
_FOLDERS = re.compile(r"\b((?:file|font|template)=)[^,]*[/\\]")

_SECONDS = Annotated[float, Meta(ge=0, lt=1e9)] | UnsetType | None  # larger ones have no clock
_TEXT = Text | UnsetType
_BOXES = list[tuple[Count, Count, Count, Count]]
_HASH = defstruct("_HASH", [("name", FilePath), ("sha256", Text)])
_FILES: list[Any] = [("name", str), ("sha256", _TEXT, UNSET), ("files", list[_HASH] | UnsetType, UNSET)]
_OPTIONS = defstruct(
    "_OPTIONS",
    [
        ("drop", list[Text] | UnsetType, UNSET),
        ("scale", Annotated[str, Meta(pattern=SCALE)] | UnsetType, UNSET),
        ("fields", Literal["tff", "bff", "none"] | UnsetType, UNSET),
        ("variant", Annotated[str, Meta(pattern=r"\A(best|[0-9]{1,5})\Z")] | UnsetType, UNSET),
    ],
)
AREAS = defstruct(
    "AREAS",
    [
        ("output", defstruct("_LOSSLESS", [("lossless", bool)])),
        ("input", defstruct("_INPUT", [*_FILES, ("start_s", _SECONDS, UNSET), ("end_s", _SECONDS, UNSET)])),
        ("changed", list[tuple[Count | Text, Text | _BOXES]]),
        ("whole", _TEXT, UNSET),
        ("copied", list[tuple[Count, Count]] | UnsetType, UNSET),
        ("options", _OPTIONS | UnsetType, UNSET),
    ],
)
"""What `areas_said` gives, as somebody else may have written it."""
_SIDECAR = defstruct(
    "_SIDECAR",
    [
        ("format", Literal["rtface sidecar"]),
        ("version", Literal[2]),
        ("output", defstruct("_OUTPUT", _FILES)),
        ("changes", list[Text] | UnsetType, UNSET),
        ("treatments", list[dict[str, Any]] | UnsetType, UNSET),
        ("finished", _TEXT, UNSET),
        ("engines", dict[str, Any] | UnsetType, UNSET),
    ],
)


@dataclass(slots=True)
class Made:
    """What a run made, as far as its sidecar says more of it than the report.

    Attributes:
        changed: what was changed on which frame or still.
        lossless: whether the output holds every sample as the frames had it.
        names: file names of stills, in the order of `changed`.
        plan: what had been decided of a film before the work; empty where that is not known.
        unfaded: how many films or stills had their fading taken out.
        copied: numbers of the first and last of the frames whose packets were copied together.
    """

    changed: ChangedFrames = field(default_factory=ChangedFrames)
    lossless: bool = False
    names: list[str] = field(default_factory=list[str])
    plan: dict[str, Any] = field(default_factory=dict[str, Any])
    unfaded: int = 0
    copied: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])


def sidecar_path(output: Path) -> Path:
    """Where the sidecar of an output is."""
    output = output if output.name else output.resolve()
    return output.with_name(output.name + SUFFIX)


def has_sidecar(output: Path) -> bool:
    """Tells whether a sidecar of rtface lies where that of an output is."""
    try:
        read_sidecar(sidecar_path(output))
    except (InputError, InputMissing):
        return False
    return True


def write_sidecar(
    target: Target,
    output: Path,
    input: Path | Address | str,
    options: Options,
    report: Report,
    made: Made,
    *,
    key: SigningKey | None = None,
    doing: Doing | None = None,
) -> str:
    """Writes the sidecar of a finished output.

    Args:
        target: the sidecar, checked.
        output: the film, still or folder of stills.
        input: of the run; of a live one also just its name.
        options, report, made: of the run.
        key: signs the sidecar.
        doing: receives progress; ends the work by what it raises.

    Returns:
        A line for the user.

    Raises:
        Interrupted, InputError, OutputError: there is no sidecar then; the output is whole.
    """
    try:
        values: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION,
            "rtface": __version__,
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "engines": engines_said(report),
            "versions": versions(),
            "options": options_said(options),
            **({"plan": made.plan} if made.plan else {}),
            "changes": made.changed.change.names,
            "treatments": [track.to_dict() for track in report.tracks],
            **({"images": {one.name: one.tracks for one in report.images}} if report.images else {}),
            **({"signed": True} if key is not None else {}),
        }
        values = redacted_values(values) | areas_said(input, options, report, made, doing=doing)
        values["output"] |= _files(output, doing)
        if key is not None:
            values["signature"] = key.sign(signed_bytes(values))
        write_whole(target, to_bytes(values))
    except Interrupted as error:
        error.message = Message(f"interrupted; {output} is whole, its sidecar is not written")
        raise
    return f"{target.path.name}: what was done, where, and SHA-256 of the files" + (", signed" if key else "")


def areas_said(
    input: Path | Address | str,
    options: Options,
    report: Report,
    made: Made,
    still: int | None = None,
    *,
    doing: Doing | None = None,
) -> dict[str, Any]:
    """What a comparison with the input needs to know; of one of several stills by its number."""
    light = "its light was changed" if options.light else "no area was noted"
    whole = "a stage drew on it" if options.stages else light
    rows = [
        [made.names[frame] if made.names else frame, whole if boxes is None else boxes]
        for frame, boxes in made.changed.rows()
        if still in (None, frame)
    ]
    part = {"start_s": options.start, "end_s": options.end, "first_s": report.first_s}
    return {
        "output": {"lossless": made.lossless},
        "input": redacted_values({**_files(input, doing), **part}),
        "changed": rows,
        **({"whole": "its fading was taken out"} if made.unfaded else {}),
        **({"copied": made.copied} if made.copied else {}),
    }


def to_bytes(values: dict[str, Any]) -> bytes:
    """A sidecar as text, a line for each value."""
    return ("{\n" + ",\n".join(f" {json.dumps(k)}: {json.dumps(v)}" for k, v in values.items()) + "\n}\n").encode()


def signed_bytes(values: dict[str, Any]) -> bytes:
    """The bytes that the signature of a sidecar covers."""
    return to_bytes({name: value for name, value in values.items() if name != "signature"})


def read_sidecar(path: Path) -> dict[str, Any]:
    """The values of a sidecar.

    Raises:
        InputMissing: it cannot be read.
        InputError: it is no sidecar, is damaged, or is of another version.
    """
    try:
        data = read_regular(path)
    except OSError as error:
        raise InputMissing(
            "{path}: cannot be read ({why}); check the name", code="unreadable", path=path, why=error.strerror
        ) from error
    try:
        converted(values := parse_json(data, _SIDECAR), AREAS)
        return values
    except ValueError as error:
        raise InputError(
            "{path}: is no sidecar of rtface, or a damaged one, or of another version than {version} ({why}); name the "
            ".rtface.json that {--sidecar=True} wrote",
            code="sidecar_none",
            path=path,
            version=VERSION,
            why=error,
        ) from error


def versions() -> dict[str, str]:
    """Versions of what makes the frames of an output."""
    import numpy as np
    import openvino

    more = {"numpy": np.__version__, "openvino": openvino.__version__}
    return codec_versions() | {"python": platform.python_version(), "system": platform.system()} | more


def codec_versions() -> dict[str, str]:
    """What decides how frames are decoded and encoded: versions of rtface, PyAV and FFmpeg's libraries."""
    libraries = ("libavcodec", "libavformat", "libswscale")
    found = {name: ".".join(map(str, av.library_versions.get(name, ()))) for name in libraries}
    return {"rtface": __version__, "av": av.__version__} | found


def _files(path: Path | Address | str, doing: Doing | None) -> dict[str, Any]:
    """Name and hash of a file, or of the images in a folder; only the name of anything else."""
    if not isinstance(path, Path):
        return {"name": str(path)}
    if not path.is_dir() and not path.is_file():  # a pipe cannot be read again
        return {"name": path.name}
    files = list_images(path) if path.is_dir() else [path]
    tick = share_of_bytes(size := sum(file.stat().st_size for file in files), doing)
    hashes = [{"name": file.name, "sha256": sha256_of(file, tick=tick)} for file in files]
    return {"name": path.resolve().name, "files": hashes} if path.is_dir() else {**hashes[0], "bytes": size}


def engines_said(report: Report) -> dict[str, dict[str, str]]:
    """Version and hashes of the engines of a run, by name."""
    return {name: _engine(name) for name in report.engine.split("+")}


def _engine(name: str) -> dict[str, str]:
    """Version and hashes of an engine, and of what was learnt of a person; empty where it cannot be read any more."""
    try:
        recipe = recipe_named(name)
    except RtfaceError:
        return {}
    found = {"version": recipe.version, "weights_sha256": recipe.weights.sha256, "recipe_sha256": recipe.digest}
    if recipe.learned is not None:
        found |= {"learnt_of": recipe.learned.name, "learnt_sha256": recipe.learned.digest}
    return found


def options_said(options: Options) -> dict[str, Any]:
    """The options that are not the default; of a path only the name, of a person no photo, and of the key nothing."""
    found: dict[str, Any] = {}
    for key, option in OPTIONS.items():
        value = getattr(options, key)
        if value != option.default and key != "sign":
            found[key] = value.name if isinstance(value, Path) else str(value) if isinstance(value, Fraction) else value
    if "person" in found:
        found["person"] = list(person_photos(options.person))
    if "stages" in found:
        found["stages"] = [_FOLDERS.sub(r"\1", stage) for stage in options.stages]
    return found
