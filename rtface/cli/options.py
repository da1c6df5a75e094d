"""Command-line parameters, generated from the declarations of `rtface.options`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from rtface.options import GROUPS, OPTIONS, Option
from rtface.util import parse

_TITLES = {key: (group.__doc__ or "").partition(":")[0] for group in GROUPS for key in group.__dataclass_fields__}


class GroupedHelp(TyperCommand):
    """A command whose ``--help`` lists its options by group."""

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


def takes_options(*names: str, **more: dict[str, Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command a parameter for each of these options, in place of its parameter ``flags``.

    The command gets ``flags``, a dict of the values that were given, as text, by name of the option.

    Args:
        names: of `rtface.options.OPTIONS`.
        more: further arguments of `typer.Option`, by name of the option.
    """
    parameters = [_parameter(OPTIONS[name], more.get(name, {})) for name in names]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def call(**arguments: Any) -> None:
            given = {name: arguments.pop(name) for name in names}
            command(**arguments, flags={key: value for key, value in given.items() if value is not None})

        own = list(inspect.signature(command, eval_str=True).parameters.values())
        place = [parameter.name for parameter in own].index("flags")
        own[place:place + 1] = parameters
        call.__signature__ = inspect.Signature(own)  # type: ignore[attr-defined]  # typer reads it
        return call
    return decorate


def _parameter(option: Option, more: dict[str, Any]) -> inspect.Parameter:
    kind: Any = str
    metavar: str | None = option.metavar or option.check.metavar
    flags = option.flags
    if option.check is parse.boolean:
        kind, metavar = bool, None
        flags = (f"{option.flag}/--no-{option.flag.removeprefix('--')}",)
    elif option.check is parse.path:
        kind = Path
    elif option.check is parse.names:
        kind = list[str]
    if option.check.words:
        more = {"autocompletion": _completion(option.check.words)} | more
    annotation = Annotated[kind | None, typer.Option(
        *flags, metavar=metavar, help=option.help, rich_help_panel=_TITLES[option.name], **more)]
    return inspect.Parameter(option.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _completion(words: tuple[str, ...]) -> Callable[[str], list[str]]:
    def matching(incomplete: str) -> list[str]:
        return [word for word in words if word.startswith(incomplete)]
    return matching
