"""Flags of ``rtface run`` and ``rtface queue add`` for films as jobs."""

from __future__ import annotations

from typing import Annotated

import typer

Workers = Annotated[
    str | None,
    typer.Option(
        metavar="N|auto",
        show_default="1",
        help=("Processes that work on a film at the same time."),
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
