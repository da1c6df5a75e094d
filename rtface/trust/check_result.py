"""Defines the result of a check, and the callback for its progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

OnProgress = Callable[[str, float], None]
"""Called with the current step and its share done, 0…1. An exception from it ends the work."""


@dataclass(slots=True)
class CheckResult:
    """Holds the findings of a check, one line each.

    Attributes:
        problems: what differs or is not valid.
        proofs: facts that the check has proved.
        gaps: comparisons that were impossible, and why.
        notes: further information.
    """

    problems: list[str] = field(default_factory=list[str])
    proofs: list[str] = field(default_factory=list[str])
    gaps: list[str] = field(default_factory=list[str])
    notes: list[str] = field(default_factory=list[str])
