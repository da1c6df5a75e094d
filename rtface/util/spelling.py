"""Finds the nearest valid name of a misspelled one, for error messages."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_MAX_LETTERS = 64  # no valid name is longer, and long ones would take too much time
_MIN_RATIO = 0.75  # from this ratio of difflib, a word counts as a misspelling


def nearest(value: str, choices: Iterable[str]) -> str | None:
    """Returns the choice that `value` likely misspells or abbreviates, or None."""
    text, names = value.lower()[:_MAX_LETTERS], {choice.lower(): choice for choice in choices}
    matches = get_close_matches(text, names, 1, _MIN_RATIO) or sorted(
        (name for name in names if min(len(text), len(name)) >= 3 and (name.startswith(text) or text.startswith(name))),
        key=len,
    )
    return names[matches[0]] if matches else None


def hint(value: str, choices: Iterable[str]) -> str:
    """Returns the end of a message, ``: the nearest is …``, or ""."""
    suggestion = nearest(value, choices)
    return f": the nearest is {suggestion}" if suggestion else ""
