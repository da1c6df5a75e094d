"""Returns command lines that repair or extend this installation.

They use the clone or wheel of this installation, never a package index. The names ``rtface`` and ``rtface-…`` are not
registered on any index, so anyone could register them and run code on the machines of users who install by name.
"""

from __future__ import annotations

import hashlib
import shlex
from pathlib import Path

from rtface._version import __version__
from rtface.errors import MissingComponent

PIP = "python -m pip install"
WHEEL = f"rtface-{__version__}-py3-none-any.whl"
"""The file that ``make wheel`` writes into ``dist/`` of a clone."""


def clone() -> Path | None:
    """Returns the clone that rtface runs from, or None. A clone has ``pyproject.toml`` and ``plugins``."""
    folder = Path(__file__).resolve().parents[2]
    return folder if (folder / "pyproject.toml").is_file() else None


def extra_line(extra: str) -> str:
    """Returns the command that installs one of rtface's extras."""
    if folder := clone():
        return f"{PIP} -e {shlex.quote(f'{folder}[{extra}]')}"
    return f"{PIP} '{WHEEL}[{extra}]' in the folder of that wheel"


_REQUIRED = {"rtface-learn": ("rtface-engines",)}
"""Distributions of the repository that each distribution requires; pip cannot find them on an index."""
_FOLDERS = {
    "rtface-engines": "engines",
    "rtface-learn": "engines/rtface-learn",
    "rtface-codeformer": "engines/published/codeformer",
    "rtface-hifacegan": "engines/published/hifacegan",
}
"""Folders, in rtface's repository, of the distributions outside ``plugins``."""


def plugin_line(distribution: str, extra: str = "") -> str:
    """Returns the command that installs a distribution and those it needs."""
    folder, names = clone(), (*_REQUIRED.get(distribution, ()), distribution)
    folders = [_FOLDERS.get(name, f"plugins/{name}") for name in names]
    folders = [str(folder / subfolder) if folder else f"./{subfolder}" for subfolder in folders]
    folders[-1] += f"[{extra}]" if extra else ""
    line = f"{PIP} {' '.join(map(shlex.quote, folders))}"
    return line if folder else f"{line} in a clone of rtface's repository"


def reinstall_line(damaged: Path | None = None) -> str:
    """Returns the command that restores rtface's files, or only `damaged` if possible."""
    folder = clone()
    if folder is None:
        return f"{PIP} --force-reinstall --no-deps {WHEEL} in the folder of that wheel"
    inside = damaged is not None and damaged.is_relative_to(folder)
    name = damaged.relative_to(folder).as_posix() if damaged is not None and inside else "rtface"
    if (folder / ".git").exists():
        return f"git -C {shlex.quote(str(folder))} checkout -- {shlex.quote(name)}"
    return f"unpack rtface's sources again into {folder}: {name} differs from the published file"


def check_shipped(path: Path, sha256: str, what: str) -> None:
    """Checks a file of the package; `what` describes it in the message.

    Raises:
        MissingComponent: the file is missing, or is not the one that was shipped.
    """
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise MissingComponent(
            "{kind} {path} cannot be read ({why}); repair it with: {repair}",
            code="file_no_read",
            kind=what,
            path=path,
            why=error.strerror,
            repair=reinstall_line(path),
        ) from error
    if digest != sha256:
        raise MissingComponent(
            "{kind} {path} is damaged (SHA-256 {found}…); repair it with: {repair}",
            code="file_damaged",
            kind=what,
            path=path,
            found=digest[:12],
            repair=reinstall_line(path),
        )
