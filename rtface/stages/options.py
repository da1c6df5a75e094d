"""Parses ``--stage NAME:key=value,…``, and makes the stage. A stage is a dataclass of options."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtface.errors import Message, RtfaceError, UsageError, reason
from rtface.redaction import shown
from rtface.stages.entry_points import load_stage
from rtface.util import parse as v
from rtface.util import plugins
from rtface.util.install import plugin_line
from rtface.util.paths import expanded
from rtface.util.spelling import hint

_BOUND = 1e9
_FILES = ("file", "font")
"""Names of options that are files, whatever their check."""
# A comma separates options only before another option, so that texts may contain commas.
_SEPARATOR = re.compile(r"(?<!\\),(?=\s*[A-Za-z][\w-]*=)")


def option(
    default: Any = dataclasses.MISSING, help: str = "", check: Callable[[object, str], object] | None = None
) -> Any:
    """Declares a field that is an option: ``text: str = option("AI", "what it says")``.

    Args:
        default: default in the form that a user would write; without one, the option is required.
        help: text for ``--stage NAME:help``.
        check: function that converts a value or raises UsageError (`rtface.util.parse` has many); without it, the type
            of the default decides.
    """
    return dataclasses.field(default=default, metadata={"help": help, "check": check, "option": True})


def state(factory: Any) -> Any:
    """Declares a field that is not an option: ``seen: dict[int, float] = state(dict)``."""
    return dataclasses.field(default_factory=factory, init=False, repr=False)


@dataclass(frozen=True, slots=True)
class Spec:
    """Holds one parsed ``--stage``.

    Attributes:
        name: name of the stage.
        values: values set by the user, by key; None for ``NAME:help``.
    """

    name: str
    values: dict[str, str] | None

    @classmethod
    def parse(cls, text: str) -> Spec:
        """Parses ``NAME``, ``NAME:help`` or ``NAME:key=value,key=value``.

        A comma is part of a value, unless ``key=`` follows it; ``\\,`` is always part of a value.

        Raises:
            UsageError: the text has another format, or a duplicate key.
        """
        name, _, options = text.partition(":")
        name, options = name.strip(), options.strip()
        if not name:
            raise UsageError(
                "{--stage:{value!r}}: start with a name, as in label:text=Hello; {--stage} help lists the stages",
                code="stage_form",
                value=text,
            )
        if options == "help":
            return cls(name, None)
        values: dict[str, str] = {}
        for part in _SEPARATOR.split(options) if options else ():
            key, equals, value = part.partition("=")
            key = key.strip().replace("-", "_")
            if not equals:
                # Secrets are hidden only in a complete URL, so no part of it is shown.
                part = part.strip() if "://" not in text else shown(text)
                raise UsageError("{--stage:{name}}: {part!r} is not key=value", code="stage_key", name=name, part=part)
            if key in values:
                raise UsageError("{--stage:{name}}: {key} appears twice", code="stage_key_twice", name=name, key=key)
            values[key] = value.strip().replace("\\,", ",")
        return cls(name, values)


def make_stage(spec: Spec) -> Any:
    """Makes the stage of a spec.

    Raises:
        UsageError: no such stage, an unknown key, an invalid value; also for ``NAME:help``, with the list of keys.
        MissingComponent: the stage cannot be loaded.
    """
    kind = load_stage(spec.name)
    if spec.values is None:
        raise UsageError(described(spec.name))
    fields = _options(kind)
    values: dict[str, Any] = {}
    for key, value in spec.values.items():
        if key not in fields:
            suggestion = f"{hint(key, fields)}; the stage has {', '.join(fields)}" if fields else "; the stage has none"
            raise UsageError(
                "{--stage:{name}}: {key} is not an option{hint}",
                code="stage_option",
                name=spec.name,
                key=key,
                hint=suggestion,
            )
        values[key] = _convert(
            fields[key], value, Message("{--stage:{name}}: {key}", code="stage_key_of", name=spec.name, key=key)
        )
    check_needed(spec)
    for key, field in fields.items():
        if key not in values and isinstance(field.default, str):
            values[key] = _convert(
                field, field.default, Message("{--stage:{name}}: {key}", code="stage_key_of", name=spec.name, key=key)
            )
    try:
        return kind(**values)
    except RtfaceError as error:
        raise UsageError("{--stage:{name}}: {why}", code="stage_value", name=spec.name, why=error) from error
    except Exception as error:
        raise UsageError(
            "{--stage:{name}} cannot be created: {why}", code="stage_unmade", name=spec.name, why=reason(error)
        ) from error


def check_needed(spec: Spec) -> None:
    """Raises UsageError if a required option is missing. Otherwise raises like `make_stage`."""
    for key, field in _options(load_stage(spec.name)).items():
        needed = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if needed and key not in (spec.values or {}):
            raise UsageError(
                "{--stage:{name}} needs {option}=…: {help}",
                code="overlay_needs",
                name=spec.name,
                option=key,
                help=_help(field) or Message("see {--stage:NAME:help}", code="stage_help"),
            )


def described(name: str) -> str:
    """Returns help for a stage and its options. For "help", lists the installed stages. Raises like `make_stage`."""
    if name == "help":
        installed = plugins.installed("stage")
        if not installed:
            return f"no stage is installed; install some with: {plugin_line('rtface-overlays')}"
        return "\n".join(f"{stage:<12} {summary(stage)}" for stage in installed)
    kind = load_stage(name)
    lines = [f"{name}: {summary(name)}"]
    for key, field in _options(kind).items():
        default = "needed" if field.default is dataclasses.MISSING else _as_text(field.default)
        lines.append(f"  {key + '=' + default:<24} {_help(field)}".rstrip())
    return "\n".join(lines)


def summary(name: str) -> str:
    """Describes a stage in one line. Raises MissingComponent if it cannot be loaded."""
    return (load_stage(name).__doc__ or "").strip().split("\n")[0]


def option_facts(name: str) -> list[dict[str, Any]]:
    """Returns a stage's options, for forms. Keys: "name", "help", "kind" ("number", "flag", "words", "file" or "text"),
    "words" (the accepted ones), "default" (as a user would write it), and "needed". Raises like `make_stage`."""
    facts: list[dict[str, Any]] = []
    for key, field in _options(load_stage(name)).items():
        needed, check = field.default is dataclasses.MISSING, field.metadata.get("check")
        words, default = list(getattr(check, "words", ())), None if needed else field.default
        kind = (
            "flag"
            if isinstance(default, bool)
            else "words"
            if words
            else "file"
            if check is v.path or isinstance(default, Path) or key in _FILES
            else "number"
            if isinstance(default, int | float)
            else "text"
        )
        facts.append(
            {
                "name": key,
                "help": _help(field),
                "kind": kind,
                "words": words,
                "needed": needed,
                "default": _as_text(default),
            }
        )
    return facts


def file_options(text: str) -> dict[str, str]:
    """Returns the options of a ``--stage`` that are files, by key.

    Raises:
        UsageError: no stage of that name is installed, or the text cannot be parsed.
    """
    spec = Spec.parse(text)
    if spec.name not in (names := sorted(plugins.installed("stage"))):
        raise UsageError(
            "{name}: there is no such overlay; choose one of {names}",
            code="no_overlay",
            name=spec.name[:40],
            names=", ".join(names) or "none",
        )
    return _files(spec)


def absolute(text: str) -> str:
    """Makes the file names of a ``--stage`` absolute. Raises UsageError and MissingComponent like `make_stage`."""
    spec = Spec.parse(text)
    values = {key: str(expanded(value, text).absolute()) for key, value in _files(spec).items() if value}
    return (
        text
        if not values
        else f"{spec.name}:"
        + ",".join(f"{key}={value}".replace(",", "\\,") for key, value in ((spec.values or {}) | values).items())
    )


def _files(spec: Spec) -> dict[str, str]:
    files = {one["name"] for one in option_facts(spec.name) if one["kind"] == "file"}
    return {key: value for key, value in (spec.values or {}).items() if key in files}


def check_without_files(text: str) -> None:
    """Raises UsageError for missing stages and for stages with a file option."""
    for key, value in file_options(text).items():
        raise UsageError(
            "{key}={value}: a stage that reads a file must be specified when the run starts",
            code="stage_file",
            key=key,
            value=value[:60],
        )


def _options(kind: Any) -> dict[str, dataclasses.Field[Any]]:
    if not dataclasses.is_dataclass(kind):
        return {}
    return {field.name: field for field in dataclasses.fields(kind) if field.init}


def _help(field: dataclasses.Field[Any]) -> str:
    return str(field.metadata.get("help", ""))


def _as_text(value: object) -> str:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _convert(field: dataclasses.Field[Any], text: str, display_name: str) -> object:
    check = field.metadata.get("check")
    if check is not None:
        return check(text, display_name)
    default = field.default
    if isinstance(default, bool):
        return v.boolean(text, display_name)
    if isinstance(default, int | float):
        return v.number(-_BOUND, _BOUND, whole=isinstance(default, int))(text, display_name)
    return v.path(text, display_name) if isinstance(default, Path) else text
