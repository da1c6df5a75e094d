"""Removes secrets of URLs (keys, passwords, tokens) from every displayed text."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from math import isfinite
from typing import Any, cast
from urllib.parse import parse_qsl

_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]{1,40}"  # limited length, so that matching takes linear time
# One slash is enough, because pathlib or a typo may drop the other.
_URL = re.compile(_SCHEME + r":/+[^\s'\"<>]*[^\s'\"<>,.;:)]")
_SECRETS: set[str] = set()
_MIN_LENGTH = 8  # shorter parts of an address may be ordinary words


def is_url(path: str | os.PathLike[str]) -> bool:
    """Returns whether a path is a URL rather than a file name."""
    return re.match(_SCHEME + "://", os.fspath(path)) is not None


def shown(path: str | os.PathLike[str]) -> str:
    """Returns a path or URL in a form that messages may show. User, password and query are left out, and so is the last
    part of an RTMP address, the stream's key."""
    text = os.fspath(path)
    parts = re.match(rf"({_SCHEME}:/+)([^?#]*)", text, re.DOTALL)
    if parts is None:
        return text
    scheme, rest = parts[1], parts[2]
    authority = rest.partition("/")[0]
    if "@" in authority:
        rest = rest[authority.rindex("@") + 1 :]
    elif "@" in rest and re.search(r":[^:/]*\D[^:/]*$", authority):  # not a port but a password with a slash in it
        rest = rest[rest.rindex("@") + 1 :]
    if scheme.lower().startswith("rtmp"):
        rest = re.sub(r"^([^/]*/(?:[^/]+/)?).+", r"\1…", rest, flags=re.DOTALL)
    return scheme + rest


def keep_secret(url: str) -> None:
    """Stores a URL's secrets: RTMP key, password, values of its query. Libraries and servers repeat these in messages
    without the URL; `redacted` removes them there."""
    if not is_url(url):
        return
    _, _, rest = url.partition("://")
    address, _, query = rest.partition("?")
    authority, _, path = address.partition("/")
    secrets = [value for _, value in parse_qsl(query)] + [part.partition("=")[2] for part in query.split("&")]
    if "@" in authority:
        secrets.append(authority.rpartition("@")[0].partition(":")[2])
    if url.lower().startswith("rtmp"):
        secrets += [path.rpartition("/")[2], rest.rpartition("/")[2]]
    _SECRETS.update(text for text in secrets if len(text) >= _MIN_LENGTH)


def redacted(text: str) -> str:
    """Redacts a message: URLs appear as from `shown`, and secrets from `keep_secret` are removed."""
    for secret in sorted(_SECRETS, key=len, reverse=True):
        text = text.replace(secret, "…")
    return _URL.sub(lambda url: shown(url[0]), text)


def redacted_values(value: object) -> Any:
    """Converts tables and lists to JSON, with every text `redacted`. Numbers that are not finite become None."""
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
