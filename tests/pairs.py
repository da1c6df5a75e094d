"""Choices of parameters for tests whose risks do not multiply."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


def pairs(first: Sequence[Any], second: Sequence[Any], some: Iterable[Any] = ()) -> list[tuple[Any, Any]]:
    """Each of `first` with one of `second` in rotation, and each of `second` with each of `some` of the first."""
    chosen = [(value, second[n % len(second)]) for n, value in enumerate(first)]
    return chosen + [pair for value in some for other in second if (pair := (value, other)) not in chosen]
