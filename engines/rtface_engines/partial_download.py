"""An unfinished download: the bytes so far, and a note of their address and version."""

from __future__ import annotations

import json
import os
from email.message import Message
from pathlib import Path
from typing import Any, cast

from rtface.util.toml_dataclass import parse_json


class PartialDownload:
    """The part of `url` that was downloaded so far, in `path`; bytes of another address do not count."""

    def __init__(self, target: Path, url: str) -> None:
        self.path = target.with_name(target.name + ".part")
        self._target, self._url = target, url
        self._note = target.with_name(target.name + ".part.json")

    @property
    def bytes(self) -> int:
        """How much is there."""
        return self.path.stat().st_size if self.path.is_file() and self._noted().get("url") == self._url else 0

    @property
    def tag(self) -> str | None:
        """What a server can be asked by whether it still has this version (``If-Range``)."""
        tag = self._noted().get("tag")
        return tag if isinstance(tag, str) else None

    def _noted(self) -> dict[str, Any]:
        try:
            found = parse_json(self._note.read_text())
        except (OSError, ValueError):
            return {}
        return cast(dict[str, Any], found) if isinstance(found, dict) else {}

    def begin(self, headers: Message) -> None:
        """Starts again, with the version that the server's answer names, where it does that firmly enough."""
        tag = headers.get("ETag", "")
        tag = tag if tag.startswith('"') else headers.get("Last-Modified")
        self.path.unlink(missing_ok=True)
        # Only this user may read it: an address may hold a password.
        with os.fdopen(os.open(self._note, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump({"url": self._url, "tag": tag}, file)

    def forget(self) -> None:
        """Throws it away."""
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def finish(self) -> None:
        """Moves it to its place."""
        self.path.replace(self._target)
        self._note.unlink(missing_ok=True)
