"""Defines the common parts of all commands: flags, options, error messages and exit codes."""

from __future__ import annotations

import ctypes
import functools
import inspect
import os
import signal
import sys
import traceback
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
from typer.core import TyperCommand

from rtface.cli.console import Console, discard_output, log_to, print_text
from rtface.cli.signals import INTERRUPTED, StopRequest, stop_on_signals
from rtface.concurrency.threads import start_thread
from rtface.config.option_sources import load
from rtface.config.options import GROUPS, OPTIONS, Option
from rtface.errors import Interrupted, Message, RtfaceError, UsageError, message_of
from rtface.util import parse

FAILED, USAGE = 1, 2
Json = Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")]

_LISTS = (parse.names, parse.persons, parse.streams)
_TITLES = {key: (group.__doc__ or "").partition(":")[0] for group in GROUPS for key in group.__dataclass_fields__}
_CONFIG = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="Read options from this TOML file.")]
_VERBOSE = Annotated[
    int, typer.Option("-v", "--verbose", count=True, show_default=False, help="Print decisions; -vv prints everything.")
]
_QUIET = Annotated[bool, typer.Option("-q", "--quiet", help="Print only errors.")]
_EVENTS = Annotated[
    int | None,
    typer.Option(
        "--events",
        metavar="FD",
        show_default=False,
        help=("Write events as lines of JSON to this file descriptor (2 is stderr), instead of text."),
    ),
]


class GroupedHelp(TyperCommand):
    """Lists a command's options by group in its ``--help``."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            title = "Arguments" if parameter.param_type_name == "argument" else "Options"
            if record is not None:
                sections.setdefault(getattr(parameter, "rich_help_panel", None) or title, []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


def command(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Makes a function a command, with ``-v``, ``-q`` and options. Errors become messages and exit codes.

    The function may have the keyword parameters ``console`` (the `Console`), ``stop`` (the `StopRequest` that the first
    signal sets) and ``loaded`` (the options).

    Args:
        names: options of `rtface.config.options.OPTIONS` that the command accepts. With any, it also accepts
            ``--config``.
    """
    generated = [
        *(_parameter(OPTIONS[name]) for name in names),
        *([_keyword("config", _CONFIG, None)] if names else []),
        _keyword("verbose", _VERBOSE, 0),
        _keyword("quiet", _QUIET, False),
        _keyword("events", _EVENTS, None),
    ]

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        parameters = inspect.signature(function, eval_str=True).parameters

        @functools.wraps(function)
        def call(
            *, verbose: int, quiet: bool, events: int | None, config: Path | None = None, **arguments: Any
        ) -> None:
            flags = {name: value for name in names if (value := arguments.pop(name)) is not None}
            console = Console(-1 if quiet else verbose, _open_events(events), events=events is not None)
            with ExitStack() as stack:
                stop = stack.enter_context(stop_on_signals()) if "stop" in parameters else None
                stack.enter_context(_boundary(console, stop))
                if os.environ.pop("RTFACE_STUDIO_PARENT", ""):  # the studio or the tray icon keeps a pipe to stdin open
                    start_thread("parent", _end_with_parent, stop)
                _check_names(parameters, arguments)
                extra_arguments: dict[str, object] = {"console": console, "stop": stop}
                if "loaded" in parameters:
                    extra_arguments["loaded"] = load(flags, config=config)
                function(**arguments, **{name: value for name, value in extra_arguments.items() if name in parameters})

        visible = [parameter for name, parameter in parameters.items() if name not in ("console", "stop", "loaded")]
        call.__signature__ = inspect.Signature([*visible, *generated])  # type: ignore[attr-defined]  # typer reads it
        return call

    return decorate


