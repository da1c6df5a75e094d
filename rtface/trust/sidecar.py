"""The sidecar of an output, ``OUTPUT.rtface.json``: what was done, and hashes that prove the rest (docs/trust.md)."""

from __future__ import annotations

import json
import platform
import re
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from statistics import fmean
from typing import Any, cast

import av

from rtface._version import __version__
from rtface.analysis.fading import is_curve
from rtface.config.options import OPTIONS, Options, person_photos
from rtface.engine.engine_set import is_here, recipe_named
from rtface.errors import InputError, InputMissing, Interrupted, Message, OutputError, UsageError
from rtface.frame import FadingCurve
from rtface.media.files.file_hashes import sha256_of, share_of_bytes
from rtface.media.files.image_names import list_images
from rtface.media.files.outputs import OutputPath
from rtface.media.files.workfile import Target, full, write_whole
from rtface.media.marks.changed_frames import ChangedFrames
from rtface.media.marks.provenance import Change, own_tags
from rtface.media.read.container import open_container
from rtface.media.read.source import FileSource
from rtface.redaction import redacted_values
from rtface.report import Report
from rtface.trust.checksums import Doing
from rtface.trust.frame_hashes import frame_hashes
from rtface.trust.packet_hashes import PacketHashes, hash_packets
from rtface.trust.signing_key import SigningKey
from rtface.util.foreign import (
    LARGEST,
    Shape,
    check_shape,
    count,
    file_name,
    file_path,
    fits,
    flag,
    fraction,
    none_or,
    number,
    read_regular,
    row,
    table,
    text,
    whole,
)
from rtface.util.parse import is_scale
from rtface.util.toml_dataclass import parse_json
from rtface.util.urls import Address

SUFFIX = ".rtface.json"
"""Added to the output's name."""
FORMAT, VERSION = "rtface sidecar", 1
_MOST_BOXES = 1024  # of a frame
_LEAST, _FOR_A_BYTE = 4 << 20, 16  # bytes of a sidecar, however small the film is; and for each byte of it
# The folders of a file that a stage's option names.
_FOLDERS = re.compile(r"\b((?:file|font|template)=)[^,]*[/\\]")


def _named(value: Any) -> bool:
    """A table of texts."""
    return isinstance(value, dict) and all(text(key) and text(entry) for key, entry in cast("Any", value).items())


_CORNERS, _RANGE = row(whole, whole, whole, whole), row(count, count)


def _range(value: Any) -> bool:
    """First and last of some frames."""
    return _RANGE(value) and value[0] <= value[1]


def _box(value: Any) -> bool:
    """Corners of a box in a frame: numpy counts negative ones from the other side."""
    return _CORNERS(value) and 0 <= value[0] <= value[2] and 0 <= value[1] <= value[3]


def _boxes(value: Any) -> bool:
    """No more than --max-faces can allow, or a film holds: each is searched for a face."""
    return fits(value, [_box]) and len(value) <= _MOST_BOXES


def _name(value: Any) -> bool:
    return value == "" or file_path(value)


_FILES: Shape = {"name": _name, "bytes?": whole, "sha256?": text, "files?": [{"name": file_name, "sha256": text}]}
_SHAPE: Shape = {
    "output": {**_FILES, "lossless": flag},
    "input": {**_FILES, **dict.fromkeys(("start_s?", "end_s?", "first_s?"), none_or(number))},
    "changed": [row(lambda value: whole(value) or text(value), none_or(_boxes))],
    "fading?": table(is_curve),
    "copied?": [_range],
    "options?": {"drop?": [text], "scale?": is_scale, "fields?": lambda value: value in ("tff", "bff", "none")},
    "changes?": [text],
    "treatments?": [{}],
    "finished?": text,
    "engines?": {},
}
_FILM: Shape = {
    "tags": _named,
    "marks": _named,
    "layout?": {
        "aspect?": fraction,
        "format?": text,
        "played?": [row(text, whole)],
        "unseen?": [text],
        "chapters?": [row(number, number, text)],
    },
    "streams": [
        {
            "kind": text,
            "codec": text,
            "packets": whole,
            "md5": text,
            "times?": [number],
            "setup?": text,
            "shown?": [[number]],
        }
    ],
    "frames": {"of": text, "time_base": fraction, "rows": [row(whole, text)]},
}


