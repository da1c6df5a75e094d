"""``rtface inspect``: shows the provenance data that files contain."""

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
    """Show a file's credentials (C2PA), rtface tags and sidecar. 'rtface verify' checks them; exiftool shows all other
    tags."""
    from rtface.trust.inspection import inspect_file

    codes: list[int] = []
    for name in files:
        try:
            info = inspect_file(Path(name))
        except RtfaceError as error:
            if len(files) == 1:
                raise
            codes.append(explain(error, console))
            if json:
                print_json({"file": name, "error": " ".join(str(error).split())})
            continue
        if json:
            print_json(info.to_dict())
        else:
            print_text(*_lines(info))
    raise typer.Exit(FAILED if any(codes) else 0)


def _lines(info: Inspected) -> list[str]:
    first, *rest = info.lines or ["no credentials"]
    lines = [info.file, f"  C2PA: {first}", *(f"    {line}" for line in rest)]
    lines.append(f"  digital source type: {info.source_type or 'not stated'}")
    tags = ", ".join(f"{name}={text}" for name, text in info.rtface.items() if name != "digital_source_type")
    lines.append(f"  rtface: {tags or 'no tags'}")
    if info.sidecar is not None:
        changes = ", ".join(info.sidecar["changes"] or ["nothing was changed"])
        lines.append(
            f"  sidecar: rtface {info.sidecar['rtface']}, {info.sidecar['finished']}, {changes}"
            + (", signed" if info.sidecar["signed"] else "")
        )
    return lines + [f"  note: {note}" for note in info.notes]
