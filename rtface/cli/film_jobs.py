"""Films as jobs: the flags of ``rtface run``, and the command ``status``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rtface.cli.command import Json, command
from rtface.cli.console import print_json, print_text

_Folder = Annotated[
    Path,
    typer.Argument(metavar="JOB", show_default=False, help=("Folder of a job: OUTPUT.rtface, or what --job named.")),
]


Workers = Annotated[
    str | None,
    typer.Option(
        metavar="N|auto",
        show_default="1",
        help=("Processes that work on a film at the same time."),
    ),
]
JobFolder = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        show_default="OUTPUT.rtface",
        help=("Keep what is finished of a film in this folder until all of it is."),
    ),
]
Restart = Annotated[
    bool, typer.Option("--restart", help=("Begin a film again, instead of continuing where the last run of it ended."))
]
FarmAddress = Annotated[
    str | None,
    typer.Option(
        metavar="dask://HOST:PORT",
        help=("Let the workers of a Dask cluster make a film; they see its folder and the INPUT under the same path."),
    ),
]


@command()
def status(folder: _Folder, *, json: Json = False) -> None:
    """Show what is finished of a job, and whether a process works on it."""
    from rtface.jobs.folder import JobFolder
    from rtface.jobs.status import read_status

    found = read_status(JobFolder(folder))
    if json:
        print_json(found.to_dict())
        return
    share = found.done_s / found.duration_s if found.duration_s else 1.0
    print_text(
        f"{found.input} -> {found.output}",
        f"{found.state}: {found.finished} of {found.segments} segments, {share:.0%}",
    )
