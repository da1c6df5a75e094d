"""Finds a group's commands: rtface's own, and entry points of other distributions.

A plugin's package is imported when its command is called, or listed in the help.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command, get_group

from rtface.errors import MissingComponent, reason
from rtface.util import plugins

DISTRIBUTIONS = {
    **{f"engines.{name}": "rtface-engines" for name in ("add", "merge", "remove", "offers")},
    **dict.fromkeys(("app", "tray"), "rtface-studio"),
    **dict.fromkeys(("learn", "persons"), "rtface-learn"),
}
"""Commands that other distributions of rtface's repository add. A missing distribution is named by its commands."""


def as_command(name: str, target: Any) -> Any:
    """Converts a function to a command, or a typer to a group. Plugins may add commands to the group."""
    from rtface.cli.command import GroupedHelp

    commands = typer.Typer(rich_markup_mode=None, add_completion=False)
    if not isinstance(target, typer.Typer):
        commands.command(name, cls=GroupedHelp)(target)
        return get_command(commands)
    if not isinstance(target.info.cls, type):  # typer's placeholder; a class in the group's callback has precedence
        target.info.cls = CommandGroup
    commands.add_typer(target, name=name)
    group: Any = get_group(commands).commands[name]
    group.commands = Commands(group.commands, f"{name}.")
    return group


class CommandGroup(TyperGroup):
    """Shows the whole first sentence of each command in a group's ``--help``."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        commands = {name: command for name in self.list_commands(ctx) if (command := self.get_command(ctx, name))}
        if lines := [(name, one.get_short_help_str(sys.maxsize)) for name, one in commands.items() if not one.hidden]:
            with formatter.section("Commands"):
                formatter.write_dl(lines)


class Commands(Mapping[str, Any]):
    """Maps names to the commands of a group. rtface's own come first and cannot be replaced.

    Args:
        built_in: rtface's own commands.
        prefix: prefix of the entry points' names: the group's name and a dot; "" outside of groups.
    """

    def __init__(self, built_in: Mapping[str, Any], prefix: str = "") -> None:
        self._built_in, self._prefix = built_in, prefix

    @cached_property
    def _plugin_points(self) -> dict[str, EntryPoint]:
        points = {
            name.removeprefix(self._prefix): point
            for name, point in plugins.installed("command").items()
            if name.startswith(self._prefix)
        }
        return {name: point for name, point in points.items() if "." not in name and name not in self._built_in}

    def __iter__(self) -> Iterator[str]:
        yield from self._built_in
        yield from self._plugin_points

    def __len__(self) -> int:
        return len(self._built_in) + len(self._plugin_points)

    def __getitem__(self, name: str) -> Any:
        if name in self._built_in:
            return self._built_in[name]
        point = self._plugin_points.get(name)
        if "." in name or (point is None and self._prefix + name not in DISTRIBUTIONS):
            raise KeyError(name)
        return _PluginCommand(name, self._prefix + name, point)


class _PluginCommand(TyperCommand):
    """Represents a command of another distribution. `point` is None if the distribution is not installed."""

    def __init__(self, name: str, full_name: str, point: EntryPoint | None) -> None:
        super().__init__(name)
        self._full_name, self._point = full_name, point

    def get_short_help_str(self, limit: int = 45) -> str:
        """Returns the command's help line, or the reason for its absence."""
        try:
            return self._load().get_short_help_str(limit)
        except MissingComponent as error:
            return str(error)

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Returns the context of the actual command."""
        from rtface.cli.command import explain
        from rtface.cli.console import Console

        try:
            command = self._load()
        except MissingComponent as error:
            raise typer.Exit(explain(error, Console())) from None
        return command.make_context(info_name, args, parent, **extra)

    def _load(self) -> Any:
        if self._point is None:
            from rtface.util.install import plugin_line

            command_name, distribution = self._full_name.replace(".", " "), DISTRIBUTIONS[self._full_name]
            raise MissingComponent(
                "rtface {command} comes with a separate distribution, {distribution}; install it with: {repair}",
                code="command_distribution",
                command=command_name,
                distribution=distribution,
                repair=plugin_line(distribution),
            )
        target = plugins.load_point("command", self._point)
        try:
            return as_command(str(self.name), target)
        except Exception as error:  # typer may raise anything for a plugin's object
            raise MissingComponent(
                "the command {command} cannot be loaded from {point}: {why}",
                code="command_unusable",
                command=self._full_name,
                point=self._point.value,
                why=reason(error),
            ) from error
