"""Adds and removes engines in the user's folder by atomic moves."""

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
_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def engines_folder() -> Path:
    """Returns the folder of the user's engines. Raises UsageError if the user has no home folder."""
    folder = config_dir()
    if folder is None:
        raise UsageError(
            "there is no home folder to store engines in; set RTFACE_CONFIG_DIR to a folder",
            code="no_home_engines",
        )
    return folder / "engines"


def check_name(name: str) -> None:
    """Raises UsageError if a user's engine may not have this name."""
    if not re.fullmatch(NAME, name):
        raise UsageError(
            "{value!r} is not a valid name of an engine: use only letters, digits and . _ + -",
            code="engine_name",
            value=name,
        )
    if name in ("auto", "default") or (SHIPPED / name).is_dir():
        raise UsageError(
            "an engine cannot be called {name}: rtface has an engine of that name", code="engine_name_taken", name=name
        )


@contextmanager
def build_folder(name: str) -> Generator[Path]:
    """Yields a temporary folder to build an engine in. `find_recipes` ignores the folder. Raises OutputError."""
    parent = engines_folder() / ".adding"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        _sweep(parent)
        scratch = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=parent))
        new = scratch / "new"
        new.mkdir()  # with default permissions; the folder that mkdtemp creates is private
    except OSError as error:
        raise OutputError(
            "{path} cannot be written to ({why}); set RTFACE_CONFIG_DIR to another folder",
            code="config_unwritable",
            path=parent,
            why=error.strerror,
        ) from error
    try:
        yield new
    except OSError as error:
        if isinstance(error, RtfaceError) or (error.filename is not None and error.errno not in _FULL_ERRNOS):
            raise
        # Many errors do not contain the name of the file that could not be written, or contain another file's name.
        raise OutputError(
            "{path} cannot be written to ({why}); free some space, or move the folder with RTFACE_CONFIG_DIR",
            code="config_no_room",
            path=parent,
            why=error.strerror,
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        with suppress(OSError):
            parent.rmdir()  # fails if another process uses it, which is fine


def _sweep(parent: Path) -> None:
    """Removes folders that killed processes left behind."""
    for folder in parent.iterdir():
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime > _STALE_S:
                shutil.rmtree(folder, ignore_errors=True)


def check_space(new: Path, size: float) -> None:
    """Raises OutputError if the folder's disk has less than `size` bytes free."""
    if (free := shutil.disk_usage(new).free) < size:
        raise OutputError(
            "{folder} has {free:.1f} MB free, but {size:.1f} MB are needed; free some space, or move the folder with "
            "RTFACE_CONFIG_DIR",
            code="folder_room",
            folder=new.parent,
            free=free / 1e6,
            size=size / 1e6,
        )


def exists(name: str) -> bool:
    """Returns whether the user has an engine or file of this name."""
    return os.path.lexists(engines_folder() / name)


def move_in(new: Path, name: str) -> Path:
    """Moves a built engine to its final folder. Raises OutputError. If the move fails, an existing engine stays."""
    folder, old = engines_folder() / name, new.with_name("old")
    try:
        if exists(name):
            folder.rename(old)
        new.rename(folder)
    except BaseException as error:
        if os.path.lexists(old) and not exists(name):
            old.rename(folder)
        if isinstance(error, OSError):
            raise OutputError(
                "{path} cannot be written ({why}); the existing files are unchanged",
                code="folder_unwritten",
                path=folder,
                why=error.strerror,
            ) from error
        raise
    return folder


def remove(name: str) -> Path:
    """Removes one of the user's engines and returns its folder. Raises UsageError and OutputError."""
    folder = engines_folder() / name
    names = sorted(path.parent.name for path in engines_folder().glob("*/recipe.toml"))
    if name not in names:
        if name in find_recipes():
            raise UsageError("engine {name} is part of rtface and cannot be removed", code="engine_part", name=name)
        added = f"; added: {', '.join(names)}" if names else "; you have added no engines"
        raise UsageError(
            "you have not added an engine {value!r}{hint}{advice}",
            code="engine_not_yours",
            value=name,
            hint=hint(name, names),
            advice=added,
        )
    try:
        with suppress(OutputError), build_folder(name) as new:
            folder.rename(new.with_name("old"))  # atomic; `build_folder` removes it with its folder
        if folder.is_symlink():  # was not moved: on a full disk, no folder can be created
            folder.unlink()
        elif folder.exists():
            shutil.rmtree(folder)
    except OSError as error:
        raise OutputError(
            "{path} cannot be removed: {why}", code="folder_unremoved", path=folder, why=error.strerror or error
        ) from error
    return folder


def to_toml(table: Mapping[str, Any]) -> str:
    """Formats a table as TOML: strings, numbers, booleans, lists, and (nested) tables."""
    values = {key: value for key, value in table.items() if not isinstance(value, Mapping)}
    lines = [f"{key} = {_toml(value)}" for key, value in values.items()]
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
