"""Redaction: removes secrets of URLs (keys, passwords, tokens) from every text that is shown."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from math import isfinite
from typing import Any, cast
from urllib.parse import parse_qsl

_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]{1,40}"  # bounded, so that the time is linear in the length of a text
# One slash too: pathlib makes that of a URL, and so does a typing error.
_URL = re.compile(_SCHEME + r":/+[^\s'\"<>]*[^\s'\"<>,.;:)]")
_SECRETS: set[str] = set()
_LEAST = 8  # shorter parts of an address are often ordinary words


def is_url(path: str | os.PathLike[str]) -> bool:
    """True if a path is a URL rather than a file's name."""
    return re.match(_SCHEME + "://", os.fspath(path)) is not None


def shown(path: str | os.PathLike[str]) -> str:
    """A path or URL as it may appear in a message: without user, password and query, and without the last part of an
    RTMP address, which is the stream's key."""
    text = os.fspath(path)
    parts = re.match(rf"({_SCHEME}:/+)([^?#]*)", text, re.DOTALL)
    if parts is None:
        return text
    scheme, rest = parts[1], parts[2]
    authority = rest.partition("/")[0]
    if "@" in authority:
        rest = rest[authority.rindex("@") + 1 :]
    elif "@" in rest and re.search(r":[^:/]*\D[^:/]*$", authority):  # no port: a password with a slash in it
        rest = rest[rest.rindex("@") + 1 :]
    if scheme.lower().startswith("rtmp"):
        rest = re.sub(r"^([^/]*/(?:[^/]+/)?).+", r"\1…", rest, flags=re.DOTALL)
    return scheme + rest


def keep_secret(url: str) -> None:
    """Remembers the secrets of a URL (an RTMP key, a password, the values of its query), so that `redacted`
    takes it out of messages of libraries and servers that repeat it without the URL."""
    if not is_url(url):
        return
    _, _, rest = url.partition("://")
    address, _, query = rest.partition("?")
    authority, _, path = address.partition("/")
    found = [value for _, value in parse_qsl(query)] + [part.partition("=")[2] for part in query.split("&")]
    if "@" in authority:
        found.append(authority.rpartition("@")[0].partition(":")[2])
    if url.lower().startswith("rtmp"):
        found += [path.rpartition("/")[2], rest.rpartition("/")[2]]
    _SECRETS.update(text for text in found if len(text) >= _LEAST)


def redacted(text: str) -> str:
    """A message with every URL in it as it may be `shown`, and without the secrets given to `keep_secret`."""
    for secret in sorted(_SECRETS, key=len, reverse=True):
        text = text.replace(secret, "…")
    return _URL.sub(lambda url: shown(url[0]), text)


def redacted_values(value: object) -> Any:
    """Tables and lists, as JSON has them (numbers that are not finite are None), with every text in them `redacted`."""
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, float) and not isfinite(value):
        return None
    if isinstance(value, Mapping):
        table = cast(Mapping[Any, object], value)
        return {redacted_values(key): redacted_values(inner) for key, inner in table.items()}
    if isinstance(value, list | tuple):
        return [redacted_values(inner) for inner in cast(list[object], value)]
    return value
