"""A finding of ``rtface doctor``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

from rtface.errors import Message

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

    def to_dict(self) -> dict[str, object]:
        """All attributes as a table; "messages" has those for people with their codes, and "command" what a terminal
        takes of the repair."""
        messages = {"detail": Message(self.detail).to_dict(), "repair": Message(self.repair).to_dict()}
        known = self.repair if self.repair.startswith(("sudo ", "python ", "rtface ")) else ""
        return {
            **asdict(self),
            "messages": messages,
            "command": messages["repair"]["values"].get("line", known),
        }
