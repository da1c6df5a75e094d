"""Defines the findings of ``rtface doctor``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

from rtface.errors import Message

State = Literal["ok", "warn", "fault"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Holds the result of one check.

    Attributes:
        name: subject of the check.
        state: "ok"; "warn": works, but not fully; "fault": a run will fail.
        detail: the result.
        repair: how to repair it; empty if no repair is needed.
    """

    name: str
    state: State
    detail: str
    repair: str = ""

    def to_dict(self) -> dict[str, object]:
        """Returns all attributes as a table. "messages" contains the texts with their codes; "command" is the command
        line of the repair."""
        messages = {"detail": Message(self.detail).to_dict(), "repair": Message(self.repair).to_dict()}
        command = self.repair if self.repair.startswith(("sudo ", "python ", "rtface ")) else ""
        return {
            **asdict(self),
            "messages": messages,
            "command": messages["repair"]["values"].get("line", command),
        }
