"""Stages that other distributions bring: found by their entry points in the group ``rtface.stages``."""

from __future__ import annotations

import importlib
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from rtface.errors import MissingComponent, UsageError, reason
from rtface.util.install import plugin_line
from rtface.util.parse import hint

GROUP = "rtface.stages"
API = 1
"""The version of the stage interface (`rtface.protocols.Stage`) that this rtface speaks."""


def find_stages() -> dict[str, EntryPoint]:
    """What is installed, by name; nothing of it is imported. Of two with one name the first on the path counts."""
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        found.setdefault(point.name, point)
    return dict(sorted(found.items()))


def load_stage(name: str) -> Any:
    """The class of a stage.

    Args:
        name: of an entry point; or, with a dot in it, of a class in a module that can be imported ("mine.Frame").

    Raises:
        UsageError: there is none of that name, or it was written for another version of the interface.
        MissingComponent: it is there and cannot be imported.
    """
    installed = find_stages()
    if name in installed:
        point = installed[name]
    elif "." in name:
        module, _, attribute = name.rpartition(".")
        point = EntryPoint(name, f"{module}:{attribute}", GROUP)
    else:
        raise UsageError(_unknown(name, list(installed)))
    try:
        importlib.invalidate_caches()
        kind = point.load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever a plugin does when it is imported, sys.exit() included
        owner = f" of {point.dist.name}" if point.dist else ""
        raise MissingComponent(f"the stage {name}{owner} cannot be loaded from {point.value}: "
                               f"{reason(error)}") from error
    _check_version(name, kind)
    return kind


def check_stage(name: str) -> None:
    """UsageError for a name that no installed stage has, nor a class in a module could have; nothing is imported."""
    if name != "help" and "." not in name and name not in (installed := find_stages()):
        raise UsageError(_unknown(name, list(installed)))


def _unknown(name: str, installed: list[str]) -> str:
    if not installed:
        return f"there is no stage {name}: none is installed; some come with: {plugin_line('rtface-overlays')}"
    return (f"there is no stage {name}{hint(name, installed)}; installed are "
            f"{', '.join(installed)} (a class of your own is named with its module, as mine.{name.title()})")


def _check_version(name: str, kind: Any) -> None:
    version = getattr(kind, "api", None)
    if not callable(kind) or not isinstance(version, int):
        raise UsageError(f"{name} is not a stage: it needs to be a class with api = {API} (docs/stages.md)")
    if version > API:
        raise UsageError(f"the stage {name} wants version {version} of the stage interface and this rtface has {API}: "
                         "update rtface")
    if version < API:
        raise UsageError(f"the stage {name} was written for version {version} of the stage interface and this rtface "
                         f"has {API}: update what brings the stage")
