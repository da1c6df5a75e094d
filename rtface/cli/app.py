"""Runs the command line: ``rtface run`` and the other commands of ``rtface --help``.

Heavy modules are imported only when a command needs them, so that ``--version``, ``--help`` and completion are fast.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
from collections import UserDict
from typing import Annotated, Any

import typer

from rtface._version import VERSION_LINE
from rtface.cli.plugin_commands import CommandGroup, Commands, as_command
from rtface.redaction import redacted
from rtface.util import paths
from rtface.util.text import printable

_COMMANDS = {
    "run": "run:run",
    "analyze": "analyze:analyze",
    "try": "try_sheet:try_sheet",
    "damage": "damage:damage",
    "camera-test": "camera_test:camera_test",
    "verify": "verify:verify",
    "inspect": "inspect_file:inspect",
    "queue": "queue:app",
    "engines": "engines:app",
    "devices": "devices:devices",
    "plugins": "plugins:plugins",
    "doctor": "doctor:doctor",
}
"""Module of `rtface.cli` and name of each command or group, in the order of ``rtface --help``."""


class _BuiltInCommands(UserDict[str, Any]):
    """rtface's own commands by name. The module of a command is imported on access."""

    def __getitem__(self, name: str) -> Any:
        module, _, attribute = super().__getitem__(name).partition(":")
        return as_command(name, getattr(importlib.import_module(f"rtface.cli.{module}"), attribute))


class _Group(CommandGroup):
    """Groups all commands. Typer's usage errors are shown without control characters and secrets."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        vars(self)["commands"] = Commands(_BuiltInCommands(_COMMANDS))

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        if not standalone_mode:
            return super().main(*args, standalone_mode=False, **extra)
        try:
            code = super().main(*args, standalone_mode=False, **extra)
        except typer.Abort:
            sys.stderr.write("Aborted!\n")
            sys.exit(1)
        except Exception as error:
            show = getattr(error, "show", None)  # click's exceptions, from whichever module typer uses
            if show is None:
                raise
            message = io.StringIO()
            show(file=message)
            sys.stderr.write(redacted(printable(message.getvalue(), lines=True)))
            sys.exit(getattr(error, "exit_code", 2))
        sys.exit(code if isinstance(code, int) else 0)


app = typer.Typer(
    name="rtface",
    cls=_Group,
    help="Enhance faces in films, stills and streams, and nothing else in them.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(requested: bool) -> None:
    if requested:
        typer.echo(VERSION_LINE)
        raise typer.Exit


@app.callback()
def _root(  # pyright: ignore[reportUnusedFunction]
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Runs the ``rtface`` command."""
    # While another Python thread is busy, PyAV waits a whole switch interval for the GIL at each packet (usually 5 ms).
    sys.setswitchinterval(0.0005)
    try:
        app(prog_name="rtface")
    except SystemExit as end:
        code = end.code
    else:
        code = 0
    if not isinstance(code, int | None):
        sys.exit(code)
    paths.clean()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # the reader of a pipe has closed it
            stream.flush()
    os._exit(code or 0)  # saves the 0.1 s for freeing networks; all files are closed
