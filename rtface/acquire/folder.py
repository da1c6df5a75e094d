"""The user's folder of engines: a new one is made beside it and moved in whole, an old one moved out first."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

from rtface.engine.recipe import SHIPPED, find_recipes
from rtface.errors import OutputError, UsageError
from rtface.paths import config_dir
from rtface.tables import nearest

_STALE_S = 86_400.0


def engines_folder() -> Path:
    """Where the user's engines are."""
    return config_dir() / "engines"


def check_name(name: str) -> None:
    """Raises UsageError for what no engine of a user's can be called."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}", name):
        raise UsageError(f"{name!r} is no name for an engine: letters, digits and . _ + - only")
    if name in ("auto", "default") or (SHIPPED / name).is_dir():
        raise UsageError(f"an engine cannot be called {name}: rtface has one of that name")


@contextmanager
def making(name: str) -> Generator[Path]:
    """A folder to make an engine in, beside its place and invisible to `find_recipes`; gone afterwards. Raises
    OutputError."""
    beside = engines_folder() / ".adding"
    try:
        beside.mkdir(parents=True, exist_ok=True)
        _sweep(beside)
        around = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=beside))
        made = around / "new"
        made.mkdir()  # in a folder that is this user's alone, one as all others are
    except OSError as error:
        raise OutputError(f"{beside} cannot be written to ({error.strerror}); RTFACE_CONFIG_DIR moves it") from error
    try:
        yield made
    finally:
        shutil.rmtree(around, ignore_errors=True)
        with suppress(OSError):
            beside.rmdir()  # where nobody else is at it


def _sweep(beside: Path) -> None:
    """Takes away what a process left that was killed."""
    for left in beside.iterdir():
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > _STALE_S:
                shutil.rmtree(left, ignore_errors=True)


def move_in(made: Path, name: str) -> Path:
    """Puts what was made (`making`) into its place; what was there stays where that fails. Raises OutputError."""
    place, old = engines_folder() / name, made.with_name("old")
    try:
        if place.exists():
            place.rename(old)
        try:
            made.rename(place)
        except OSError:
            if old.exists():
                old.rename(place)
            raise
    except OSError as error:
        raise OutputError(f"{place} cannot be written ({error.strerror}); what was there is as it was") from error
    return place


def remove(name: str) -> Path:
    """Takes one of the user's engines away; gives back where it was. Raises UsageError and OutputError."""
    place = engines_folder() / name
    own = sorted(path.parent.name for path in engines_folder().glob("*/recipe.toml"))
    if name not in own:
        if name in find_recipes():
            raise UsageError(f"engine {name} is part of rtface and cannot be removed")
        there = f"; yours are: {', '.join(own)}" if own else "; you have added none"
        raise UsageError(f"there is no engine {name!r} of yours{nearest(name, own)}{there}")
    gone = engines_folder() / ".adding" / f"{name}-{os.getpid()}.old"
    try:
        gone.parent.mkdir(exist_ok=True)
        place.rename(gone)  # all of it at once
        shutil.rmtree(gone)
        with suppress(OSError):
            gone.parent.rmdir()
    except OSError as error:
        raise OutputError(f"{place} cannot be removed: {error.strerror}") from error
    return place


def to_toml(table: Mapping[str, Any]) -> str:
    """A table of texts, numbers, truths, lists of them and one level of tables (and small ones in a line within)."""
    plain = {key: value for key, value in table.items() if not isinstance(value, Mapping)}
    lines = [f"{key} = {_toml(value)}" for key, value in plain.items()]
    for key, value in table.items():
        if isinstance(value, Mapping):
            inner = cast(Mapping[str, Any], value)
            tables = {k: v for k, v in inner.items() if isinstance(v, Mapping) and k == "psnr"}
            lines += ["", f"[{key}]", *(f"{k} = {_toml(v)}" for k, v in inner.items() if k not in tables)]
            for k, v in tables.items():
                lines += ["", f"[{key}.{k}]", *(f"{a} = {_toml(b)}" for a, b in v.items())]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{k} = {_toml(v)}" for k, v in cast(Mapping[str, Any], value).items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(item) for item in cast(list[Any], value)) + "]"
    return repr(value)
