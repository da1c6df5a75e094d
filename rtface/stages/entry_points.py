"""Stages by name: plugins of the registry, or a class in a module that can be imported."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any

from rtface import plugins
from rtface.errors import UsageError
from rtface.util.install import plugin_line
from rtface.util.spelling import hint

API = 1
"""The version of the stage interface (`rtface.stages.Stage`) that this rtface speaks."""


def load_stage(name: str) -> Any:
    """The class of a stage.

    Args:
        name: of an entry point; or, with a dot in it, of a class in a module that can be imported ("mine.Frame").

    Raises:
        UsageError: there is none of that name, or it was written for another version of the interface.
        MissingComponent: it is there and cannot be imported.
    """
    installed = plugins.installed("stage")
    if name in installed:
        point = installed[name]
    elif "." in name:
        module, _, attribute = name.rpartition(".")
        point = EntryPoint(name, f"{module}:{attribute}", plugins.GROUPS["stage"])
    else:
        raise UsageError(_unknown(name, list(installed)))
    kind = plugins.load_point("stage", point)
    check_version(name, kind)
    return kind


def check_stage(name: str) -> None:
    """UsageError for a name that no installed stage has, nor a class in a module could have; nothing is imported."""
    if name != "help" and "." not in name and name not in (installed := plugins.installed("stage")):
        raise UsageError(_unknown(name, list(installed)))


def _unknown(name: str, installed: list[str]) -> str:
    if not installed:
        return f"there is no stage {name}: none is installed; some come with: {plugin_line('rtface-overlays')}"
    return (f"there is no stage {name}{hint(name, installed)}; installed are "
            f"{', '.join(installed)} (a class of your own is named with its module, as mine.{name.title()})")


def check_version(name: str, kind: Any) -> None:
    """UsageError for what is no stage, or one for another version of the interface."""
    version = getattr(kind, "api", None)
    if not callable(kind) or not isinstance(version, int):
        raise UsageError(f"{name} is not a stage: it needs to be a class with api = {API} (docs/stages.md)")
    if version > API:
        raise UsageError(f"the stage {name} wants version {version} of the stage interface and this rtface has {API}: "
                         "update rtface")
    if version < API:
        raise UsageError(f"the stage {name} was written for version {version} of the stage interface and this rtface "
                         f"has {API}: update what brings the stage")
