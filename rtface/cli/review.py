"""``rtface review``: what of an output is worth a look, the most doubtful first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from rtface.cli.command import Json, command
from rtface.cli.console import Console, print_json, print_table
from rtface.config.option_sources import LoadedOptions
from rtface.util.parse import format_time
from rtface.util.text import counted


def _file(what: str) -> Any:
    return typer.Option(metavar="FILE", show_default=False, help=what)


@command("overwrite")
def review(
    output: Annotated[
        Path, typer.Argument(metavar="OUT", show_default=False, help="A film, still or folder that rtface wrote.")
    ],
    *,
    report: Annotated[Path | None, _file("The report of that run; without it the sidecar next to OUT is read.")] = None,
    count: Annotated[int, typer.Option(metavar="N", min=1, help="List so many places at most.")] = 40,
    csv: Annotated[Path | None, _file("Write the places as a table, which 'rtface run --shots' reads.")] = None,
    edl: Annotated[Path | None, _file("Write them as an EDL with locators.")] = None,
    otio: Annotated[Path | None, _file("Write them as markers of an OpenTimelineIO file.")] = None,
    json: Json = False,
    load: Callable[[], LoadedOptions],
    console: Console,
) -> None:
    """List the corrections that are worth a look, the most doubtful first, by what the run noted in sidecar or report.

    The list says what is likely wrong, not what is: nothing of it was compared with a truth.
    """
    from rtface.media.files.outputs import OutputPath, check_outputs
    from rtface.media.files.workfile import write_text
    from rtface.trust.review import read_review
    from rtface.trust.sidecar import sidecar_path

    found = read_review(output, report)
    places, wanted = found.places[:count], {"csv": csv, "edl": edl, "otio": otio}
    named = {name: path for name, path in wanted.items() if path is not None}
    written = [OutputPath(path, f"--{name}") for name, path in named.items()]
    read = [output, report or sidecar_path(output)]
    targets = check_outputs(written, inputs=read, overwrite=load().options.overwrite)
    for name, target in zip(named, targets, strict=True):
        write_text(target, found.as_list(name, places))
        console.log(f"{target.path} written: {counted(len(places), 'place')}")
    if json:
        print_json(found.to_dict(places), indent=2)
    elif places:
        print_table([["DOUBT", "AT", "TIMECODE", "TRACK", "WHY"], *(_cells(found.row(place)) for place in places)])
    else:
        console.log(f"{output}: nothing was corrected")
    if len(places) < len(found.places):
        console.log(f"{len(found.places) - len(places)} more places are less doubtful (--count)")


def _cells(row: dict[str, Any]) -> list[str]:
    at = row["image"] or format_time(row["at_s"])
    track = f"{row['track']} ({row['person']})" if row["person"] else str(row["track"])
    return [f"{row['doubt']:.2f}", at, row["timecode"], track, ", ".join(row["reasons"])]
