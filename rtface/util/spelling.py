"""Misspelled names: the nearest valid one, for error messages."""

from __future__ import annotations

from collections.abc import Iterable

from rtface.errors import UsageError


def nearest(value: str, choices: Iterable[str]) -> str | None:
    """The choice that `value` is a likely misspelling of (at most one edit in four letters), or shares a prefix with;
    None where there is none."""
    text = value.lower()[:64]  # no name is longer, and the time is proportional to the product of the lengths
    found = [(_edits(text, choice.lower()), choice) for choice in choices]
    near = [
        (edits, choice)
        for edits, choice in found
        if 4 * edits <= max(len(text), len(choice))
        or (min(len(text), len(choice)) >= 3 and (choice.startswith(text) or text.startswith(choice)))
    ]
    return min(near)[1] if near else None


def hint(value: str, choices: Iterable[str]) -> str:
    """``: the nearest is …`` for the end of a message, or nothing."""
    near = nearest(value, choices)
    return f": the nearest is {near}" if near else ""


def unknown_key(shown: str, key: str, known: Iterable[str]) -> UsageError:
    """The error for a key (called `shown` where it was written) that is none of `known`; it names the nearest."""
    return UsageError(
        "{option} is not an option{hint}",
        code="option_unknown",
        option=shown if len(shown) < 300 else shown[:300] + "…",
        hint=hint(key, known),
    )


def _edits(a: str, b: str) -> int:
    """Damerau-Levenshtein distance of two words (optimal string alignment)."""
    before, row = list[int](), list(range(len(b) + 1))
    for i, letter in enumerate(a, 1):
        new = [i]
        for j, other in enumerate(b, 1):
            cost = min(row[j] + 1, new[-1] + 1, row[j - 1] + (letter != other))
            if i > 1 and j > 1 and letter == b[j - 2] and other == a[i - 2]:
                cost = min(cost, before[j - 2] + 1)
            new.append(cost)
        before, row = row, new
    return row[-1]
