"""``rtface plugins``: every engine backend, tracker, source, sink and stage, and whether it can be used here."""

from __future__ import annotations

from rtface.cli import shared
from rtface.cli.console import print_json, print_text


def plugins(
    json: shared.Json = False,
    verbose: shared.Verbose = 0,
    quiet: shared.Quiet = False,
) -> None:
    """List engine backends, trackers, sources, sinks, stages and engine packages, and where each comes from."""
    with shared.boundary(shared.console_for(verbose, quiet)):
        from rtface.plugins import extensions

        found = list(extensions())
        if json:
            print_json([one.to_dict() for one in found], indent=2)
            return
        rows = [(one.kind, one.name, f"{one.distribution} {one.version}".strip(), one.unusable) for one in found]
        widths = [max(len(row[k] or "") for row in rows) for k in range(3)]
        for kind, name, owner, unusable in rows:
            state = "ok" if unusable is None else f"not here: {unusable}"
            print_text(f"{kind:{widths[0]}}  {name:{widths[1]}}  {owner:{widths[2]}}  {state}")
