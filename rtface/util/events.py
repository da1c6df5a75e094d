"""Reads events (``--events``) of a command that this program started. docs/cli.md describes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from rtface.errors import Message

SCHEMA = 1
"""The version of the events; a higher one may change names or meanings of keys."""
TO_STDERR = "--events=2"
"""The option by which a command writes its events to stderr."""
Event = dict[str, Any]


def read_events(lines: Iterable[bytes], receive: Callable[[Event], object] = lambda event: None) -> Message:
    """Reads a command's stderr and returns the last error. If there is none, returns the last other line, or "".

    Args:
        lines: lines that a command with the option `TO_STDERR` writes.
        receive: called with each event.
    """
    error, other = Message(), ""
    for line in lines:
        text = line.decode("utf-8", "replace").strip()
        try:
            kind = (event := json.loads(text))["event"]
        except (ValueError, TypeError, KeyError):  # a line that a library wrote
            other = text or other
            continue
        if kind == "error":
            error = Message.of(event)
        receive(event)
    return error or Message(other)