@dataclass(slots=True)
class Made:
    """What a run made, as far as its sidecar says more of it than the report.

    Attributes:
        changed: what was changed on which frame or still.
        lossless: whether the output holds every sample as the frames had it.
        names: file names of stills, in the order of `changed`.
        plan: what had been decided of a film before the work; empty where that is not known.
        curves: what took the fading out of each still, by name; of a film under "" (`rtface.analysis.fading`).
        copied: numbers of the first and last of the frames whose packets were copied together.
    """

    changed: ChangedFrames = field(default_factory=ChangedFrames)
    lossless: bool = False
    names: list[str] = field(default_factory=list[str])
    plan: dict[str, Any] = field(default_factory=dict[str, Any])
    curves: dict[str, FadingCurve] = field(default_factory=dict[str, FadingCurve])
    copied: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])


def sidecar_path(output: Path) -> Path:
    """Where the sidecar of an output is."""
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
    frames: bool = True,
    key: SigningKey | None = None,
    doing: Doing | None = None,
    stop: Callable[[], bool] | None = None,
) -> str:
    """Writes the sidecar of a finished output.

    Args:
        target: the sidecar, checked.
        output: the film, still or folder of stills.
        input: of the run; of a live one also just its name.
        options, report, made: of the run.
        frames: whether the frames of a film are decoded and hashed; without, its packets are.
        key: signs the sidecar.
        doing: receives progress.
        stop: ends the work once it is true.

    Returns:
        A line for the user.

    Raises:
        Interrupted, InputError, OutputError: there is no sidecar then; the output is whole.
    """
    try:
        values = describe_output(output, input, options, report, made, frames=frames, doing=doing, stop=stop)
        if key is not None:
            values["signature"] = key.sign(to_bytes(values))
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
    return f"{target.path.name}: what was done, and hashes of the rest" + (", signed" if key else "")


def describe_output(
    output: Path,
    input: Path | Address | str,
    options: Options,
    report: Report,
    made: Made,
    *,
    frames: bool = True,
    doing: Doing | None = None,
    stop: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """The values of a sidecar; arguments as for `write_sidecar`."""
    film = output.is_file() and not made.names
    values: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "rtface": __version__,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "output": {**_files(output, made.names if output.is_dir() else (), doing, stop), "lossless": made.lossless},
        "input": {
            **_files(input, None, doing, stop),
            "start_s": options.start,
            "end_s": options.end,
            "first_s": report.first_s,
        },
        "engines": engines_said(report),
        "first_stage": first_stage_said(report),
        "versions": versions(),
        "options": options_said(options),
        **({"plan": made.plan} if made.plan else {}),
        **({"fading": made.curves} if made.curves else {}),
        **({"copied": made.copied} if made.copied else {}),
        "changes": [kind.name.lower() for kind in Change if kind and kind in made.changed.change and kind.name],
        "treatments": [track.to_dict() for track in report.tracks],
        **({"images": {one["name"]: one["tracks"] for one in report.images}} if report.images else {}),
        **({"decisions": [asdict(one) for one in report.decisions]} if report.decisions else {}),
    }
    values = redacted_values(values)
    if film:
        values["marks"], values["tags"] = tags_of(output)
        streams = hash_packets(output, stop=stop)
        values["streams"] = streams_said(streams)
        values["layout"] = layout_of(output)
        base, rows = (
            frame_hashes(output, tick=(lambda done: doing("frames", done)) if doing else None, stop=stop)
            if frames
            else (streams[0].base, sorted(streams[0].rows))
        )
        values["frames"] = {"of": "frames" if frames else "packets", "time_base": str(base), "rows": rows}
    values["changed"] = [[made.names[number] if made.names else number, boxes] for number, boxes in made.changed.rows()]
    return values


def to_bytes(values: dict[str, Any]) -> bytes:
    """A sidecar as text: a line for each value, frame and changed frame."""
    parts: list[str] = []
    for key, value in values.items():
        if key in ("frames", "changed"):
            rows = value if key == "changed" else value["rows"]
            lines = ",\n  ".join(json.dumps(row, separators=(",", ":")) for row in rows)
            head = (
                ""
                if key == "changed"
                else "".join(f"{json.dumps(k)}: {json.dumps(v)}, " for k, v in value.items() if k != "rows")
            )
            text = f"[{lines}]" if key == "changed" else f'{{{head}"rows": [\n  {lines}]}}'
        else:
            text = json.dumps(value)
        parts.append(f" {json.dumps(key)}: {text}")
    return ("{\n" + ",\n".join(parts) + "\n}\n").encode()


