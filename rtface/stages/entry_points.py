"""Loads stages by name: registered plugins, or classes of importable modules."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any

from rtface.errors import Message, UsageError
from rtface.util import plugins
from rtface.util.install import plugin_line
from rtface.util.spelling import hint

API = 1
"""This rtface's version of the stage interface (`rtface.stages.Stage`)."""


def load_stage(name: str) -> Any:
    """Loads the class of a stage.

    Args:
        name: name of an entry point or, with a dot in it, of a class in an importable module ("mine.Frame").

    Raises:
        UsageError: there is no stage of that name, or it was written for another version of the interface.
        MissingComponent: the stage exists but cannot be imported.
    """
    installed = plugins.installed("stage")
    point = _entry_point(name, installed)
    if point is None:
        raise UsageError(_unknown(name, list(installed)))
    kind = plugins.load_point("stage", point)
    check_version(name, kind)
    return kind


def stage_version(name: str) -> dict[str, str] | None:
    """Identifies the version of an installed stage without importing it: `distribution` and `version`. Returns None for
    another stage.

    Args:
        name: see `load_stage`.
    """
    point = _entry_point(name, plugins.installed("stage"))
    if point is None or point.dist is None:
        return None
    return {"distribution": point.dist.name, "version": point.dist.version}


def _entry_point(name: str, installed: dict[str, EntryPoint]) -> EntryPoint | None:
    if name in installed or "." not in name:
        return installed.get(name)
    module, _, attribute = name.rpartition(".")
    return EntryPoint(name, f"{module}:{attribute}", plugins.GROUPS["stage"])


def check_stage(name: str) -> None:
    """Raises UsageError for a name without a stage or module. Imports nothing."""
    if name != "help" and "." not in name and name not in (installed := plugins.installed("stage")):
        raise UsageError(_unknown(name, list(installed)))


def _unknown(name: str, installed: list[str]) -> Message:
    if not installed:
        return Message(
            "there is no stage {name}, because none is installed; install some with: {repair}",
            code="stages_none",
            name=name,
            repair=plugin_line("rtface-overlays"),
        )
    return Message(
        "there is no stage {name}{hint}; installed are {names} (write a class of your own with its module, as "
        "mine.{title})",
        code="stage_none",
        name=name,
        hint=hint(name, installed),
        names=", ".join(installed),
        title=name.title(),
    )


def check_version(name: str, kind: Any) -> None:
    """Raises UsageError unless `kind` is a stage for this interface version."""
    version = getattr(kind, "api", None)
    if not callable(kind) or not isinstance(version, int):
        raise UsageError(
            "{name} is not a stage: it must be a class with api = {api} (docs/stages.md)",
            code="stage_class",
            name=name,
            api=API,
        )
    if version != API:
        raise UsageError(
            "the stage {name} uses version {version} of the stage interface, but this rtface has version {api}: update "
            "the older of the two",
            code="stage_version",
            name=name,
            version=version,
            api=API,
        )
