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
    """Show what a file says about itself: credentials (C2PA), XMP, IPTC, tags, and what rtface wrote. Whether that is
    true only credentials and sidecars can show: 'rtface verify'."""
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
        codes.append(0 if found.read else FAILED)
    raise typer.Exit(FAILED if any(codes) else 0)


def _lines(found: Inspected) -> list[str]:
    none, silent, unsaid = ("none", "says nothing", "not said") if found.read else ("not read",) * 3
    lines = [found.file, "  C2PA: " + ("no credentials" if found.credentials is None else found.lines[0])]
    lines += [f"    {line}" for line in found.lines[1:]]
    lines.append(f"  digital source type: {found.source_type or unsaid}")
    made = ", ".join(f"{name}={text}" for name, text in found.rtface.items() if name != "digital_source_type")
    lines.append(f"  rtface: {made or silent}")
    if found.sidecar is not None:
        changes = ", ".join(found.sidecar["changes"] or ["nothing was changed"])
        lines.append(
            f"  sidecar: rtface {found.sidecar['rtface']}, {found.sidecar['finished']}, {changes}"
            + (", signed" if found.sidecar["signed"] else "")
        )
    for title, values in (("XMP", found.xmp), ("IPTC", found.iptc), ("tags", found.tags)):
        lines.append(f"  {title}: " + ("" if values else none))
        lines += [f"    {name}: {' '.join(text.split())[:300]}" for name, text in sorted(values.items())]
    return [line.rstrip() for line in lines] + [f"  note: {note}" for note in found.notes]
