"""Routes that list all options, and change the settings file."""

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

_file_lock = threading.Lock()


def routes(studio: Studio) -> list[BaseRoute]:
    """Returns the routes below ``/api/settings``."""

    async def settings(request: Request) -> Response:
        return JSONResponse(await in_thread(all_settings))

    async def change(request: Request) -> Response:
        name, value = request.path_params["name"], (await json_body(request)).get("value")
        if studio.remote and value is not None and name.replace("-", "_") in having(Trait.READS):
            raise UsageError(
                "{name} contains file paths and cannot be changed here, because other machines can reach this studio; "
                "edit the settings file of this machine",
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
    "values", "default", "value", "source", "locked" and "changeable". Secrets are removed."""
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
            "default": _format_value(option.default, option.unset),
            "value": _format_value(getattr(loaded.options, name), option.unset),
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
    """Returns the path of the user's settings file. Returns None if the system has no folder for it."""
    folder = config_dir()
    return folder / "rtface.toml" if folder else None


def change_setting(name: str, value: object) -> None:
    """Writes a value into the settings file. None removes it. Keeps all other lines.

    Raises:
        UsageError: the option is unknown; the value is invalid or conflicts with other values; the current value is a
            secret and would be overwritten; or the file cannot be changed line by line.
        OutputError: the file cannot be written.
    """
    key, path = check_key(name, name), settings_file()
    if path is None or Trait.ONCE in OPTIONS[key].traits:
        raise UsageError(
            "{name} cannot be stored in the settings file; pass {flag} on the command line",
            code="not_kept",
            name=name,
            flag=OPTIONS[key].flag,
        )
    if key in locked():
        raise locked_error(key)
    if value is not None and not isinstance(value, (str, bool, int, float)):
        raise UsageError("{name}: the value must be text or a number", code="as_text", name=name)
    if key == "stages" and value is not None:
        for stage in Options.of({key: value}).stages:
            file_options(stage)  # rejects MODULE:CLASS, because every later run would import it
    line = None if value is None else f"{key} = {toml_value(check(key, value, name), str(value))}"
    with _file_lock:
        others = dict(read_file(path)) if path.is_file() else {}
        was_valid = _is_valid(others)
        text = path.read_text("utf-8") if path.is_file() else ""
        if isinstance(old := others.pop(key, None), str) and shown(old) != old:
            raise UsageError(
                "{name} contains a password or key, which the page does not show; change it in {path}",
                code="setting_secret",
                name=name,
                path=path,
            )
        changed = _replace_line(text, key, line)
        if not _contains_exactly(changed, path, key, value is not None, others):
            raise UsageError(
                "{path} has a format that cannot be changed here; edit it so that it contains: {line}",
                code="by_hand",
                path=path,
                line=line or Message("no line with {key}", code="no_line", key=key),
            )
        if was_valid:  # a valid file must stay valid, because the page could not repair it
            Options.of(file_values(changed, path))
        write_kept(path.resolve(), changed.encode(), private=False)  # resolved, because the path may be a link


def _is_valid(values: Mapping[str, object]) -> bool:
    try:
        Options.of(values)
    except UsageError:
        return False
    return True


def _contains_exactly(text: str, path: Path, key: str, key_present: bool, others: Mapping[str, object]) -> bool:
    """Tests whether a settings file contains exactly `others` and, if `key_present`, `key`."""
    try:
        values = file_values(text, path)
    except UsageError:
        return False
    return (values.pop(key, None) is not None) == key_present and values == others


def toml_value(value: object, text: str) -> str:
    """Formats a checked value in TOML. Uses `text` for complex types."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, tuple):
        return json.dumps([str(item) for item in value], ensure_ascii=False)
    return json.dumps(text, ensure_ascii=False)


def _replace_line(text: str, key: str, line: str | None) -> str:
    """Replaces the line of a key, appends it, or removes it."""
    lines = text.splitlines()
    pattern = re.compile(rf"\s*[\"']?{re.escape(key).replace('_', '[-_]')}[\"']?\s*=")
    index = next((n for n, old in enumerate(lines) if pattern.match(old)), None)
    if index is not None:
        lines[index : index + 1] = [line] if line is not None else []
    elif line is not None:
        lines.append(line)
    return "\n".join(lines) + ("\n" if lines else "")


def _format_value(value: object, unset: str) -> str:
    """Formats a value as a user would type it."""
    if value is None:
        return unset
    if isinstance(value, tuple):
        return "; ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else shown(str(value))
