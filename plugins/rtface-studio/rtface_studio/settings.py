"""Routes for settings: list options with default, value and source; change the settings file."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from rtface.config.option_sources import file_values, load, read_file
from rtface.config.options import GROUPS, OPTIONS, Options, Trait, check, check_key, having, locked, locked_error
from rtface.config.policy import site_path
from rtface.errors import Message, UsageError
from rtface.redaction import shown
from rtface.stages.options import file_options
from rtface.util.paths import config_dir
from rtface.web.http import JsonObject, in_thread, json_body
from rtface_studio.context import Studio
from rtface_studio.folders import write_kept

_writing = threading.Lock()


def routes(studio: Studio) -> list[BaseRoute]:
    """Returns the routes below ``/api/settings``."""

    async def settings(request: Request) -> Response:
        return JSONResponse(await in_thread(all_settings))

    async def change(request: Request) -> Response:
        name, value = request.path_params["name"], (await json_body(request)).get("value")
        if studio.remote and value is not None and name.replace("-", "_") in having(Trait.READS):
            raise UsageError(
                "{name} names files, and other machines may reach this studio; write it into the settings "
                "file of this machine",
                code="setting_files",
                name=name,
            )
        await in_thread(change_setting, name, value)
        return JSONResponse(await in_thread(all_settings))

    return [
        Route("/api/settings", settings),
        Route("/api/settings/{name}", change, methods=["PUT"]),
    ]


def all_settings() -> JsonObject:
    """Lists all options, and the path of the settings file. Rows have "name", "group", "flag", "help", "metavar",
    "values", "default", "value", "source", "locked" and "changeable"; secrets are removed."""
    loaded = load({})
    groups = {
        name: group.__name__.removesuffix("Options").lower() for group in GROUPS for name in group.__dataclass_fields__
    }
    file, fixed = settings_file(), locked()
    rows = [
        {
            "name": name,
            "group": groups[name],
            "flag": option.flag,
            "help": option.help,
            "metavar": option.metavar or option.check.metavar,
            "values": list(option.check.words),
            "default": _shown(option.default, option.unset),
            "value": _shown(getattr(loaded.options, name), option.unset),
            "source": loaded.sources[name],
            "locked": str(site_path()) if name in fixed else None,
            "changeable": Trait.ONCE not in option.traits,
        }
        for name, option in OPTIONS.items()
    ]
    return {
        "file": str(file) if file else None,
        "exists": bool(file and file.is_file()),
        "settings": rows,
        "policies": [str(site_path())] * bool(fixed),
    }


def settings_file() -> Path | None:
    """Returns the user's settings file. None if the system has no folder for it."""
    folder = config_dir()
    return folder / "rtface.toml" if folder else None


def change_setting(name: str, value: object) -> None:
    """Writes a value into the settings file; None removes it. All other lines stay.

    Raises:
        UsageError: the option is unknown; the value cannot be used, alone or with the other values; a secret would be
            lost; or the file cannot be changed line by line.
        OutputError: the file cannot be written.
    """
    key, path = check_key(name, name), settings_file()
    if path is None or Trait.ONCE in OPTIONS[key].traits:
        raise UsageError(
            "{name} is not kept in a settings file; give it to the run, as {flag}",
            code="not_kept",
            name=name,
            flag=OPTIONS[key].flag,
        )
    if key in locked():
        raise locked_error(key)
    if value is not None and not isinstance(value, (str, bool, int, float)):
        raise UsageError("{name}: give the value as text, as the command line takes it", code="as_text", name=name)
    if key == "stages" and value is not None:
        for stage in Options.of({key: value}).stages:
            file_options(stage)  # refuses a class of a module: every later run would import it
    line = None if value is None else f"{key} = {toml_value(check(key, value, name), str(value))}"
    with _writing:
        before = dict(read_file(path)) if path.is_file() else {}
        usable = _usable(before)
        text = path.read_text("utf-8") if path.is_file() else ""
        if isinstance(old := before.pop(key, None), str) and shown(old) != old:
            raise UsageError(
                "{name} holds a password or key, which the page does not show; change it in {path}",
                code="setting_secret",
                name=name,
                path=path,
            )
        changed = _with_line(text, key, line)
        if not _reads_as(changed, path, key, value is not None, before):
            raise UsageError(
                "{path} is written in a way that cannot be changed here; open it and write: {line}",
                code="by_hand",
                path=path,
                line=line or Message("no line with {key}", code="no_line", key=key),
            )
        if usable:  # checks all values together: the page could not revert a change that breaks the file
            Options.of(file_values(changed, path))
        write_kept(path.resolve(), changed.encode(), private=False)  # the path may be a link into another folder


def _usable(values: Mapping[str, object]) -> bool:
    try:
        Options.of(values)
    except UsageError:
        return False
    return True


def _reads_as(text: str, path: Path, key: str, there: bool, others: Mapping[str, object]) -> bool:
    """Tests whether a settings file has exactly `others` and, if `there`, `key`."""
    try:
        values = file_values(text, path)
    except UsageError:
        return False
    return (values.pop(key, None) is not None) == there and values == others


def toml_value(value: object, text: str) -> str:
    """Formats a checked value in TOML. Uses `text` for complex types."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, tuple):
        return json.dumps([str(item) for item in value], ensure_ascii=False)
    return json.dumps(text, ensure_ascii=False)


def _with_line(text: str, key: str, line: str | None) -> str:
    """Replaces the line of a key, appends it, or removes it."""
    lines = text.splitlines()
    pattern = re.compile(rf"\s*[\"']?{re.escape(key).replace('_', '[-_]')}[\"']?\s*=")
    at = next((n for n, old in enumerate(lines) if pattern.match(old)), None)
    if at is not None:
        lines[at : at + 1] = [line] if line is not None else []
    elif line is not None:
        lines.append(line)
    return "\n".join(lines) + ("\n" if lines else "")


def _shown(value: object, unset: str) -> str:
    """Formats a value as a person writes it."""
    if value is None:
        return unset
    if isinstance(value, tuple):
        return "; ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else shown(str(value))
