"""Findings of a check, and the callbacks that it takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

Doing = Callable[[str, float], None]
"""Called with what is being done, and the share of it that is done, 0…1; ends the work by what it raises."""


@dataclass(slots=True)
class Checked:
    """Findings, one line each.

    Attributes:
        problems: what is not as it should be.
        proofs: what was shown.
        gaps: what should have been compared and could not be, and why.
        notes: what else a reader should know.
    """

    problems: list[str] = field(default_factory=list[str])
    proofs: list[str] = field(default_factory=list[str])
    gaps: list[str] = field(default_factory=list[str])
    notes: list[str] = field(default_factory=list[str])
