"""Where an input lies: a file, a folder, or an address that FFmpeg reads (http, rtsp and so on)."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname


def is_url(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a URL rather than a file's name."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", os.fspath(path)) is not None


def shown(path: str | os.PathLike[str]) -> str:
    """A path or URL as it may appear in a message: without user, password and query, and without the last part of an
    RTMP address, which is the stream's key."""
    text = os.fspath(path)
    if not is_url(text):
        return text
    text = re.split(r"[?#]", re.sub(r"://[^/]*@", "://", text), maxsplit=1)[0]
    return re.sub(r"(?i)^(rtmp\w*://[^/]*/(?:[^/]+/)?).+", r"\1…", text)


def redacted(text: str) -> str:
    """A message of some library, with every URL in it as it may be `shown`."""
    return re.sub(r"[A-Za-z][A-Za-z0-9+.-]+://[^\s'\"<>]*[^\s'\"<>,.;:)]", lambda url: shown(url[0]), text)


@dataclass(frozen=True, slots=True)
class Address(os.PathLike[str]):
    """A URL, with as much of a `Path`'s manners as an input needs. Its text never shows user, password and query."""

    url: str

    def __fspath__(self) -> str:
        return self.url

    def __str__(self) -> str:
        return shown(self.url)

    @property
    def name(self) -> str:
        """The last part of its path, else the host."""
        parts = urlsplit(self.url)
        return PurePosixPath(unquote(parts.path)).name or parts.hostname or parts.scheme

    @property
    def suffix(self) -> str:
        """The extension of its name."""
        return PurePosixPath(self.name).suffix

    @property
    def stem(self) -> str:
        """Its name without the extension."""
        return PurePosixPath(self.name).stem

    def is_dir(self) -> bool:
        """Never: an address is read as one film."""
        return False


def place(text: str | os.PathLike[str]) -> Path | Address:
    """What a user named: an address, or a file or folder (also as ``file://``)."""
    name = os.fspath(text)
    if name.startswith("file://"):
        return Path(url2pathname(urlsplit(name).path))
    return Address(name) if is_url(name) else Path(name)
