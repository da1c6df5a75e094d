"""Checks options for all plans, and lists their additional films."""

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
    """Raises UsageError if options or transfer curve make a requested map impossible. With an `input`, also raises if
    they make a requested correction of fading impossible."""
    faults = [
        (options.invented is not None, Message("the map of {--invented} does not show its changes", code="fading_map")),
        (
            input is None or isinstance(input, Address) or is_pipe(input),
            Message("the input must first be searched for fading, but can be read only once", code="fading_once"),
        ),
        (transfer != "sdr", Message("fading is measured in SDR, not in {kind}", code="fading_sdr", kind=transfer)),
    ]
    if (
        options.colour == "restore"
        and input is not None
        and (why := next((reason for applies, reason in faults if applies), None)) is not None
    ):
        raise UsageError("{--colour:restore}: {why}; leave one of them out", code="fading_not", why=why)
    if options.invented is None:
        return
    if options.keyframe not in ("auto", 1):
        raise UsageError(
            "{--invented}: no engine estimates its error between keyframes; omit {--keyframe}",
            code="map_keyframe",
        )
    if transfer != "sdr":
        raise UsageError(
            "{--invented}: errors were measured on SDR only, but the input is {transfer}; omit the option, or convert "
            "the input first",
            code="map_sdr",
            transfer=transfer.upper(),
        )


def further_paths(options: OutputOptions, *, still: bool = False) -> dict[str, OutputPath]:
    """Returns the additional films of a run by name: "comparison", "map".

    Raises:
        UsageError: the extension of the map is not .mkv for a film, or not .png for a still.
    """
    suffix = ".png" if still else ".mkv"
    if (path := options.map_file) is not None and path.suffix.lower() != suffix:
        raise UsageError(
            "{--invented:{path}}: the map of a {kind}; use the extension {name}",
            code="invented_name",
            path=path,
            kind=Message("still is a PNG", code="still_png")
            if still
            else Message("film is Matroska", code="film_matroska"),
            name=suffix,
        )
    paths = {"comparison": (options.compare, "--compare"), "map": (options.map_file, "--invented")}
    return {name: OutputPath(path, flag) for name, (path, flag) in paths.items() if path is not None}