def read_sidecar(path: Path, output: Path | None = None) -> dict[str, Any]:
    """The values of a sidecar; that of an `output` is no larger than a film of that size needs.

    Raises:
        InputMissing: it cannot be read.
        InputError: it is no sidecar, is damaged, or is of a later version.
    """
    size = output.stat().st_size if output is not None and output.is_file() else LARGEST
    try:
        data = read_regular(path, min(LARGEST, _LEAST + _FOR_A_BYTE * size))
    except OSError as error:
        raise InputMissing(
            "{path}: cannot be read ({why}); check the name", code="unreadable", path=path, why=error.strerror
        ) from error
    try:
        values = parse_json(data)
        check_shape(values, {"format": lambda value: value == FORMAT, "version": whole, "rtface?": text})
        if values["version"] == VERSION:
            check_shape(values, _SHAPE)
            if len({name for name, _ in values["changed"]}) < len(values["changed"]):
                raise ValueError("changed names a frame twice")
            if "streams" in values:
                check_shape(values, _FILM)
                if len(values["frames"]["rows"]) > sum(one["packets"] for one in values["streams"][:1]):
                    raise ValueError("frames.rows are more than the packets of its picture")
                values["frames"]["rows"] = [tuple(row) for row in values["frames"]["rows"]]
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


def tags_of(film: Path) -> tuple[dict[str, str], dict[str, str]]:
    """What a film says of itself in the names of `rtface.media.marks.provenance.NAMES`, and all its tags, those of a
    stream under "number:name"."""
    with open_container(film) as container:
        tags = dict(container.metadata)
        for stream in container.streams:
            tags |= {f"{stream.index}:{name}": text for name, text in stream.metadata.items()}
        return own_tags(container.metadata), tags


def streams_said(streams: Sequence[PacketHashes]) -> list[dict[str, Any]]:
    """What a sidecar says of the packets of a film. The times are seconds after the first frame: of the first and the
    last packet, and the mean of all; of texts, when each is shown and for how long."""
    begins = min((pts for pts, _ in streams[0].rows), default=0) * streams[0].base
    said: list[dict[str, Any]] = []
    for stream in streams:
        times = [float(pts * stream.base - begins) for pts, _ in stream.rows]
        said.append(
            {
                "kind": stream.kind,
                "codec": stream.codec,
                "packets": len(times),
                "md5": stream.md5,
                "times": [round(time, 3) for time in (min(times), max(times), fmean(times))] if times else [],
                "setup": stream.setup,
            }
        )
        if stream.durations:
            said[-1]["shown"] = [
                [round(time, 3), round(float(duration * stream.base), 3)]
                for time, duration in zip(times, stream.durations, strict=True)
            ]
    return said


def layout_of(film: Path) -> dict[str, Any]:
    """What the container of a film says of the picture and of chapters, which no packet holds."""
    with closing(FileSource(film, threads=1)) as source:
        info = source.info
        return {
            "aspect": str(info.aspect or 1),
            "matrix": info.matrix and list(info.matrix),
            "crop": info.crop and list(info.crop),
            "color": asdict(info.tags),
            "views": info.views,
            "unseen": info.unseen,
            "hdr": info.hdr
            and [
                [round(float(value), 4) for value in values or ()]
                for values in (info.hdr.primaries, info.hdr.luminance, info.hdr.light)
            ],
            "attachments": [list(one.attached) for one in info.streams if one.attached],
            "format": info.format,
            "played": [[one.kind, int(one.disposition)] for one in info.streams if not one.attached],
            "chapters": [
                [
                    *(round(float(time - info.clock_start), 3) for time in (one.start, one.end)),
                    one.metadata.get("title", ""),
                ]
                for one in info.chapters
            ],
        }


def versions() -> dict[str, str]:
    """Versions of what makes the frames of an output."""
    import numpy as np
    import openvino

    found = {
        "rtface": __version__,
        "python": platform.python_version(),
        "system": platform.system(),
        "av": av.__version__,
        "numpy": np.__version__,
        "openvino": openvino.__version__,
    }
    for name in ("libavcodec", "libavformat", "libswscale"):
        found[name] = ".".join(map(str, av.library_versions.get(name, ())))
    return found


def _files(
    path: Path | Address | str, names: Sequence[str] | None, doing: Doing | None, stop: Callable[[], bool] | None
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
        if value != option.default and key not in ("sign", "timestamp"):
            found[key] = value.name if isinstance(value, Path) else str(value) if isinstance(value, Fraction) else value
    if "person" in found:
        found["person"] = list(person_photos(options.person))
    if "stages" in found:
        found["stages"] = [_FOLDERS.sub(r"\1", stage) for stage in options.stages]
    return found
