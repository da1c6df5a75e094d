"""Films as jobs: the flags of ``rtface run``, and the command ``status``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rtface.cli.command import Json, command
from rtface.cli.console import print_json, print_table, print_text
from rtface.util.parse import format_clock

if TYPE_CHECKING:
    from rtface.jobs import JobStatus

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
    """Show what is finished of a job, who works on it, and the time left."""
    from rtface.jobs.folder import JobFolder
    from rtface.jobs.status import read_status

    found = read_status(JobFolder(folder))
    if json:
        print_json(found.to_dict())
        return
    print_text(*_lines(found))
    if found.workers:
        print_table(
            [
                ("segment", "done", "frames"),
                *((str(at.segment), f"{at.seconds:.0f} s", str(at.frames)) for at in found.workers),
            ]
        )


def _lines(found: JobStatus) -> list[str]:
    share = found.done_s / found.duration_s if found.duration_s else 1.0
    times = dict.fromkeys(map(format_clock, found.time_left_range_s or ()))  # one, where both are the same second
    left = f", {' to '.join(times)} left" if times else ""
    return [
        f"{found.input} -> {found.output}",
        f"{found.state}: {found.finished} of {found.segments} segments, {share:.0%}{left}",
    ]
