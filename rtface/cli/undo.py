"""``rtface undo``: takes a kept correction back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from rtface.cli.command import FAILED, Json, command
from rtface.cli.console import Console, print_json, step_status
from rtface.cli.signals import StopRequest
from rtface.config.option_sources import LoadedOptions
from rtface.errors import UsageError
from rtface.util.parse import parse_time


@command("codec", "crf", "preset", "overwrite")
def undo(
    film: Annotated[
        str, typer.Argument(metavar="FILM", show_default=False, help=("What a run with --keep-correction wrote."))
    ],
    correction: Annotated[
        str, typer.Argument(metavar="CORRECTION", show_default=False, help=("The .mkv that the same run kept."))
    ],
    output: Annotated[str, typer.Argument(metavar="OUTPUT", show_default=False, help="The film to write.")],
    start: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help=("Take the correction back from this time of FILM on; frames before it stay.")
        ),
    ] = None,
    end: Annotated[
        str | None,
        typer.Option(metavar="TIME", help=("Take the correction back up to this time of FILM; frames after it stay.")),
    ] = None,
    *,
    json: Json = False,
    load: Callable[[], LoadedOptions],
    console: Console,
    stop: StopRequest,
) -> None:
    """Take a correction back: write FILM with the frames that its input had.

    From a lossless FILM they come back to the bit. OUTPUT keeps the coding of FILM; sound and all other streams are
    copied.
    """
    from rtface.stats import Stats
    from rtface.trust.undo import undo as take_back

    options = load().options
    done = take_back(
        Path(film),
        Path(correction),
        Path(output),
        encode=options,
        overwrite=options.overwrite,
        start=_time(start, "--start"),
        end=_time(end, "--end"),
        stats=Stats(),
        doing=step_status(console, Path(output).name),
        stop=stop.event.is_set,
    )
    console.clear()
    for note in done.notes:
        console.log(note)
    text = f"{output}: the correction was taken back from {done.taken_back} of {done.frames} frames"
    if done.lossless:
        text += f"; {done.exact} of them are the input's to the bit"
        if not done.output_lossless:
            text += f", and {done.encoder} changed them a little"
    elif done.psnr_db is not None:
        text += (
            f"; {film} is lossy, its samples are {done.psnr_db:g} dB (PSNR, estimated) from those that were "
            "encoded, and so are these from the input's"
        )
    failed = done.lossless and done.exact < done.taken_back
    console.log(text, "error" if failed else "info")
    if json:
        print_json(asdict(done))
    raise typer.Exit(FAILED if failed else 0)


def _time(text: str | None, flag: str) -> float | None:
    try:
        return None if text is None else parse_time(text)
    except ValueError:
        raise UsageError(
            "{flag} {value}: give seconds or HH:MM:SS.mmm", code="time_form", flag=flag, value=text
        ) from None
