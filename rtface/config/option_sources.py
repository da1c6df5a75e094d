"""Loads a command's options from flags, ``RTFACE_*`` variables, TOML and defaults.

The first of these with a value takes precedence, except for options that the computer's policy sets. The TOML file is
that of ``--config`` (or ``RTFACE_CONFIG``), else ``rtface.toml`` in the configuration folder.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rtface.config.options import OPTIONS, Options, check, check_key, locked
from rtface.config.policy import site_path
from rtface.errors import UsageError
from rtface.util.foreign import read_regular
from rtface.util.paths import config_dir, expanded

PREFIX = "RTFACE_"


@dataclass(frozen=True, slots=True)
class LoadedOptions:
    """Holds options with the source of each value: "--strength", "RTFACE_STRENGTH", a file's path, or "default"."""

    options: Options
    sources: dict[str, str]

    @property
    def given(self) -> frozenset[str]:
        """Options set on the command line."""
        return frozenset(key for key, source in self.sources.items() if source == OPTIONS[key].flag)


def read_file(path: Path) -> dict[str, object]:
    """Reads and checks a TOML file's values. Keys may have - or _. A UsageError contains file, key and nearest key."""
    try:
        text = read_regular(path).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            "the configuration file {path} cannot be read: {why}",
            code="config_unreadable",
            path=path,
            why=getattr(error, "strerror", error),
        ) from None
    return file_values(text, path)


def file_values(text: str, path: Path) -> dict[str, object]:
    """Checks the values of a TOML file's text. Raises like `read_file`."""
    try:
        data = tomllib.loads(text)
    except ValueError as error:
        raise UsageError(
            "the configuration file {path} is not valid TOML: {why}", code="config_toml", path=path, why=error
        ) from None
    values: dict[str, object] = {}
    for name, value in data.items():
        key = check_key(name.replace("-", "_"), f"{path}: {name}")
        values[key] = check(key, value, f"{path}: {name}")
    return values


def _environment(environ: Mapping[str, str]) -> dict[str, object]:
    names = {PREFIX + key.upper(): key for key in OPTIONS}
    return {
        names[variable]: check(names[variable], text, variable)
        for variable, text in environ.items()
        if variable in names and text
    }


def load(
    flags: Mapping[str, object], *, config: Path | None = None, environ: Mapping[str, str] = os.environ
) -> LoadedOptions:
    """Loads options from flags, environment, file and defaults, in this order.

    Args:
        flags: values from the command line only, by option name.
        config: file of ``--config``; it has to exist. None: the file of ``RTFACE_CONFIG``, otherwise
            ``rtface.toml`` in the configuration folder.
        environ: environment variables.

    Raises:
        UsageError: an unusable value or an unknown key; the message contains it, its source, and the nearest key.
    """
    if config is None and environ.get("RTFACE_CONFIG"):
        config = expanded(environ["RTFACE_CONFIG"], "RTFACE_CONFIG")
    folder = config_dir()
    path = config or (folder / "rtface.toml" if folder else None)
    file_options = read_file(path) if path is not None and (config is not None or path.is_file()) else {}
    variables, policy = _environment(environ), locked()
    flag_values = {key: check(key, value, OPTIONS[key].flag) for key, value in flags.items()}
    sources = dict.fromkeys(OPTIONS, "default") | dict.fromkeys(file_options, str(path))
    sources |= {key: PREFIX + key.upper() for key in variables} | dict.fromkeys(policy, str(site_path()))
    # The policy adds its stages to those of the user.
    values = {
        key: value for key, value in (file_options | variables).items() if key not in policy or key == "stages"
    } | flag_values
    return LoadedOptions(Options.of(values), sources | {key: OPTIONS[key].flag for key in flag_values})
