"""The manifest of an output, ``OUTPUT.rtface.json``: files by SHA-256, settings, and the areas that were changed."""

from __future__ import annotations

import json
import platform
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from rtface._version import __version__
from rtface.config.options import OPTIONS, Options, person_photos
from rtface.engine.engine_set import is_here, recipe_named
from rtface.errors import InputError, InputMissing, Interrupted, Message, OutputError, UsageError
from rtface.media.files.file_hashes import sha256_of, share_of_bytes
from rtface.media.files.image_names import list_images
from rtface.media.files.outputs import OutputPath
from rtface.media.files.workfile import Target, full, write_whole
from rtface.media.marks.changed_frames import ChangedFrames
from rtface.redaction import redacted_values
from rtface.report import Report
from rtface.trust.checked import Doing
from rtface.trust.signing import SigningKey
from rtface.util.foreign import (
    Shape,
    check_shape,
    count,
    file_name,
    file_path,
    fits,
    flag,
    none_or,
    number,
    read_regular,
    row,
    text,
    too_deep,
    whole,
)
from rtface.util.parse import is_scale
from rtface.util.toml_dataclass import parse_json
from rtface.util.urls import Address

SUFFIX = ".rtface.json"
"""Added to the output's name."""
FORMAT, VERSION = "rtface sidecar", 2
_MOST_BOXES = 1024  # of a frame
# The folders of a file that a stage's option names.
_FOLDERS = re.compile(r"\b((?:file|font|template)=)[^,]*[/\\]")
_CORNERS, _RANGE = row(whole, whole, whole, whole), row(count, count)


def _box(value: Any) -> bool:
    """Corners of a box in a frame: numpy counts negative ones from the other side."""
    return _CORNERS(value) and 0 <= value[0] <= value[2] and 0 <= value[1] <= value[3]


def _seconds(value: Any) -> bool:
    """Seconds of a film; larger ones have no clock."""
    return value is None or (number(value) and 0 <= value < 1e9)


def _variant(value: Any) -> bool:
    return value == "best" or (text(value) and value.isascii() and value.isdigit() and len(value) < 6)


_FILES: Shape = {
    "name": lambda value: value == "" or file_path(value),
    "bytes?": whole,
    "sha256?": text,
    "files?": [{"name": file_name, "sha256": text}],
}
_AREAS: Shape = {
    "output": {"lossless": flag},
    "input": {**_FILES, **dict.fromkeys(("start_s?", "end_s?"), _seconds), "first_s?": none_or(number)},
    "changed": [
        row(
            lambda value: whole(value) or text(value),
            lambda value: text(value) or (fits(value, [_box]) and len(value) <= _MOST_BOXES),
        )
    ],
    "whole?": text,
    "copied?": [lambda value: _RANGE(value) and value[0] <= value[1]],
    "options?": {
        "drop?": [text],
        "scale?": is_scale,
        "fields?": lambda value: value in ("tff", "bff", "none"),
        "variant?": _variant,
    },
}
_SHAPE: Shape = {
    **_AREAS,
    "output": {**_FILES, "lossless": flag},
    "changes?": [text],
    "treatments?": [{}],
    "finished?": text,
    "engines?": {},
}


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
    """Whether a sidecar of rtface lies where that of an output is."""
    try:
        read_sidecar(sidecar_path(output))
    except (InputError, InputMissing):
        return False
    return True


