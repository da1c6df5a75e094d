"""Command lines that repair this installation or add to it: from the clone or the wheel's file that it came from.

Never from a package index: the names ``rtface`` and ``rtface-…`` are not registered on one, so whoever registers them
could run code on the machine of everybody who installs them by name.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from urllib.parse import urlparse

from rtface._version import __version__
from rtface.errors import MissingComponent
from rtface.util.urls import file_path

PIP = "python -m pip install"
WHEEL = f"rtface-{__version__}-py3-none-any.whl"
"""The file that ``make wheel`` writes into ``dist/`` of a clone."""


@dataclass(frozen=True, slots=True)
class InstallOrigin:
    """Where this copy of rtface was installed from; both attributes are None where nothing says so.

    Attributes:
        clone: folder with ``pyproject.toml`` and ``plugins``.
        wheel: the wheel's file.
        editable: Python imports rtface from the clone itself.
    """

    clone: Path | None = None
    wheel: Path | None = None
    editable: bool = False


def origin() -> InstallOrigin:
    """The clone or wheel, if it still exists: by the package's own place, else by pip's record of it."""
    folder = Path(__file__).resolve().parents[2]
    if _is_clone(folder):
        return InstallOrigin(clone=folder, editable=True)
    try:
        record = json.loads(metadata.distribution("rtface").read_text("direct_url.json") or "{}")
        url = urlparse(str(record.get("url", "")))
    except (metadata.PackageNotFoundError, OSError, ValueError, AttributeError):
        return InstallOrigin()
    path = Path(file_path(url.path)) if url.scheme == "file" and url.netloc in ("", "localhost") else None
    if path is not None and _is_clone(path):
        return InstallOrigin(clone=path)
    if path is not None and path.suffix == ".whl" and path.is_file():
        return InstallOrigin(wheel=path)
    return InstallOrigin()


def _is_clone(folder: Path) -> bool:
    return (folder / "pyproject.toml").is_file() and (folder / "rtface" / "__init__.py").is_file()


def extra_line(extra: str) -> str:
    """The command that installs the packages of one of rtface's extras."""
    come = origin()
    if come.clone:
        return f"{PIP} {'-e ' if come.editable else ''}{shlex.quote(f'{come.clone}[{extra}]')}"
    if come.wheel:
        return f"{PIP} {shlex.quote(f'{come.wheel}[{extra}]')}"
    return f"{PIP} '{WHEEL}[{extra}]' in the folder of that wheel"


_NEEDS = {"rtface-learn": ("rtface-engines",)}
"""Other distributions of the repository that one needs, by name: pip finds them on no index."""
_PLACES = {
    "rtface-engines": "engines",
    "rtface-learn": "engines/rtface-learn",
    "rtface-codeformer": "engines/published/codeformer",
    "rtface-hifacegan": "engines/published/hifacegan",
}
"""Folders in rtface's repository of distributions that are not in ``plugins``."""


def plugin_line(distribution: str, extra: str = "") -> str:
    """The command that installs one of the other distributions of rtface's repository, with those that it needs."""
    come, names = origin(), (*_NEEDS.get(distribution, ()), distribution)
    found = [str(path) for name in names if (path := _plugin(come, name))]
    known = len(found) == len(names)
    places = found if known else [f"./{_place(name)}" for name in names]
    places[-1] += f"[{extra}]" if extra else ""
    line = f"{PIP} {' '.join(map(shlex.quote, places))}"
    return line if known else f"{line} in a clone of rtface's repository"


def _place(distribution: str) -> str:
    return _PLACES.get(distribution, f"plugins/{distribution}")


def _plugin(come: InstallOrigin, distribution: str) -> Path | None:
    """The folder or wheel of a distribution, where rtface came from."""
    if come.clone and (folder := come.clone / _place(distribution)).is_dir():
        return folder
    if come.wheel:  # `make wheel` puts all into one folder
        return next(come.wheel.parent.glob(f"{distribution.replace('-', '_')}-*.whl"), None)
    return None


def reinstall_line(damaged: Path | None = None) -> str:
    """The command that brings files of rtface back: `damaged` alone where that can be, else all of them."""
    come = origin()
    if come.clone and come.editable:
        inside = damaged is not None and damaged.is_relative_to(come.clone)
        name = damaged.relative_to(come.clone).as_posix() if damaged is not None and inside else "rtface"
        if (come.clone / ".git").exists():
            return f"git -C {shlex.quote(str(come.clone))} checkout -- {shlex.quote(name)}"
        return f"unpack rtface's sources anew into {come.clone}: {name} is not as it was published"
    if come.clone or come.wheel:
        return f"{PIP} --force-reinstall --no-deps {shlex.quote(str(come.clone or come.wheel))}"
    return f"{PIP} --force-reinstall --no-deps {WHEEL} in the folder of that wheel"


def check_shipped(path: Path, sha256: str, what: str) -> None:
    """Checks a file of the package before its use; `what` names it in the error.

    Raises:
        MissingComponent: the file is absent or not the one that was shipped.
    """
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise MissingComponent(
            "{kind} {path} cannot be read ({why}); repair it with: {repair}",
            code="file_no_read",
            kind=what,
            path=path,
            why=error.strerror,
            repair=reinstall_line(path),
        ) from error
    if found != sha256:
        raise MissingComponent(
            "{kind} {path} is damaged (SHA-256 {found}…); repair it with: {repair}",
            code="file_damaged",
            kind=what,
            path=path,
            found=found[:12],
            repair=reinstall_line(path),
        )
