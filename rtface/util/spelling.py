"""Misspelled names: the nearest valid one, for error messages."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_LONGEST = 64  # letters; no name is longer, and the time is proportional to their product
_ALIKE = 0.75  # difflib's ratio of a misspelling


def nearest(value: str, choices: Iterable[str]) -> str | None:
    """Finds the choice that `value` is a likely misspelling of, or shares a prefix with; None where there is none."""
    text, known = value.lower()[:_LONGEST], {choice.lower(): choice for choice in choices}
    near = get_close_matches(text, known, 1, _ALIKE) or sorted(
        (name for name in known if min(len(text), len(name)) >= 3 and (name.startswith(text) or text.startswith(name))),
        key=len,
    )
    return known[near[0]] if near else None


def hint(value: str, choices: Iterable[str]) -> str:
    """``: the nearest is …`` for the end of a message, or nothing."""
    near = nearest(value, choices)
    return f": the nearest is {near}" if near else ""
