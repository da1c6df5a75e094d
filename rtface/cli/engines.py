"""``rtface engines``: lists the installed engines with licence and speed; ``build`` makes plans for GPUs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from rtface.cli.command import FAILED, Json, command
from rtface.cli.console import Console, print_json, print_table
from rtface.config.option_sources import LoadedOptions
from rtface.errors import UsageError
from rtface.util.spelling import hint

if TYPE_CHECKING:
    from rtface.engine.listing import EngineInfo
    from rtface.engine.recipe import Recipe
    from rtface.engine.tensorrt import BuiltPlan

app = typer.Typer(rich_markup_mode=None)


@app.callback(invoke_without_command=True)
@command("device", "threads", "commercial_use")
def engines(
    context: typer.Context,
    measure: Annotated[
        bool, typer.Option("--measure/--no-measure", help=("Time each engine now, or show the times measured before."))
    ] = True,
    *,
    json: Json = False,
    loaded: LoadedOptions,
    console: Console,
) -> None:
    """List the engines: kind, licence, size, speed measured on this machine, and whether their weights are intact."""
    if context.invoked_subcommand is not None:
        return
    options = loaded.options
    from rtface.engine.listing import list_engines
    from rtface.util.install import reinstall_line

    rows = list_engines(
        measure=measure, device=options.device, threads=options.threads, commercial_use=options.commercial_use
    )
    if json:
        print_json([row.to_json() for row in rows], indent=2)
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
        console.log("no engine is installed; repair it with: " + reinstall_line(), "error")
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


@app.command()
@command()
def build(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME", help="Engines; all when none is named.")] = None,
    device: Annotated[str, typer.Option(metavar="cuda:N", help="A GPU of this machine.")] = "cuda:0",
    *,
    json: Json = False,
    console: Console,
) -> None:
    """Build engines for an NVIDIA GPU ahead of the first run."""
    built = _build(_recipes(names or []), device, console)
    if json:
        print_json(
            [
                {
                    "engine": b.identity.engine,
                    "device": b.identity.device,
                    "precision": b.identity.precision,
                    "psnr": b.verdict.psnr,
                    "seconds": round(b.seconds, 3),
                    "path": str(b.path),
                }
                for b in built
            ],
            indent=2,
        )
    else:
        print_table([["ENGINE", "FOR", "PRECISION", "PLAN", "TIME", "GOLDEN CROPS"], *map(_row, built)])


def _recipes(names: list[str]) -> list[Recipe]:
    from rtface.engine.recipe import find_recipes, load_recipe

    found = find_recipes()
    for name in names:
        if name not in found:
            raise UsageError(
                "unknown engine {name!r}{hint}; there is: {names}",
                code="engine_not_here",
                name=name,
                hint=hint(name, list(found)),
                names=", ".join(found),
            )
    return [load_recipe(found[name]) for name in names or found]


def _build(recipes: list[Recipe], device: str, console: Console) -> list[BuiltPlan]:
    here = re.fullmatch(r"cuda(?::(\d+))?", device)
    if not here:
        raise UsageError(
            "engines are built on the GPU that runs them, as {--device:cuda:0}, not for {value!r}",
            code="engines_device",
            value=device,
        )
    from rtface.device.cuda.nvidia import NvidiaGpu
    from rtface.engine.cuda import driver
    from rtface.engine.tensorrt import build_on

    number = int(here[1] or 0)
    driver.check(number)
    gpu = NvidiaGpu(number)
    built: list[BuiltPlan] = []
    try:
        for recipe in recipes:
            console.building(recipe.name, 0.0)
            built.append(build_on(recipe, gpu))
    finally:
        console.clear()
        gpu.close()
    return built


def _row(built: BuiltPlan) -> list[str]:
    return [
        built.identity.engine,
        built.identity.device,
        built.identity.precision,
        f"{built.path.stat().st_size / 1e6:.1f} MB",
        f"{built.seconds:.1f} s",
        f"{built.verdict.psnr:.1f} dB",
    ]
