"""``rtface captions``: the closed captions of a film as a file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from rtface.cli.command import command
from rtface.cli.console import Console
from rtface.config.option_sources import LoadedOptions


@command("overwrite")
def captions(
    film: Annotated[str, typer.Argument(metavar="FILM", show_default=False, help="A film with captions.")],
    output: Annotated[str, typer.Argument(metavar="OUTPUT", show_default=False, help="The .scc file to write.")],
    *,
    load: Callable[[], LoadedOptions],
    console: Console,
) -> None:
    """Write the closed captions (CEA-608) of FILM into a Scenarist file (.scc), for outputs that cannot hold them."""
    from rtface.media.read.captions import write_captions

    done = write_captions(film, output, overwrite=load().options.overwrite)
    console.log(f"{output}: {done.lines} line{'s' * (done.lines != 1)} of captions, from {done.first} to {done.last}")
