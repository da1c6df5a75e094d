"""The command line: ``rtface run`` and the commands next to it, which ``rtface --help`` lists.

Nothing heavy is imported before a command needs it, so that ``--version``, ``--help`` and completion answer at once.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from rtface._version import __version__
from rtface.cli import engines, queue
from rtface.cli.analyze import analyze
from rtface.cli.command import GroupedHelp
from rtface.cli.devices import devices
from rtface.cli.doctor import doctor
from rtface.cli.film_jobs import segment, status, work
from rtface.cli.plugins import plugins
from rtface.cli.run import run
from rtface.cli.try_sheet import try_sheet
from rtface.cli.undo import undo
from rtface.cli.verify import verify
from rtface.redaction import redacted
from rtface.util import paths
from rtface.util.text import printable


class _Group(TyperGroup):
    """A command group that writes typer's usage errors without control characters and without secrets."""

    def main(self, *args: Any, standalone_mode: bool = True, **more: Any) -> Any:
        if not standalone_mode:
            return super().main(*args, standalone_mode=False, **more)
        try:
            code = super().main(*args, standalone_mode=False, **more)
        except typer.Abort:
            sys.stderr.write("Aborted!\n")
            sys.exit(1)
        except Exception as error:
            show = getattr(error, "show", None)  # click's exceptions, wherever this version of typer has them
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
app.command(cls=GroupedHelp)(run)
app.command()(work)
app.command()(segment)
app.command()(status)
app.command(cls=GroupedHelp)(analyze)
app.command("try", cls=GroupedHelp)(try_sheet)
app.command(cls=GroupedHelp)(verify)
app.command(cls=GroupedHelp)(undo)
app.add_typer(queue.app, name="queue")
app.add_typer(engines.app, name="engines")
app.command()(devices)
app.command()(plugins)
app.command()(doctor)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"rtface {__version__}")
        raise typer.Exit


@app.callback()
def _root(  # pyright: ignore[reportUnusedFunction]
    version: Annotated[bool, typer.Option(
        "--version", callback=_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    pass


def main() -> None:
    """The ``rtface`` command."""
    # Next to a busy Python thread, PyAV waits a whole switch interval for the GIL at every packet (5 ms by default).
    sys.setswitchinterval(0.0005)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show must not end the run
    try:
        app(prog_name="rtface")
    except SystemExit as end:
        code = end.code
    else:
        code = 0
    if not isinstance(code, int | None):
        sys.exit(code)
    _leave(code or 0)


def _leave(code: int) -> None:
    """Ends the process without freeing networks and libraries, which takes 0.1 s; all files are closed by now."""
    paths.clean()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # a pipe whose reader has gone
            stream.flush()
    os._exit(code)
