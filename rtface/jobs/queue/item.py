"""Items of the queue, and messages between their processes and the runner."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from rtface.errors import Message
from rtface.redaction import redacted_values

State = Literal["waiting", "running", "interrupted", "paused", "done", "failed", "cancelled"]
STATES: tuple[State, ...] = get_args(State)


@dataclass(frozen=True, slots=True)
class Item:
    """Describes an item of the queue, as it was when read.

    Attributes:
        id: number, which is never used again.
        input: path or address, without user, password and query.
        output: path.
        options: values (JSON) of the options that differ from their defaults, by name.
        flags: flags for jobs (``--workers``, ``--restart``, ``--farm``), by name.
        state: "interrupted" if the item's runner died (crash, SIGKILL, power cut); the next runner continues it.
        message: reason of a failure, or a summary.
        share: share done, 0…1; None before the first frame, and for stills.
        frames: frames written in the last attempt; None before the first.
        fps: recent frames per second.
        left_s: estimated remaining seconds; None if unknown.
        attempts: number of times that a runner has started the item.
        added_at, started_at, ended_at: seconds since 1970; None before the event.
    """

    id: int
    input: str
    output: str
    options: dict[str, Any]
    flags: dict[str, Any]
    state: State
    message: Message
    share: float | None
    frames: int | None
    fps: float | None
    left_s: float | None
    attempts: int
    added_at: float
    started_at: float | None
    ended_at: float | None

    def to_dict(self) -> dict[str, Any]:
        """Returns the item for JSON. Times are in ISO 8601 (UTC), the message has "code" and "values", secrets are
        removed."""
        times = {
            key: None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
            for key, at in {"added_at": self.added_at, "started_at": self.started_at, "ended_at": self.ended_at}.items()
        }
        return redacted_values(asdict(self) | times | self.message.to_dict())


@dataclass(frozen=True, slots=True)
class Task:
    """Contains the arguments with which a child process runs an item.

    Attributes:
        id: number of the item.
        plan: `rtface.pipeline.plan.RunPlan.to_dict`; its input is one for `rtface.run`, or ``@FILE``.
        flags: flags for jobs, by name: "workers", "restart", "farm".
    """

    id: int
    plan: dict[str, Any]
    flags: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ItemProgress:
    """Contains the progress of a running item; see `Item` for its fields."""

    share: float | None
    frames: int
    fps: float
    left_s: float | None


STOP, PAUSE, RESUME = "stop", "pause", "resume"
"""Messages with which the runner requests a clean end, a pause between two frames, or resumption."""


@dataclass(frozen=True, slots=True)
class Start:
    """Starts an item; the first message to its process.

    Attributes:
        task: the item's task.
        log: file for warnings and output of libraries; the process locks it.
        threads: CPU threads, unless the item's options set them; None for all cores.
    """

    task: Task
    log: Path
    threads: int | None


@dataclass(frozen=True, slots=True)
class Ended:
    """Reports an attempt's result; the last message of an item's process.

    Attributes:
        how: "interrupted" after `STOP`.
        message: one line.
    """

    how: Literal["done", "failed", "interrupted"]
    message: Message
