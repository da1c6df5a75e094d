"""``rtface try``: a contact sheet of the most telling faces, restored by several engines and strengths."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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

if TYPE_CHECKING:
    from rtface.contact_sheet.restore import Variant
    from rtface.contact_sheet.sheet import Sheet

TRIED = (
    "look",
    "fidelity",
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

_STRENGTHS = (0.5, 1.0)


@command(*TRIED)
def try_sheet(
    input: Annotated[str, typer.Argument(metavar="INPUT", show_default=False, help="A film, a still or a folder.")],
    output: Annotated[
        Path | None,
        typer.Argument(
            metavar="SHEET",
            show_default=False,
            help=(
                "The image to write, and a page of the same name: sheet.png makes sheet.png and sheet.html. Without it "
                "INPUT's name in this folder."
            ),
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
    invented: Annotated[
        bool,
        typer.Option(
            "--invented",
            help=("Show for each engine what was invented, too: how far each sample may be from the truth."),
        ),
    ] = False,
    count: Annotated[int, typer.Option(metavar="N", min=1, max=40, help="How many faces to show.")] = 6,
    budget: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", min=1, max=86_400, help=("Time that it may take; with less time fewer faces are shown.")
        ),
    ] = 45.0,
    json: Json = False,
    load: Callable[[], LoadedOptions],
    console: Console,
    stop: StopRequest,
) -> None:
    """Show a few faces of a film before and after, for several engines and strengths, on one sheet.

    The worst and the largest faces are found by seeking, those that gain most come first. The
    sheet is an image and a page with a slider for each face. It ends with the command that enhances the whole film.
    """
    began = time.monotonic()
    loaded = load()
    options = loaded.options
    source = place(input)
    early_checks.check_inputs([source])
    pairs = parse_variants(engines, strengths, options.engine)
    if invented:
        from rtface.pipeline.plan import check_invented

        check_invented(replace(options, show="invented"))
    for engine in dict.fromkeys(name for name, _ in pairs):
        early_checks.check_names(Options.of({"engine": engine}))
    from rtface.contact_sheet.restore import Variant
    from rtface.contact_sheet.sheet import SheetOptions, make_sheet, write_sheet
    from rtface.media.files.image_names import is_image
    from rtface.media.files.outputs import OutputPath, check_outputs
    from rtface.pipeline.plan import is_stills_job
    from rtface.stats import Stats

    stills = isinstance(source, Path) and (is_stills_job(source, "sheet/", options) or is_image(source))
    check_scope(loaded.given, options, Scope.STILLS if stills else Scope.FILM)
    image, html = sheet_names(source, output)
    targets = check_outputs(
        [OutputPath(image), OutputPath(html, "the page")], inputs=[source], overwrite=options.overwrite
    )
    variants = [Variant(engine, strength) for engine, strength in pairs]
    if invented:
        variants += [
            Variant(engine, max(value for name, value in pairs if name == engine), invented=True)
            for engine in dict.fromkeys(name for name, _ in pairs)
        ]
    variants = tuple(variants)
    show = SteadyStatus(console)
    sheet = make_sheet(
        source,
        options,
        SheetOptions(variants, count, max(1.0, budget - (time.monotonic() - began))),
        stats=Stats(),
        stop=stop.event,
        status=lambda line: show(f"{source.name}: {line}"),
    )
    line = CommandLine(input, source, loaded)
    write_sheet(sheet, source, options, variants, targets[0], targets[1], line)
    console.clear()
    for note in sheet.notes:
        console.log(note)
    _finish(sheet, image, html, line, variants, console, json=json)


def _finish(
    sheet: Sheet,
    image: Path,
    html: Path,
    line: CommandLine,
    variants: tuple[Variant, ...],
    console: Console,
    *,
    json: bool,
) -> None:
    from rtface.contact_sheet.labels import row_label
    from rtface.contact_sheet.restore import usual
    from rtface.pipeline.proposals import little_seen, proposals

    run, corrected = line(usual(variants)), sheet.rows[0].corrected
    options, tracks = line.options, [next(iter(row.tracks.values())) for row in sheet.rows]
    seen = [track for track in tracks if track is not None]
    hint = "" if corrected else f"a run changes none of these faces ({row_label(sheet.rows[0])[-1]})"
    proposed = proposals(seen, engine=options.engine, look=options.look, scale=options.scale)
    if json:
        print_json(
            {
                "sheet": str(image),
                "page": str(html),
                "seconds": round(sheet.seconds, 2),
                "command": run,
                "variants": [
                    {"engine": one.engine, "strength": one.strength}
                    for one in variants
                    if corrected and not one.invented
                ],
                "hint": hint,
                "proposals": [one.to_dict() for one in proposed],
                "faces": [
                    {
                        "time_s": round(row.shown.time, 3),
                        "label": row_label(row),
                        "verdict": track and track.verdict.to_dict(),
                    }
                    for row, track in zip(sheet.rows, tracks, strict=True)
                ],
            },
            indent=2,
        )
        return
    console.log(f"{image} and {html} written: {counted(len(sheet.rows), 'face')}, {sheet.seconds:.0f} s")
    for said in (hint, *little_seen(proposed)):
        if said:
            console.log(said)
    print_text(run)


def parse_variants(engines: str | None, strengths: str | None, default: str) -> list[tuple[str, float]]:
    """Engines and strengths of the columns.

    Args:
        engines, strengths: values of the options, separated by commas; None where they were not given.
        default: the engine of a run with these settings.

    Raises:
        UsageError: an empty list, a strength outside 0 to 1, or more than 12 columns.
    """
    from rtface.engine.engine_set import DEFAULT, LIGHT

    values = list(dict.fromkeys(_strength(text) for text in _listed(strengths, "--strengths"))) or list(_STRENGTHS)
    names = list(dict.fromkeys(_listed(engines, "--engines")))
    if names:
        pairs = [(name, value) for name in names for value in values]
    else:
        own = DEFAULT if default == "default" else default
        pairs = [(own, value) for value in values]
        pairs += [(LIGHT, value) for value in (values if strengths else values[-1:]) if own != LIGHT]
    if len(pairs) > _COLUMNS:
        raise UsageError(
            "{count} columns are more than the {most} that fit on a sheet; give fewer --engines or --strengths",
            code="sheet_columns",
            count=len(pairs),
            most=_COLUMNS,
        )
    return pairs


_COLUMNS = 12


def _listed(text: str | None, flag: str) -> list[str]:
    if text is None:
        return []
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        raise UsageError(
            "{flag} must be values separated by commas, not {value!r}", code="list_value", flag=flag, value=text
        )
    return parts


def _strength(text: str) -> float:
    value = parse.share(text, "--strengths")
    assert isinstance(value, float | int)
    return float(value)


def sheet_names(source: Path | Address, output: Path | None) -> tuple[Path, Path]:
    """The files of a sheet: the image and the page; UsageError for a name of another kind."""
    if output is None:
        output = Path(f"{source.stem or 'sheet'}.try.png")
    elif output.is_dir():
        output = output / f"{source.stem or 'sheet'}.try.png"
    if output.suffix.lower() not in (".png", ".html"):
        raise UsageError(
            "{output}: a sheet is an image and a page: name it {name}.png",
            code="sheet_name",
            output=output,
            name=output.name,
        )
    return output.with_suffix(".png"), output.with_suffix(".html")


class CommandLine:
    """The command line that enhances the whole input as a variant does, with the options that were given, and what
    the administrator's policy asks for."""

    def __init__(self, named: str, source: Path | Address, loaded: LoadedOptions) -> None:
        self.options = loaded.options
        self._given: Mapping[str, object] = {
            key: getattr(loaded.options, key) for key in loaded.given if key != "overwrite"
        }
        self._input, self._output = named, _output(source)

    def __call__(self, variant: Variant) -> str:
        from rtface.trust.enforce import required_flags

        words = [
            "rtface",
            "run",
            self._input,
            self._output,
            "--engine",
            variant.engine,
            "--strength",
            f"{variant.strength:g}",
        ]
        for key, value in self._given.items():
            flag = OPTIONS[key].flag
            if isinstance(value, bool):
                words.append(flag if value else f"--no-{flag.removeprefix('--')}")
            elif value is not None:
                words += [
                    flag,
                    parse.format_time(value) if key in ("start", "end") and isinstance(value, float) else str(value),
                ]
        words += ["--show", "invented"] if variant.invented else []
        return shlex.join([*words, *required_flags()])


def _output(source: Path | Address) -> str:
    """A name for the enhanced input, that is not there yet."""
    from rtface.cli.run import output_name

    if isinstance(source, Path) and source.is_dir():
        return f"{source.resolve().name}.enhanced/"
    name = Path(output_name(source))
    return f"{name.stem}.enhanced{name.suffix}"
