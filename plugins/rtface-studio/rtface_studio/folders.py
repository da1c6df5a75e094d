"""The folders that the studio's page may see; no name leads out of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rtface.errors import InputError, InputMissing, UsageError
from rtface.media.read.probe import is_playlist
from rtface.util import foreign

_UNFINISHED = re.compile(r"\.partial(-\d+)?\.[^.]+$|\.rtface$")


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a folder.

    Attributes:
        name: without its folder.
        path: absolute.
        folder: whether it is a folder.
        size: bytes; 0 for a folder.
        modified: seconds since 1970.
    """

    name: str
    path: str
    folder: bool
    size: int
    modified: float


class AllowedFolders:
    """Checks paths against a list of folders.

    Args:
        folders: existing folders; links in their names are followed once, here.

    Raises:
        InputMissing: one of them is not there, or is no folder.
    """

    def __init__(self, folders: Iterable[Path]) -> None:
        self.roots: tuple[Path, ...] = tuple(dict.fromkeys(_root(folder) for folder in folders))

    def path(self, name: object) -> Path:
        """The absolute path that `name` means, with its links followed.

        Raises:
            UsageError: it is no path, or lies outside the folders. The message is the same whether it exists or not.
        """
        if not isinstance(name, str) or not foreign.file_path(name) or len(name) > 4096:
            raise UsageError(
                "the path is missing or cannot be used; choose a file in one of the allowed folders", code="no_path"
            )
        try:
            path = Path(name).resolve()
            path.exists()  # a name that is too long for the disk cannot be asked about
        except (OSError, RuntimeError):
            path = None
        if path is None or not Path(name).is_absolute() or not self.holds(path):
            raise UsageError(
                "{path} is outside the folders that this studio may use; start it with --folder DIR to allow another",
                code="outside",
                path=name[:200],
            )
        return path

    def holds(self, path: Path) -> bool:
        """Whether a resolved path lies in one of the folders, or is one."""
        return any(path == root or root in path.parents for root in self.roots)

    def entries(self, name: object) -> list[Entry]:
        """What is in an allowed folder: folders first, by name; no hidden entries, no links that lead outside, and
        nothing unfinished: folders of jobs, and parts that ended runs left; none whose name is no text, which no page
        can name.

        Raises:
            UsageError: see `path`.
            InputMissing: it is not there, or no folder.
        """
        folder = self.path(name)
        try:
            found = [entry for child in folder.iterdir() if (entry := self._entry(child))]
        except OSError as error:
            raise InputMissing(
                "{folder}: {why}; choose another folder",
                code="folder_unreadable",
                folder=folder,
                why=error.strerror or "cannot be read",
            ) from error
        return sorted(found, key=lambda entry: (not entry.folder, entry.name.casefold()))

    def _entry(self, path: Path) -> Entry | None:
        if path.name.startswith(".") or not foreign.text(path.name) or _UNFINISHED.search(path.name):
            return None
        try:
            if path.is_symlink() and not self.holds(path.resolve()):
                return None
            state, folder = path.stat(), path.is_dir()
        except (OSError, RuntimeError):
            return None
        return Entry(path.name, str(path), folder, 0 if folder else state.st_size, state.st_mtime)


def _root(folder: Path) -> Path:
    path = folder.expanduser().resolve()
    if not path.is_dir():
        raise InputMissing(
            "{folder}: there is no such folder; name one that exists with --folder", code="no_folder", folder=folder
        )
    return path


def check_no_playlist(path: Path) -> None:
    """InputError for a playlist: it may name any file of this machine. Under a film's name it is refused anyway."""
    if is_playlist(path):
        raise InputError(
            "{path}: is a playlist, which may name files outside the folders of this studio; choose the "
            "film itself, or use 'rtface run'",
            code="playlist",
            path=path,
        )
