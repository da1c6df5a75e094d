"""``rtface engines``: lists the installed engines with licence and speed."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from rtface.cli.command import FAILED, Json, command
from rtface.cli.console import Console, print_json, print_table
from rtface.config.option_sources import LoadedOptions

if TYPE_CHECKING:
    from rtface.engine.listing import EngineInfo

app = typer.Typer(rich_markup_mode=None)


@app.callback(invoke_without_command=True)
@command("device", "threads", "commercial_use")
def engines(
    context: typer.Context,
    measure: Annotated[
        bool, typer.Option("--measure/--no-measure", help=("Time each engine now, or show the last measured times."))
    ] = True,
    *,
    json: Json = False,
    loaded: LoadedOptions,
    console: Console,
) -> None:
    """List the engines with kind, licence, size, speed and faults."""
    if context.invoked_subcommand is not None:
        return
    options = loaded.options
    from rtface.engine.listing import list_engines
    from rtface.util.install import reinstall_line

    rows = list_engines(
        measure=measure, device=options.device, threads=options.threads, commercial_use=options.commercial_use
    )
    if json:
        print_json([asdict(row) for row in rows], indent=2)
    elif rows:
        print_table(
            [
                ["ENGINE", "KIND", "LICENCE", "COMMERCIAL USE", "CROP", "WEIGHTS", "SPEED", "FROM", "WHAT"],
                *map(_cells, rows),
            ]
        )
    broken = [row for row in rows if row.fault is not None]
    for row in broken:
        console.log(f"engine {row.name}: {row.fault}", "error")
    if not rows:
        console.log("no engine is installed; repair this with: " + reinstall_line(), "error")
    raise typer.Exit(FAILED if broken or not rows else 0)


def _cells(row: EngineInfo) -> list[str]:
    speed = f"{row.ms:.1f} ms a face ({row.device} {row.precision})" if row.ms is not None else "not measured"
    return [
        row.name + (" (default)" if row.default else ""),
        row.family,
        row.licence,
        "allowed" if row.commercial_use else "forbidden",
        f"{row.size} px",
        "faulty" if row.fault else f"{row.bytes / 1e6:.1f} MB",
        speed,
        row.origin,
        row.summary,
    ]
