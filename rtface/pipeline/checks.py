"""Checks options for all plans, and lists the further films they name."""

from __future__ import annotations

from pathlib import Path

from rtface.config.options import (
    Options,
    OutputOptions,
)
from rtface.errors import Message, UsageError
from rtface.frame import Transfer
from rtface.media.files.outputs import OutputPath
from rtface.media.read.pipe import is_pipe
from rtface.util.urls import Address


def check_invented(options: Options, transfer: Transfer = "sdr", input: Path | Address | None = None) -> None:
    """Raises UsageError if options or an input's transfer curve allow no map. With an `input` it also raises if they
    allow no correction of fading."""
    faults = [
        (options.invented is not None, Message("its changes are not in the map of {--invented}", code="fading_map")),
        (
            input is None or isinstance(input, Address) or is_pipe(input),
            Message("the input must be searched for fading first, and it can be read only once", code="fading_once"),
        ),
        (transfer != "sdr", Message("fading is measured in SDR, not in {kind}", code="fading_sdr", kind=transfer)),
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
            "{--invented}: no engine estimates its error between keyframes; leave {--keyframe} out",
            code="map_keyframe",
        )
    if transfer != "sdr":
        raise UsageError(
            "{--invented}: errors were measured on SDR only, and the input is {transfer}; leave it out, or convert "
            "the input first",
            code="map_sdr",
            transfer=transfer.upper(),
        )


def further_paths(options: OutputOptions, *, still: bool = False) -> dict[str, OutputPath]:
    """Returns the further films of a run by name: "comparison", "map".

    Raises:
        UsageError: the map of a film is not named as Matroska, or that of a still not as PNG.
    """
    wanted = ".png" if still else ".mkv"
    if (path := options.map_file) is not None and path.suffix.lower() != wanted:
        raise UsageError(
            "{--invented:{path}}: the map of a {kind}; use the extension {name}",
            code="invented_name",
            path=path,
            kind=Message("still is a PNG", code="still_png")
            if still
            else Message("film is Matroska", code="film_matroska"),
            name=wanted,
        )
    paths = {"comparison": (options.compare, "--compare"), "map": (options.map_file, "--invented")}
    return {name: OutputPath(path, flag) for name, (path, flag) in paths.items() if path is not None}