def _end_with_parent(stop: StopRequest | None) -> None:
    """Ends the command when its parent has died. Otherwise a camera would stay on, or an analysis would continue."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGCONT, 0, 0, 0)  # PR_SET_PDEATHSIG: a halted command must notice, too
    while os.read(0, 1):
        pass
    if stop is None:
        os.kill(os.getpid(), signal.SIGTERM)
    else:
        stop.event.set()


def _check_names(parameters: Mapping[str, inspect.Parameter], arguments: Mapping[str, object]) -> None:
    """Raises UsageError for an empty argument, which would mean the current folder."""
    for name, parameter in parameters.items():
        metavars = [
            one.metavar or name
            for one in getattr(parameter.annotation, "__metadata__", ())
            if isinstance(one, typer.models.ArgumentInfo)
        ]
        value = arguments.get(name)
        if metavars and not metavars[0].startswith("--") and (value == "" or (isinstance(value, list) and "" in value)):
            raise UsageError(
                "{what}: the name is empty; check that the shell variable is set",
                code="name_empty",
                what=metavars[0],
            )


def _open_events(events: int | None) -> TextIO | None:
    if events is None:
        return None
    try:
        os.write(events, b"")  # raises OSError now if it is not open for writing
        return os.fdopen(events, "w", encoding="utf-8", closefd=False)
    except (OSError, OverflowError):
        raise typer.BadParameter(f"{events} is not open for writing", param_hint="--events") from None


def _keyword(name: str, annotation: Any, default: object) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _parameter(option: Option) -> inspect.Parameter:
    flags, check = option.flags, option.check
    metavar: str | None = option.metavar or check.metavar
    kind: Any = Path if check is parse.path else list[str] if check in _LISTS else str
    if check is parse.boolean:
        kind, metavar = bool, None
        flags = (f"{option.flag}/--no-{option.flag.removeprefix('--')}",)
    annotation = Annotated[
        kind | None,
        typer.Option(
            *flags,
            metavar=metavar,
            help=option.help,
            rich_help_panel=_TITLES[option.name],
            autocompletion=_make_completer(option),
            callback=_explain_stage if option.name == "stages" else None,
            is_eager=option.name == "stages",
        ),
    ]
    return _keyword(option.name, annotation, None)


def _explain_stage(specs: list[str] | None) -> list[str] | None:
    """Handles ``--stage help`` and ``--stage NAME:help``, which need no other argument."""
    from rtface.stages.options import described

    for text in specs or ():
        name, _, argument = text.partition(":")
        if argument.strip() == "help" or text == "help":
            try:
                print_text(*described(name.strip()).split("\n"))
            except RtfaceError as error:
                raise typer.Exit(explain(error, Console(0))) from None
            raise typer.Exit
    return specs or None


def _make_completer(option: Option) -> Callable[[str], list[str]] | None:
    def complete(incomplete: str) -> list[str]:
        candidates = option.check.words
        if option.name == "engine":
            from rtface.engine.recipe import find_recipes

            candidates = ("auto", "default", *find_recipes())
        return [candidate for candidate in candidates if candidate.startswith(incomplete)]

    return complete if option.check.words or option.name == "engine" else None


def explain(error: BaseException, console: Console, *, signum: int | None = None) -> int:
    """Writes a line about an error, and returns the exit code. For faults of rtface itself, ``-v`` adds a traceback."""
    if isinstance(error, KeyboardInterrupt):
        error = error if isinstance(error, Interrupted) else Interrupted()
        console.log(message_of(error), "error")
        return INTERRUPTED + (signum or error.signum)
    if isinstance(error, RtfaceError) or (isinstance(error, OSError) and error.filename is not None):
        console.log(message_of(error), "error")
        return USAGE if isinstance(error, UsageError) else FAILED
    if isinstance(error, MemoryError):
        console.log(
            Message(
                "not enough memory; try fewer {--threads}, a smaller {--max-faces} or a smaller input", code="memory"
            ),
            "error",
        )
        return FAILED
    if console.verbosity > 0:
        console.log("".join(traceback.format_exception(error)), "error", lines=True)
    console.log(
        Message(
            "this is a fault of rtface or a plugin ({what}); please report it with the output of the same command with "
            "-v and of 'rtface doctor --json'",
            code="fault",
            what=f"{type(error).__name__}: {message_of(error)}",
        ),
        "error",
    )
    return FAILED


@contextmanager
def _boundary(console: Console, stop: StopRequest | None) -> Generator[None]:
    """Converts exceptions of a command to a line and an exit code."""
    with log_to(console):
        try:
            yield
        except typer.Exit:
            raise
        except typer.Abort:  # Ctrl-C at a question, or the end of input
            raise typer.Exit(explain(KeyboardInterrupt(), console)) from None
        except BrokenPipeError:
            discard_output(sys.stdout)
            raise typer.Exit(FAILED) from None
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the one place that writes errors
            raise typer.Exit(explain(error, console, signum=stop.signum if stop else None)) from None
        finally:
            console.clear()
