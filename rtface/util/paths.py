"""Locates the folders for settings, data and cache: those set by ``RTFACE_CONFIG_DIR``, ``RTFACE_DATA`` and
``RTFACE_CACHE``, or the platform's.

A process without a home folder (a container with ``--user`` and no ``HOME``) has no settings, and a temporary cache
that is removed when the process ends.
"""

from __future__ import annotations

import functools
import os
import tempfile
from pathlib import Path

import platformdirs

from rtface.errors import InputMissing, Message, OptionFlag, UsageError, log
from rtface.util.text import brief

CACHE, CONFIG, DATA = "RTFACE_CACHE", "RTFACE_CONFIG_DIR", "RTFACE_DATA"


def _folder(variable: str, kind: str) -> Path | None:
    """Returns the folder set by `variable`, or else the platform's. Returns None if there is no home folder."""
    override = os.environ.get(variable, "").strip()
    if override:
        return expanded(override, variable)
    try:
        path = Path(getattr(platformdirs, f"user_{kind}_dir")("rtface", appauthor=False))
    except (RuntimeError, KeyError, OSError):  # from platformdirs, and from reading the passwd file
        return None
    return path if path.is_absolute() else None


def config_dir() -> Path | None:
    """Returns the folder of settings and the user's engines. It may not exist. ``RTFACE_CONFIG_DIR`` overrides it.
    Returns None if there is no home folder."""
    return _folder(CONFIG, "config")


def data_dir() -> Path:
    """Returns the folder for lasting data, such as the queue. It may not exist. ``RTFACE_DATA`` overrides it. Raises
    UsageError if there is no home folder."""
    folder = _folder(DATA, "data")
    if folder is None:
        raise UsageError(
            "there is no home folder for the queue; set {variable} to a folder of yours",
            code="no_home_queue",
            variable=DATA,
        )
    return folder


def cache_dir() -> Path:
    """Returns the folder for data that can be recreated. It may not exist. ``RTFACE_CACHE`` overrides it. If there is
    no home folder, it is temporary and exists until this process ends."""
    folder = _folder(CACHE, "cache")
    return folder or Path(_temporary_cache().name)


@functools.cache
def _temporary_cache() -> tempfile.TemporaryDirectory[str]:
    log.warning(
        "there is no home folder: compiled networks are lost at the end, and there are no settings; set %s and %s to "
        "folders of yours",
        CACHE,
        CONFIG,
    )
    return tempfile.TemporaryDirectory(prefix="rtface-cache-", ignore_cleanup_errors=True)


def clean() -> None:
    """Removes the temporary cache, if any; called before the process ends."""
    if _temporary_cache.cache_info().currsize:
        _temporary_cache().cleanup()
        _temporary_cache.cache_clear()


def check_there(path: Path) -> None:
    """Raises InputMissing for a missing path. Other faults are reported when the path is opened."""
    try:
        path.stat()
    except FileNotFoundError as error:
        raise InputMissing("{path}: there is no such file; check the name", code="no_file", path=path) from error
    except OSError:
        return


def expanded(text: str | os.PathLike[str], display_name: str) -> Path:
    """Expands ``~`` in a path to the home folder. Raises UsageError, whose message begins with `display_name`, if there
    is no home folder or no file can have that name."""
    if display_name.startswith("--") and not isinstance(display_name, Message):
        display_name = OptionFlag(display_name)
    try:
        if b"\0" in os.fsencode(text):
            raise ValueError
    except ValueError:
        raise UsageError(
            "{option}: {value} cannot be the name of a file; choose another",
            code="path_name",
            option=display_name,
            value=brief(os.fspath(text)),
        ) from None
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise UsageError(
            "{option}: {value} refers to an unknown home folder; write the full path",
            code="path_home",
            option=display_name,
            value=os.fspath(text),
        ) from None