def sidecar_output(output: Path) -> OutputPath:
    """The sidecar as a path to be checked before a run."""
    return OutputPath(sidecar_path(output), "--sidecar")


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
    stop: threading.Event | None = None,
) -> str:
    """Writes the sidecar of a finished output.

    Args:
        target: the sidecar, checked.
        output: the film, still or folder of stills.
        input: of the run; of a live one also just its name.
        options, report, made: of the run.
        key: signs the sidecar.
        doing: receives progress.
        stop: ends the work when set.

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
            "first_stage": first_stage_said(report),
            "versions": versions(),
            "options": options_said(options),
            **({"plan": made.plan} if made.plan else {}),
            "changes": made.changed.change.names,
            "treatments": [track.to_dict() for track in report.tracks],
            **({"images": {one.name: one.tracks for one in report.images}} if report.images else {}),
            **({"signed": True} if key is not None else {}),
        }
        values = redacted_values(values) | areas_said(input, options, report, made, doing=doing, stop=stop)
        names = None
        if output.is_dir():
            known = {*made.names}
            if isinstance(input, Path) and input.is_dir():  # scans that could not be read were copied as they are
                known |= {path.name for path in list_images(input)}
            names = [path.name for path in list_images(output) if path.name in known]
        values["output"] |= _files(output, names, doing, stop)
        if key is not None:
            values["signature"] = key.sign(signed_bytes(values))
        write_whole(target, to_bytes(values))
    except Interrupted as error:
        error.message = Message(f"interrupted; {output} is whole, its sidecar is not written")
        raise
    except OSError as error:
        if isinstance(error, (OutputError, InputError, InputMissing)):
            raise
        raise OutputError(
            "{path}: the sidecar cannot be written ({why}); the output itself is whole",
            code="sidecar_unwritten",
            path=target.shown,
            why=full(error) or error.strerror,
        ) from error
    return f"{target.path.name}: what was done, where, and SHA-256 of the files" + (", signed" if key else "")


def areas_said(
    input: Path | Address | str,
    options: Options,
    report: Report,
    made: Made,
    still: int | None = None,
    *,
    doing: Doing | None = None,
    stop: threading.Event | None = None,
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
        "input": redacted_values({**_files(input, None, doing, stop), **part}),
        "changed": rows,
        **({"whole": "its fading was taken out"} if made.unfaded else {}),
        **({"copied": made.copied} if made.copied else {}),
    }


def has_areas(values: Any) -> bool:
    """Whether values of others say what `areas_said` does."""
    return fits(values, _AREAS) and _once(values)


def _once(values: dict[str, Any]) -> bool:
    return len({name for name, _ in values["changed"]}) == len(values["changed"])


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
        if too_deep(data.decode()):
            raise ValueError("it is nested too deeply")
        values = parse_json(data)
        check_shape(values, {"format": lambda value: value == FORMAT, "version": whole, "rtface?": text})
        if values["version"] == VERSION:
            check_shape(values, _SHAPE)
            if not _once(values):
                raise ValueError("changed names a frame twice")
            return values
    except ValueError as error:
        raise InputError(
            "{path}: is no sidecar of rtface, or a damaged one ({why}); name the .rtface.json that "
            "{--sidecar=True} wrote",
            code="sidecar_none",
            path=path,
            why=error,
        ) from error
    raise InputError(
        "{path}: is a sidecar of version {found}, and this rtface reads version {version}; use rtface {made_by}",
        code="sidecar_version",
        path=path,
        found=values["version"],
        version=VERSION,
        made_by=values.get("rtface", ""),
    )


def versions() -> dict[str, str]:
    """Versions of what makes the frames of an output."""
    import numpy as np
    import openvino

    machine = {"python": platform.python_version(), "system": platform.system()}
    return codec_versions() | machine | {"numpy": np.__version__, "openvino": openvino.__version__}


def codec_versions() -> dict[str, str]:
    """What decides how frames are decoded and encoded: versions of rtface, PyAV and FFmpeg's libraries."""
    libraries = ("libavcodec", "libavformat", "libswscale")
    found = {name: ".".join(map(str, av.library_versions.get(name, ()))) for name in libraries}
    return {"rtface": __version__, "av": av.__version__} | found


def _files(
    path: Path | Address | str, names: Sequence[str] | None, doing: Doing | None, stop: threading.Event | None
) -> dict[str, Any]:
    """Name and hash of a file, or of the files in a folder (all images without `names`); only the name of anything
    else."""
    if not isinstance(path, Path):
        return {"name": str(path)}
    if path.is_dir():
        files = [path / name for name in names] if names else list_images(path)
        tick = share_of_bytes(sum(file.stat().st_size for file in files), doing)
        return {
            "name": path.resolve().name,
            "files": [{"name": file.name, "sha256": sha256_of(file, tick=tick, stop=stop)} for file in files],
        }
    if not path.is_file():  # a pipe cannot be read again
        return {"name": path.name}
    size = path.stat().st_size
    return {"name": path.name, "bytes": size, "sha256": sha256_of(path, tick=share_of_bytes(size, doing), stop=stop)}


def engines_said(report: Report) -> dict[str, dict[str, str]]:
    """Version and hashes of the engines of a run, by name."""
    return {name: _engine(name) for name in report.engine.split("+")}


def first_stage_said(report: Report) -> dict[str, str] | None:
    """The hash of the first stage's network, where it corrected or measured a face; live its light one's, too."""
    if all(
        span.gain_db is None and not span.first and not span.ring  # a treatment file has no gain
        for track in report.tracks
        for span in track.spans
    ):
        return None
    from rtface.engine.coded_network import LIGHT, SHA256  # it imports OpenVINO

    return {"weights_sha256": SHA256} | ({"light_weights_sha256": LIGHT[1]} if report.cpu_share is not None else {})


def _engine(name: str) -> dict[str, str]:
    """Version and hashes of an engine, and of what was learnt of a person; empty for one that is not installed
    or not to be read."""
    if not is_here(name):
        return {}
    try:
        recipe = recipe_named(name)
    except (InputError, UsageError):  # a person's file that was changed meanwhile does not fail a film that is whole
        return {}
    found = {"version": recipe.version, "weights_sha256": recipe.weights.sha256, "recipe_sha256": recipe.digest}
    return (
        found
        if recipe.learned is None
        else found | {"learnt_of": recipe.learned.name, "learnt_sha256": recipe.learned.digest}
    )


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
