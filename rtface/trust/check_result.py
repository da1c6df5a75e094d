"""Defines the result of a check, and the callback for its progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

OnProgress = Callable[[str, float], None]
"""Called with the current step and the share done (0…1). May raise an exception to stop the work."""


@dataclass(slots=True)
class CheckResult:
    """Contains the findings of a check, one line each.

    Attributes:
        problems: what differs or is invalid.
        proofs: what the check has proved.
        gaps: comparisons that were impossible, and why.
        notes: additional information.
    """

    problems: list[str] = field(default_factory=list[str])
    proofs: list[str] = field(default_factory=list[str])
    gaps: list[str] = field(default_factory=list[str])
    notes: list[str] = field(default_factory=list[str])
