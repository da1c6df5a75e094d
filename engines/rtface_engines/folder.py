"""The user's folder of engines: a new one is made beside it and moved in whole, an old one moved out first."""

from __future__ import annotations

import errno
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

from rtface.engine.recipe import NAME, SHIPPED, find_recipes
from rtface.errors import OutputError, RtfaceError, UsageError
from rtface.util.paths import config_dir
from rtface.util.spelling import hint

_STALE_S = 86_400.0
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def engines_folder() -> Path:
    """Where the user's engines are. Raises UsageError where there is no home folder."""
    folder = config_dir()
    if folder is None:
        raise UsageError(
            "there is no home folder to keep engines in; set RTFACE_CONFIG_DIR to a folder of yours",
            code="no_home_engines",
        )
    return folder / "engines"


def check_name(name: str) -> None:
    """Raises UsageError for what no engine of a user's can be called."""
    if not re.fullmatch(NAME, name):
        raise UsageError(
            "{value!r} is not a name for an engine: letters, digits and . _ + - only", code="engine_name", value=name
        )
    if name in ("auto", "default") or (SHIPPED / name).is_dir():
        raise UsageError(
            "an engine cannot be called {name}: rtface has one of that name", code="engine_name_taken", name=name
        )


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
        raise OutputError(
            "{path} cannot be written to ({why}); RTFACE_CONFIG_DIR moves it",
            code="config_unwritable",
            path=beside,
            why=error.strerror,
        ) from error
    try:
        yield made
    except OSError as error:
        if isinstance(error, RtfaceError) or (error.filename is not None and error.errno not in _FULL):
            raise
        # Which file it was that could not be written, many ways of writing do not say, or name the one they read.
        raise OutputError(
            "{path} cannot be written to ({why}); make room, or move the folder with RTFACE_CONFIG_DIR",
            code="config_no_room",
            path=beside,
            why=error.strerror,
        ) from error
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


def check_room(made: Path, size: float) -> None:
    """Raises OutputError where the disk of that folder has less than `size` bytes free."""
    if (free := shutil.disk_usage(made).free) < size:
        raise OutputError(
            "{folder} has {free:.1f} MB free, and {size:.1f} are needed; make room, or move the folder with "
            "RTFACE_CONFIG_DIR",
            code="folder_room",
            folder=made.parent,
            free=free / 1e6,
            size=size / 1e6,
        )


def is_there(name: str) -> bool:
    """True if something lies where the user's engine of that name would."""
    return os.path.lexists(engines_folder() / name)


def move_in(made: Path, name: str) -> Path:
    """Puts what was made (`making`) into its place; what was there stays where that fails or is interrupted. Raises
    OutputError."""
    place, old = engines_folder() / name, made.with_name("old")
    try:
        if is_there(name):
            place.rename(old)
        made.rename(place)
    except BaseException as error:
        if os.path.lexists(old) and not is_there(name):
            old.rename(place)
        if isinstance(error, OSError):
            raise OutputError(
                "{path} cannot be written ({why}); what was there is as it was",
                code="folder_unwritten",
                path=place,
                why=error.strerror,
            ) from error
        raise
    return place


def remove(name: str) -> Path:
    """Takes one of the user's engines away; gives back where it was. Raises UsageError and OutputError."""
    place = engines_folder() / name
    own = sorted(path.parent.name for path in engines_folder().glob("*/recipe.toml"))
    if name not in own:
        if name in find_recipes():
            raise UsageError("engine {name} is part of rtface and cannot be removed", code="engine_part", name=name)
        there = f"; yours are: {', '.join(own)}" if own else "; you have added none"
        raise UsageError(
            "there is no engine {value!r} of yours{hint}{advice}",
            code="engine_not_yours",
            value=name,
            hint=hint(name, own),
            advice=there,
        )
    try:
        with suppress(OutputError), making(name) as made:
            place.rename(made.with_name("old"))  # all of it at once; it goes with the folder that it is in then
        if place.is_symlink():  # the disk is so full that there is no folder to move it to
            place.unlink()
        elif place.exists():
            shutil.rmtree(place)
    except OSError as error:
        raise OutputError(
            "{path} cannot be removed: {why}", code="folder_unremoved", path=place, why=error.strerror or error
        ) from error
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
