"""``rtface engines``: what can restore a face here, under which licence, how fast."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rtface.commands import shared
from rtface.commands.console import print_json, print_table

if TYPE_CHECKING:
    from rtface.engine.service import EngineInfo


def engines(
    context: typer.Context,
    measure: Annotated[bool, typer.Option("--measure/--no-measure", help=(
        "Time each engine now; without, show what was found before."))] = True,
    device: shared.Device = None,
    threads: shared.Threads = None,
    config: shared.Config = None,
    json: shared.Json = False,
    verbose: shared.Verbose = 0,
    quiet: shared.Quiet = False,
) -> None:
    """List the engines: licence, size, speed measured on this machine, and whether their weights are whole."""
    console = shared.console_for(verbose, quiet)
    with shared.boundary(console):
        options = shared.load_options(context, config, console)
        from rtface.doctor import REINSTALL
        from rtface.engine.service import list_engines

        rows = list_engines(measure=measure, device=options.device, threads=options.threads)
        if json:
            print_json([row.to_json() for row in rows], indent=2)
        elif rows:
            print_table([["ENGINE", "LICENCE", "COMMERCIAL", "CROP", "WEIGHTS", "SPEED", "WHAT"], *map(_cells, rows)])
        broken = [row for row in rows if row.fault is not None]
        for row in broken:
            console.say(f"engine {row.name}: {row.fault}", "error")
        if not rows:
            console.say("no engine is installed; repair it with: " + REINSTALL, "error")
        raise typer.Exit(shared.FAILED if broken or not rows else 0)


def _cells(row: EngineInfo) -> list[str]:
    licence = ", ".join(dict.fromkeys((row.licence_code, row.licence_weights)))
    speed = f"{row.ms:.1f} ms a face ({row.device} {row.precision})" if row.ms is not None else "not measured"
    return [row.name + (" (default)" if row.default else ""), licence, "yes" if row.commercial_use else "no",
            f"{row.size} px", "faulty" if row.fault else f"{row.bytes / 1e6:.1f} MB", speed, row.summary]
