"""Opens films for reading, with PyAV 18 and 19 alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import av
from av.container import InputContainer

# PyAV 19 always reads tags in this way, and has no argument for it.
_TAGS: dict[str, Any] = {"metadata_errors": "surrogateescape"} if int(av.__version__.split(".")[0]) < 19 else {}


def open_input(file: Any, **arguments: Any) -> InputContainer:
    """Opens a file with `av.open` for reading. Invalid UTF-8 in the tags of film and streams becomes U+FFFD."""
    container = cast(InputContainer, av.open(file, "r", **arguments, **_TAGS))
    for tags in (container.metadata, *(stream.metadata for stream in container.streams)):
        valid_tags = plain_tags(tags)
        tags.clear()
        tags.update(valid_tags)
    return container


def plain_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Replaces invalid UTF-8 by U+FFFD in the tags that PyAV has read."""
    return {_replace_invalid(name): _replace_invalid(text) for name, text in tags.items()}


def _replace_invalid(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
