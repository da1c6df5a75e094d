"""A finding of ``rtface doctor``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

State = Literal["ok", "warn", "fault"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: what.
        state: "ok"; "warn": works, but not as well as it could; "fault": a run will fail.
        detail: what was found.
        repair: what to do, empty when there is nothing to do.
    """

    name: str
    state: State
    detail: str
    repair: str = ""

    def to_dict(self) -> dict[str, str]:
        """All attributes as a table."""
        return asdict(self)
