"""Restricts the studio's page to allowed folders."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rtface.errors import InputError, InputMissing, Message, OutputError, UsageError, log
from rtface.media.read.playlists import is_playlist
from rtface.util.files import write_atomically
from rtface.util.foreign import FilePath, Text, fits

_UNFINISHED = re.compile(r"\.partial(-\d+)?\.[^.]+$|\.rtface$")


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a folder.

    Attributes:
        name: name without folder.
        path: absolute path.
        folder: whether the entry is a folder.
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
        folders: existing folders. Links in their paths are resolved once, now.
        list_file: file for the folders added on the page, for later starts. Without it, the page cannot add any.

    Raises:
        InputMissing: one of `folders` does not exist, or is not a folder.
    """

    def __init__(self, folders: Iterable[Path], list_file: Path | None = None) -> None:
        self._fixed = tuple(dict.fromkeys(_root(folder) for folder in folders))
        self._list_file = list_file
        self.added = () if list_file is None else tuple(path for path in _read(list_file) if path not in self._fixed)

    @property
    def roots(self) -> tuple[Path, ...]:
        """All allowed folders. Folders added on the page come last."""
        return *self._fixed, *self.added

    @property
    def may_grow(self) -> bool:
        """True if the page may add folders."""
        return self._list_file is not None

    def add(self, name: object) -> Path:
        """Allows another folder, for this start and later ones. ``~`` is the home folder.

        Raises:
            UsageError: the path is not absolute, or the page cannot add folders.
            InputMissing: the folder does not exist, or cannot be read.
            OutputError: the list cannot be stored.
        """
        if not isinstance(name, str) or not fits(name, FilePath):
            raise _no_path()
        try:
            if not (path := Path(name).expanduser()).is_absolute():
                raise _no_path()
            next((path := path.resolve()).iterdir(), None)
        except (OSError, RuntimeError) as error:
            raise _unreadable(name, error) from error
        self._store(self.added if path in self.roots else (*self.added, path))
        return path

    def remove(self, name: object) -> None:
        """Reverts `add`, and raises the same UsageError and OutputError."""
        self._store(tuple(path for path in self.added if str(path) != name))

    def _store(self, added: tuple[Path, ...]) -> None:
        if self._list_file is None:
            raise UsageError(
                "the folders of this studio are fixed; start it with --folder DIR to allow another",
                code="folders_fixed",
            )
        write_kept(self._list_file, json.dumps([str(path) for path in added]).encode())
        self.added = added

    def path(self, name: object) -> Path:
        """Returns the absolute path of `name`, with links resolved.

        Raises:
            UsageError: `name` is not a path, or is outside the folders. The message does not reveal whether it exists.
        """
        if not isinstance(name, str) or not fits(name, FilePath) or len(name) > 4096:
            raise _no_path()
        try:
            path = Path(name).resolve()
            path.exists()  # raises if the name is too long for the disk
        except (OSError, RuntimeError):
            path = None
        if path is None or not Path(name).is_absolute() or not self.holds(path):
            if self.may_grow:
                raise UsageError(
                    "{path} is outside the folders that this studio may use; allow another folder in the file chooser",
                    code="outside_add",
                    path=name[:200],
                )
            raise UsageError(
                "{path} is outside the folders that this studio may use; start it with --folder DIR to allow another",
                code="outside",
                path=name[:200],
            )
        return path

    def holds(self, path: Path) -> bool:
        """Tests whether a resolved path is or is in an allowed folder."""
        return any(path == root or root in path.parents for root in self.roots)

    def entries(self, name: object) -> list[Entry]:
        """Lists an allowed folder by name, folders first. Omits hidden entries, links out of the allowed folders, job
        folders, partial files of runs, and names that are not valid text.

        Raises:
            UsageError: see `path`.
            InputMissing: `name` does not exist, or is not a folder.
        """
        folder = self.path(name)
        try:
            entries = [entry for child in folder.iterdir() if (entry := self._entry(child))]
        except OSError as error:
            raise _unreadable(folder, error) from error
        return sorted(entries, key=lambda entry: (not entry.folder, entry.name.casefold()))

    def _entry(self, path: Path) -> Entry | None:
        if path.name.startswith(".") or not fits(path.name, Text) or _UNFINISHED.search(path.name):
            return None
        try:
            if path.is_symlink() and not self.holds(path.resolve()):
                return None
            state, folder = path.stat(), path.is_dir()
        except (OSError, RuntimeError):
            return None
        return Entry(path.name, str(path), folder, 0 if folder else state.st_size, state.st_mtime)


def write_kept(path: Path, data: bytes, *, private: bool = True) -> None:
    """Writes a file of the studio atomically. Raises OutputError on failure."""
    try:
        write_atomically(path, data, private=private)
    except OSError as error:
        raise OutputError(
            "{path}: cannot be written ({why})", code="cannot_write", path=path, why=error.strerror
        ) from error


def _root(folder: Path) -> Path:
    path = folder.expanduser().resolve()
    if not path.is_dir():
        raise InputMissing(
            "{folder}: there is no such folder; choose an existing one with --folder", code="no_folder", folder=folder
        )
    return path


def _read(list_file: Path) -> tuple[Path, ...]:
    """Reads the added folders. Keeps missing folders, because their disk may be connected again."""
    try:
        names = json.loads(list_file.read_bytes())
        return tuple(Path(name) for name in names if fits(name, FilePath) and Path(name).is_absolute())
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, TypeError) as error:
        log.warning("%s: the folders that the page added cannot be read (%s)", list_file, error)
        return ()


def _no_path() -> UsageError:
    return UsageError(
        "the path is missing or cannot be used; choose a file in one of the allowed folders", code="no_path"
    )


def _unreadable(folder: object, error: OSError | RuntimeError) -> InputMissing:
    return InputMissing(
        "{folder}: {why}; choose another folder",
        code="folder_unreadable",
        folder=folder,
        why=getattr(error, "strerror", None) or Message("cannot be read", code="cannot_read"),
    )


def stamp_of(path: Path) -> tuple[int, ...]:
    """Returns a file's identity: device, inode, size and time of change. Returns () if there is no file."""
    try:
        state = path.stat()
    except OSError:
        return ()
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns


def check_no_playlist(path: Path) -> None:
    """Raises InputError for a playlist, even if it was renamed. A playlist can refer to any file of this machine."""
    if is_playlist(path):
        if path.suffix.lower() in (".txt", ".xml"):  # such files may also be something else
            raise InputError("{path}: the suffix is not that of a film; choose a film", code="no_film_name", path=path)
        raise InputError(
            "{path}: is a playlist, which can refer to files outside the folders of this studio; choose the film "
            "itself, or use 'rtface run'",
            code="playlist",
            path=path,
        )
