"""``rtface plugins``: every extension, rtface's own and those of plugins, and whether it can be used here."""

from __future__ import annotations

from dataclasses import asdict

from rtface.cli.command import Json, command
from rtface.cli.console import print_json, print_text


@command()
def plugins(*, json: Json = False) -> None:
    """List backends, trackers, sources, sinks, stages, engines and plugins' commands, and where they come from."""
    from rtface.util.plugins import extensions

    found = list(extensions())
    if json:
        print_json([asdict(one) for one in found], indent=2)
        return
    rows = [(one.kind, one.name, f"{one.distribution} {one.version}".strip(), one.unusable) for one in found]
    widths = [max(len(row[k] or "") for row in rows) for k in range(3)]
    for kind, name, owner, unusable in rows:
        state = "ok" if unusable is None else f"not here: {unusable}"
        print_text(f"{kind:{widths[0]}}  {name:{widths[1]}}  {owner:{widths[2]}}  {state}")
