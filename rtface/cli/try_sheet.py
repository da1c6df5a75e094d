"""``rtface try``: a contact sheet of the most telling faces, restored by several engines and strengths."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from rtface.cli import early_checks
from rtface.cli.command import Json, command
from rtface.cli.console import Console, SteadyStatus, print_json, print_text
from rtface.cli.signals import StopRequest
from rtface.config.option_sources import LoadedOptions
from rtface.config.options import OPTIONS, Options, Scope, check_scope
from rtface.errors import UsageError
from rtface.util import parse
from rtface.util.text import counted
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
    "scale",
    "timecode",
    "overwrite",
)
"""The options of a run that a sheet takes, too."""
_STRENGTHS = "0.5,1"


@command(*TRIED)
def try_sheet(
    input: Annotated[str, typer.Argument(metavar="INPUT", show_default=False, help="A film, a still or a folder.")],
    output: Annotated[
        Path | None,
        typer.Argument(
            metavar="SHEET.png",
            show_default=False,
            help="The image to write. Without it INPUT's name with .try.png, in this folder.",
        ),
    ] = None,
    *,
    engines: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...",
            show_default=False,
            help=("Engines to compare. Without it the default engine, and the light one at full strength."),
        ),
    ] = None,
    strengths: Annotated[
        str | None,
        typer.Option(metavar="0..1,...", show_default=False, help=("Strengths to compare. Without it 0.5 and 1.")),
    ] = None,
    count: Annotated[int, typer.Option(metavar="N", min=1, max=40, help="How many faces to show.")] = 6,
    json: Json = False,
    loaded: LoadedOptions,
    console: Console,
    stop: StopRequest,
) -> None:
    """Show a few faces of a film before and after, for several engines and strengths, on one image.

    The worst and the largest faces are found by seeking, those that gain most come first. It ends with the command that
    enhances the whole film.
    """
    options, source = loaded.options, place(input)
    early_checks.check_inputs([source])
    pairs = parse_variants(engines, strengths, options.engine)
    for engine in dict.fromkeys(name for name, _ in pairs):
        early_checks.check_names(Options.of({"engine": engine}))
    from rtface.contact_sheet.restore import Variant
    from rtface.contact_sheet.sheet import make_sheet, row_label, write_sheet
    from rtface.media.files.image_names import is_image
    from rtface.media.files.outputs import OutputPath, check_outputs
    from rtface.pipeline.plan import is_stills_job
    from rtface.pipeline.proposals import little_seen, proposals

    stills = isinstance(source, Path) and (is_stills_job(source, "sheet/", options) or is_image(source))
    check_scope(loaded.given, options, Scope.STILLS if stills else Scope.FILM)
    (target,) = check_outputs([OutputPath(_sheet(source, output))], inputs=[source], overwrite=options.overwrite)
    variants, show = tuple(Variant(*pair) for pair in pairs), SteadyStatus(console)
    sheet = make_sheet(
        source, options, variants, count, stop=stop.event, status=lambda line: show(f"{source.name}: {line}")
    )
    write_sheet(sheet, source, options, variants, target)
    console.clear()
    for note in sheet.notes:
        console.log(note)
    # Nearest to a run without options: the first engine with the highest strength.
    usual = max((one for one in variants if one.engine == variants[0].engine), key=lambda one: one.strength)
    line, corrected = _command_line(input, source, loaded, usual.engine, usual.strength), sheet.rows[0].corrected
    hint = "" if corrected else f"a run changes none of these faces ({row_label(sheet.rows[0])[-1]})"
    tracks = [next(iter(row.tracks.values())) for row in sheet.rows]
    proposed = proposals(
        [track for track in tracks if track is not None],
        engine=options.engine,
        look=options.look_name,
        scale=options.scale,
    )
    if json:
        found = {
            "sheet": str(target.path),
            "command": line,
            "variants": [{"engine": one.engine, "strength": one.strength} for one in variants if corrected],
            "hint": hint,
        }
        print_json(found, indent=2)
        return
    console.log(f"{target.path} written: {counted(len(sheet.rows), 'face')}")
    for text in filter(None, (hint, *little_seen(proposed))):
        console.log(text)
    print_text(line)


def parse_variants(engines: str | None, strengths: str | None, default: str) -> list[tuple[str, float]]:
    """Engines and strengths of the columns.

    Args:
        engines, strengths: values of the options, separated by commas; None where they were not given.
        default: the engine of a run with these settings.

    Raises:
        UsageError: a strength outside 0 to 1.
    """
    from rtface.engine.engine_set import DEFAULT, LIGHT

    values: list[Any] = [parse.share(text.strip(), "--strengths") for text in (strengths or _STRENGTHS).split(",")]
    usual = DEFAULT if default == "default" else default
    names = [name.strip() for name in (engines or usual).split(",")]
    pairs = [(name, value) for name in names for value in values]
    if engines is None and usual != LIGHT:
        pairs += [(LIGHT, value) for value in (values if strengths else values[-1:])]
    return pairs


def _sheet(source: Path | Address, output: Path | None) -> Path:
    """The image to write; UsageError for a name of another kind."""
    if output is None or output.is_dir():
        output = (output or Path()) / f"{source.stem or 'sheet'}.try.png"
    if output.suffix.lower() != ".png":
        wanted = output.with_suffix(".png")
        raise UsageError("{output}: a sheet is a PNG; name it {name}", code="sheet_name", output=output, name=wanted)
    return output


def _command_line(named: str, source: Path | Address, loaded: LoadedOptions, engine: str, strength: float) -> str:
    """The command line that enhances the whole input, with the options that were given."""
    from rtface.cli.run import output_name

    if isinstance(source, Path) and source.is_dir():
        output = f"{source.resolve().name}.enhanced/"
    else:
        name = Path(output_name(source))
        output = f"{name.stem}.enhanced{name.suffix}"
    words = ["rtface", "run", named, output, "--engine", engine, "--strength", f"{strength:g}"]
    for key in (key for key in loaded.sources if key in loaded.given and key != "overwrite"):
        flag, value = OPTIONS[key].flag, getattr(loaded.options, key)
        if isinstance(value, bool):
            words.append(flag if value else f"--no-{flag.removeprefix('--')}")
        elif value is not None:
            timed = key in ("start", "end") and isinstance(value, float)
            words += [flag, parse.format_time(value) if timed else str(value)]
    return shlex.join(words)
