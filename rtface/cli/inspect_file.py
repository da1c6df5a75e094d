"""``rtface inspect``: what files say about themselves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rtface.cli.command import FAILED, Json, command, explain
from rtface.cli.console import Console, print_json, print_text
from rtface.errors import RtfaceError

if TYPE_CHECKING:
    from rtface.trust.inspection import Inspected


@command()
def inspect(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", show_default=False, help="Films or stills.")],
    *,
    json: Json = False,
    console: Console,
) -> None:
    """Show what a file says about itself: credentials (C2PA), the marks of rtface, and its sidecar. Whether that is
    true 'rtface verify' checks; exiftool shows all other tags."""
    from rtface.trust.inspection import inspect_file

    codes: list[int] = []
    for name in files:
        try:
            found = inspect_file(Path(name))
        except RtfaceError as error:
            if len(files) == 1:
                raise
            codes.append(explain(error, console))
            if json:
                print_json({"file": name, "error": " ".join(str(error).split())})
            continue
        if json:
            print_json(found.to_dict())
        else:
            print_text(*_lines(found))
    raise typer.Exit(FAILED if any(codes) else 0)


def _lines(found: Inspected) -> list[str]:
    first, *rest = found.lines or ["no credentials"]
    lines = [found.file, f"  C2PA: {first}", *(f"    {line}" for line in rest)]
    lines.append(f"  digital source type: {found.source_type or 'not said'}")
    made = ", ".join(f"{name}={text}" for name, text in found.rtface.items() if name != "digital_source_type")
    lines.append(f"  rtface: {made or 'says nothing'}")
    if found.sidecar is not None:
        changes = ", ".join(found.sidecar["changes"] or ["nothing was changed"])
        lines.append(
            f"  sidecar: rtface {found.sidecar['rtface']}, {found.sidecar['finished']}, {changes}"
            + (", signed" if found.sidecar["signed"] else "")
        )
    return lines + [f"  note: {note}" for note in found.notes]
