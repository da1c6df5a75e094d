"""Writes and reads an output's manifest, ``OUTPUT.rtface.json``: hashes of files, settings, and changed areas."""

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
from rtface.trust.check_result import OnProgress
from rtface.trust.signing import SigningKey
from rtface.util.foreign import Count, FilePath, Text, converted, read_regular
from rtface.util.parse import SCALE
from rtface.util.toml_dataclass import parse_json
from rtface.util.urls import Address

SUFFIX = ".rtface.json"
"""Added to the output's name."""
FORMAT, VERSION = "rtface sidecar", 2
# Matches the folders of a path in a stage's option.
_FOLDERS = re.compile(r"\b((?:file|font|template)=)[^,]*[/\\]")

_SECONDS = Annotated[float, Meta(ge=0, lt=1e9)] | UnsetType | None  # finite
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
"""Type of the result of `area_fields`, for checking foreign manifests."""
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
class OutputDetails:
    """Contains data about an output that its sidecar adds to the report.

    Attributes:
        changed: changed areas, by number of the frame or still.
        lossless: whether the output keeps every sample of the frames.
        names: file names of stills, in the order of `changed`.
        plan: plan of a film, made before the run; empty if unknown.
        unfaded: number of films or stills whose fading was removed.
        copied: first and last number of each series of frames whose packets were copied.
    """

    changed: ChangedFrames = field(default_factory=ChangedFrames)
    lossless: bool = False
    names: list[str] = field(default_factory=list[str])
    plan: dict[str, Any] = field(default_factory=dict[str, Any])
    unfaded: int = 0
    copied: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])


def sidecar_path(output: Path) -> Path:
    """Returns the path of an output's sidecar."""
    output = output if output.name else output.resolve()
    return output.with_name(output.name + SUFFIX)


def has_sidecar(output: Path) -> bool:
    """Tells whether an output has a sidecar of rtface."""
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
    details: OutputDetails,
    *,
    key: SigningKey | None = None,
    doing: OnProgress | None = None,
) -> str:
    """Writes the sidecar of a finished output.

    Args:
        target: the checked path of the sidecar.
        output: the film, still or folder of stills.
        input: input of the run; for a live run, only its name.
        options, report, details: options, report and output details of the run.
        key: key that signs the sidecar; None for no signature.
        doing: receives progress; may raise an exception to stop the work.

    Returns:
        A line for the user.

    Raises:
        Interrupted, InputError, OutputError: no sidecar was written; the output itself is complete.
    """
    try:
        values: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION,
            "rtface": __version__,
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "engines": engine_fields(report),
            "versions": versions(),
            "options": option_fields(options),
            **({"plan": details.plan} if details.plan else {}),
            "changes": details.changed.change.names,
            "treatments": [track.to_dict() for track in report.tracks],
            **({"images": {one.name: one.tracks for one in report.images}} if report.images else {}),
            **({"filled": filled} if (filled := {one.name: one.filled for one in report.images if one.filled}) else {}),
            **({"signed": True} if key is not None else {}),
        }
        values = redacted_values(values) | area_fields(input, options, report, details, doing=doing)
        values["output"] |= _files(output, doing)
        if key is not None:
            values["signature"] = key.sign(signed_bytes(values))
        write_whole(target, to_bytes(values))
    except Interrupted as error:
        error.message = Message(f"interrupted; {output} is complete, but its sidecar was not written")
        raise
    return f"{target.path.name}: what was done, where, and SHA-256 of the files" + (", signed" if key else "")


def area_fields(
    input: Path | Address | str,
    options: Options,
    report: Report,
    details: OutputDetails,
    still: int | None = None,
    *,
    doing: OnProgress | None = None,
) -> dict[str, Any]:
    """Returns the fields that a comparison with the input needs. `still` selects one of several stills."""
    light = "its light was changed" if options.light else "no area was noted"
    reason = "a stage drew on it" if options.stages else light
    rows = [
        [details.names[frame] if details.names else frame, reason if boxes is None else boxes]
        for frame, boxes in details.changed.rows()
        if still in (None, frame)
    ]
    part = {"start_s": options.start, "end_s": options.end, "first_s": report.first_s}
    return {
        "output": {"lossless": details.lossless},
        "input": redacted_values({**_files(input, doing), **part}),
        "changed": rows,
        **({"whole": "its fading was removed"} if details.unfaded else {}),
        **({"copied": details.copied} if details.copied else {}),
    }


