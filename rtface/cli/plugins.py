"""``rtface plugins``: lists all extensions and whether they work here."""

from __future__ import annotations

from dataclasses import asdict

from rtface.cli.command import Json, command
from rtface.cli.console import print_json, print_text


@command()
def plugins(*, json: Json = False) -> None:
    """List all extensions of rtface, their distribution and state."""
    from rtface.util.plugins import extensions

    all_extensions = list(extensions())
    if json:
        print_json([asdict(one) for one in all_extensions], indent=2)
        return
    rows = [(one.kind, one.name, f"{one.distribution} {one.version}".strip(), one.unusable) for one in all_extensions]
    widths = [max(len(row[k] or "") for row in rows) for k in range(3)]
    for kind, name, owner, unusable in rows:
        state = "ok" if unusable is None else f"not here: {unusable}"
        print_text(f"{kind:{widths[0]}}  {name:{widths[1]}}  {owner:{widths[2]}}  {state}")
