"""``rtface try``: makes a contact sheet of faces restored by several engines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rtface.cli import early_checks
from rtface.cli.command import Json, command
from rtface.cli.console import Console, SteadyStatus, print_json, print_text
from rtface.cli.signals import StopRequest
from rtface.config.option_sources import LoadedOptions
from rtface.config.options import OPTIONS, Options, Scope, check_scope
from rtface.errors import UsageError
from rtface.util import parse
from rtface.util.text import counted, shell_line
from rtface.util.urls import Address, place

TRIED = (
    "look",
    "commercial_use",
    "keyframe",
    "grain",
    "region",
    "device",
    "threads",
    "tracker",
    "max_faces",
    "correct",
    "start",
    "end",
    "colour",
    "repair",
    "scale",
    "timecode",
    "overwrite",
)
"""Options of a run that also apply to a sheet."""


@command(*TRIED)
def try_sheet(
    input: Annotated[str, typer.Argument(metavar="INPUT", show_default=False, help="A film, a still or a folder.")],
    output: Annotated[
        Path | None,
        typer.Argument(
            metavar="SHEET.png",
            show_default=False,
            help="The image to write. Default: INPUT's name with .try.png, in the current folder.",
        ),
    ] = None,
    *,
    engines: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...",
            show_default=False,
            help=("Engines to compare. Default: the default engine and the light one."),
        ),
    ] = None,
    count: Annotated[int, typer.Option(metavar="N", min=1, max=40, help="Number of faces to show.")] = 6,
    json: Json = False,
    loaded: LoadedOptions,
    console: Console,
    stop: StopRequest,
) -> None:
    """Show faces of a film, restored by several engines, on one image.

    Seeks in the film for the worst and largest faces, and shows first those that benefit most. Then prints the command
    that enhances the whole film.
    """
    options, source = loaded.options, place(input)
    early_checks.check_inputs([source])
    from rtface.engine.engine_set import DEFAULT, LIGHT

    default_engines = dict.fromkeys((DEFAULT if options.engine == "default" else options.engine, LIGHT))
    columns = [name.strip() for name in engines.split(",")] if engines else [*default_engines]
    for engine in columns:
        early_checks.check_names(Options.of({"engine": engine}))
    from rtface.contact_sheet.sheet import make_sheet, row_label, write_sheet
    from rtface.media.files.image_names import is_image
    from rtface.media.files.outputs import OutputPath, check_outputs
    from rtface.pipeline.plan import is_stills_job
    from rtface.pipeline.proposals import little_seen, proposals

    stills = isinstance(source, Path) and (is_stills_job(source, "sheet/", options) or is_image(source))
    check_scope(loaded.given, options, Scope.STILLS if stills else Scope.FILM)
    (target,) = check_outputs([OutputPath(_sheet(source, output))], inputs=[source], overwrite=options.overwrite)
    show_status = SteadyStatus(console)
    sheet = make_sheet(
        source, options, columns, count, stop=stop.event, status=lambda step: show_status(f"{source.name}: {step}")
    )
    write_sheet(sheet, source, options, columns, target)
    console.clear()
    for note in sheet.notes:
        console.log(note)
    line, corrected = _command_line(input, source, loaded, columns[0]), sheet.rows[0].corrected
    hint = "" if corrected else f"a run changes none of these faces ({row_label(sheet.rows[0])[-1]})"
    tracks = [next(iter(row.tracks.values())) for row in sheet.rows]
    run_proposals = proposals(
        [track for track in tracks if track is not None],
        engine=options.engine,
        look=options.look_name,
        scale=options.scale,
    )
    if json:
        summary = {
            "sheet": str(target.path),
            "command": line,
            "engines": columns,
            "hint": hint,
        }
        print_json(summary, indent=2)
        return
    console.log(f"{target.path} written: {counted(len(sheet.rows), 'face')}")
    for text in filter(None, (hint, *little_seen(run_proposals))):
        console.log(text)
    print_text(line)


def _sheet(source: Path | Address, output: Path | None) -> Path:
    """Returns the path of the image. Raises UsageError for a name of another format."""
    if output is None or output.is_dir():
        output = (output or Path()) / f"{source.stem or 'sheet'}.try.png"
    if output.suffix.lower() != ".png":
        png_name = output.with_suffix(".png")
        raise UsageError(
            "{output}: a sheet is a PNG file; write {name} instead", code="sheet_name", output=output, name=png_name
        )
    return output


def _command_line(input_name: str, source: Path | Address, loaded: LoadedOptions, engine: str) -> str:
    """Returns the command line that enhances the whole input with these options."""
    from rtface.cli.film_jobs import output_name

    if isinstance(source, Path) and source.is_dir():
        output = f"{source.resolve().name}.enhanced/"
    else:
        name = Path(output_name(source))
        output = f"{name.stem}.enhanced{name.suffix}"
    arguments = ["rtface", "run", input_name, output, "--engine", engine]
    for key in (key for key in loaded.sources if key in loaded.given and key != "overwrite"):
        flag, value = OPTIONS[key].flag, getattr(loaded.options, key)
        if isinstance(value, bool):
            arguments.append(flag if value else f"--no-{flag.removeprefix('--')}")
        elif value is not None:
            is_time = key in ("start", "end") and isinstance(value, float)
            arguments += [flag, parse.format_time(value) if is_time else str(value)]
    return shell_line(arguments)