def to_bytes(values: dict[str, Any]) -> bytes:
    """Returns a sidecar as JSON text with one line per field."""
    return ("{\n" + ",\n".join(f" {json.dumps(k)}: {json.dumps(v)}" for k, v in values.items()) + "\n}\n").encode()


def signed_bytes(values: dict[str, Any]) -> bytes:
    """Returns the bytes that a sidecar's signature covers."""
    return to_bytes({name: value for name, value in values.items() if name != "signature"})


def read_sidecar(path: Path) -> dict[str, Any]:
    """Reads the values of a sidecar.

    Raises:
        InputMissing: the file cannot be read.
        InputError: the file is not a sidecar, is damaged, or has another version.
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
            "{path}: is not a sidecar of rtface, is damaged, or is not of version {version} ({why}); choose a "
            ".rtface.json file that {--sidecar=True} wrote",
            code="sidecar_none",
            path=path,
            version=VERSION,
            why=error,
        ) from error


def versions() -> dict[str, str]:
    """Returns the versions of the software that produces an output's frames."""
    import numpy as np
    import openvino

    packages = {"numpy": np.__version__, "openvino": openvino.__version__}
    return codec_versions() | {"python": platform.python_version(), "system": platform.system()} | packages


def codec_versions() -> dict[str, str]:
    """Returns the versions that affect decoding and encoding: rtface, PyAV, FFmpeg's libraries."""
    libraries = ("libavcodec", "libavformat", "libswscale")
    av_versions = {name: ".".join(map(str, av.library_versions.get(name, ()))) for name in libraries}
    return {"rtface": __version__, "av": av.__version__} | av_versions


def _files(path: Path | Address | str, doing: OnProgress | None) -> dict[str, Any]:
    """Returns name and hash of a file, or of a folder's images. For other inputs, returns only the name."""
    if not isinstance(path, Path):
        return {"name": str(path)}
    if not path.is_dir() and not path.is_file():  # a pipe cannot be read a second time
        return {"name": path.name}
    files = list_images(path) if path.is_dir() else [path]
    tick = share_of_bytes(size := sum(file.stat().st_size for file in files), doing)
    hashes = [{"name": file.name, "sha256": sha256_of(file, tick=tick)} for file in files]
    return {"name": path.resolve().name, "files": hashes} if path.is_dir() else {**hashes[0], "bytes": size}


def engine_fields(report: Report) -> dict[str, dict[str, str]]:
    """Returns version and hashes of a run's engines, by name."""
    return {name: _engine(name) for name in report.engine.split("+")}


def _engine(name: str) -> dict[str, str]:
    """Returns version and hashes of an engine and its learnt data. Returns {} if the engine can no longer be read."""
    try:
        recipe = recipe_named(name)
    except RtfaceError:
        return {}
    fields = {"version": recipe.version, "weights_sha256": recipe.weights.sha256, "recipe_sha256": recipe.digest}
    if recipe.learned is not None:
        fields |= {"learnt_of": recipe.learned.name, "learnt_sha256": recipe.learned.digest}
    return fields


def option_fields(options: Options) -> dict[str, Any]:
    """Returns the options that differ from the default. Folders, photos of persons and the signing key are left out."""
    fields: dict[str, Any] = {}
    for key, option in OPTIONS.items():
        value = getattr(options, key)
        if value != option.default and key != "sign":
            fields[key] = (
                value.name if isinstance(value, Path) else str(value) if isinstance(value, Fraction) else value
            )
    if "person" in fields:
        fields["person"] = list(person_photos(options.person))
    if "stages" in fields:
        fields["stages"] = [_FOLDERS.sub(r"\1", stage) for stage in options.stages]
    return fields
