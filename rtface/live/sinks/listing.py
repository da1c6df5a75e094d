"""List of what a live run can read and write, with the sinks of plugins."""

from __future__ import annotations

from dataclasses import replace

from rtface import plugins
from rtface.live.devices.listing import sources
from rtface.live.protocols import MediaDevice


def devices() -> tuple[list[MediaDevice], list[plugins.Extension]]:
    """All sources and targets that can be queried, and the sinks that cannot be used here. Opens devices for the query,
    never starts one."""
    found, unusable = [*sources()], list[plugins.Extension]()
    for sink in plugins.extensions("sink"):
        targets, fault = (None, None) if sink.unusable else plugins.ask("sink", sink.name, "list")
        found += targets or ()
        if sink.unusable or fault:
            unusable.append(replace(sink, unusable=sink.unusable or fault))
    return found, unusable
