"""Represents locations of inputs: a file, a folder, or an address (http, rtsp and so on)."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from rtface.errors import UsageError
from rtface.redaction import is_url, keep_secret, shown

# "file:/x" and "C:/x" are names of files.
_ADDRESS = re.compile(r"(?i)(rtmp\w*|rtsps?|srt|udp|tcp|rtp|https?|ftps?|sftp):")


def check_file_name(text: str, kind: str = "file") -> None:
    """Raises UsageError for an address instead of a file or folder. The message shows only the scheme."""
    if match := _ADDRESS.match(text):
        raise UsageError(
            "{scheme}:… is an address; write the name of a {kind} instead",
            code="name_is_address",
            scheme=match[1].lower(),
            kind=kind,
        )


def check_slashes(text: str) -> None:
    """Rejects an address without its two slashes. It would be read as a file name.

    Raises:
        UsageError: the slashes are missing. The message hides the part after the scheme, which may contain a key.
    """
    match = _ADDRESS.match(text)
    if match and not is_url(text):
        scheme = match[1].lower()
        raise UsageError(
            "{scheme}:…: an address is written with two slashes, as in {scheme}://host/…; check the name",
            code="address_slashes",
            scheme=scheme,
        )


@dataclass(frozen=True, slots=True)
class Address(os.PathLike[str]):
    """A URL with the methods of `Path` that inputs need. Its text never shows user, password and query."""

    url: str

    def __post_init__(self) -> None:
        keep_secret(self.url)

    def __fspath__(self) -> str:
        return self.url

    def __str__(self) -> str:
        return shown(self.url)

    @property
    def name(self) -> str:
        """The last part of the path, or the host."""
        parts = urlsplit(self.url)
        return PurePosixPath(unquote(parts.path)).name or parts.hostname or parts.scheme

    @property
    def suffix(self) -> str:
        """The extension of the name."""
        return PurePosixPath(self.name).suffix

    @property
    def stem(self) -> str:
        """The name without the extension."""
        return PurePosixPath(self.name).stem

    def is_dir(self) -> bool:
        """Returns False, because an address is read as one film."""
        return False


def file_path(path: str) -> str:
    """Returns the file name of a ``file://`` URL's path."""
    import urllib.request  # slow, because it imports http and email

    # On Windows the function's former module is deprecated, not the function.
    return urllib.request.url2pathname(path)  # pyright: ignore[reportDeprecated]


def place(text: str | os.PathLike[str]) -> Path | Address:
    """Converts the user's text to an address, file or folder; accepts ``file://``. Raises like `check_slashes`."""
    name = os.fspath(text)
    check_slashes(name)
    if name.startswith("file://"):
        return Path(file_path(urlsplit(name).path))
    return Address(name) if is_url(name) else Path(name)
