"""SHA-256 manifests of files, as GNU's ``sha256sum`` writes and checks them; BSD's tagged form is read too."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rtface.errors import InputError, InputMissing, Interrupted
from rtface.util.foreign import open_regular, read_regular

_BLOCK = 1 << 20
_GNU = re.compile(r"(\\?)([0-9a-fA-F]{64}) [ *](.+)")
_BSD = re.compile(r"(\\?)SHA256 \((.+)\) = ([0-9a-fA-F]{64})")


@dataclass(frozen=True, slots=True)
class HashedFile:
    """A line of a manifest.

    Attributes:
        name: as in the manifest, with slashes, relative to the manifest's folder.
        sha256: 64 hexadecimal digits in lower case.
    """

    name: str
    sha256: str


def sha256_of(
    path: Path,
    *,
    tick: Callable[[int], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> str:
    """SHA-256 of a file, read in blocks of 1 MB.

    Args:
        tick: called with the number of bytes of each block.
        stop: ends the work with `Interrupted` once it is true.

    Raises:
        InputMissing: the file is not there or cannot be read.
    """
    value = hashlib.sha256()
    try:
        with open_regular(path) as file:
            while block := file.read(_BLOCK):
                if stop is not None and stop():
                    raise Interrupted
                value.update(block)
                if tick is not None:
                    tick(len(block))
    except FileNotFoundError as error:
        raise InputMissing("{path}: there is no such file", code="no_file_here", path=path) from error
    except OSError as error:
        raise InputMissing(
            "{path}: cannot be read ({why})", code="file_unreadable", path=path, why=error.strerror
        ) from error
    return value.hexdigest()


def share_of_bytes(total: int, doing: Callable[[str, float], None] | None) -> Callable[[int], None]:
    """What `sha256_of` calls as `tick`, for several files with `total` bytes together: tells `doing` the share."""
    done = 0

    def tick(count: int) -> None:
        nonlocal done
        done += count
        if doing is not None:
            doing("SHA-256", min(1.0, done / max(total, 1)))

    return tick


def manifest_lines(files: Sequence[HashedFile]) -> bytes:
    """The manifest's text; names with a line break or backslash are escaped as by ``sha256sum``."""
    lines: list[str] = []
    for file in files:
        escaped = file.name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
        lines.append(f"{chr(92) if escaped != file.name else ''}{file.sha256}  {escaped}\n")
    return "".join(lines).encode("utf-8", "surrogateescape")


def name_in(manifest: Path, file: Path) -> str:
    """How a manifest names a file: relative to the manifest's folder, with slashes."""
    return Path(os.path.relpath(file, manifest.parent)).as_posix()


def read_manifest(path: Path) -> list[HashedFile]:
    """The files of a manifest, in its order.

    Raises:
        InputMissing: it cannot be read.
        InputError: it has no line of a file.
    """
    try:
        text = read_regular(path).decode("utf-8", "surrogateescape")
    except OSError as error:
        raise InputMissing(
            "{path}: cannot be read ({why})", code="file_unreadable", path=path, why=error.strerror
        ) from error
    files: list[HashedFile] = []
    for number, line in enumerate(text.split("\n"), 1):
        line = line.removesuffix("\r")
        if not line.strip() or line.startswith("#"):
            continue
        if match := _GNU.fullmatch(line):
            escaped, value, name = match.groups()
        elif match := _BSD.fullmatch(line):
            escaped, name, value = match.groups()
        else:
            raise InputError(
                "{path}: line {number} is no line of a SHA-256 manifest; the manifest is damaged",
                code="sha256_line",
                path=path,
                number=number,
            )
        if escaped:
            name = re.sub(r"\\([\\nr])", lambda m: {"\\": "\\", "n": "\n", "r": "\r"}[m[1]], name)
        files.append(HashedFile(name, value.lower()))
    if not files:
        raise InputError("{path}: names no file", code="hash_name", path=path)
    return files
