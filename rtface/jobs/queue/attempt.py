"""An attempt at an item, as the runner and the item's process tell each other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rtface.errors import Message
from rtface.jobs.queue.item import Task

STOP, PAUSE, RESUME = "stop", "pause", "resume"
"""The messages with which a runner asks for a clean end, for a halt between two frames, and to continue."""


@dataclass(frozen=True, slots=True)
class Start:
    """What an item's process is given.

    Attributes:
        task: the item.
        log: file for warnings and for what libraries print; its lock is held while the process runs.
        threads: CPU threads, where the item's options do not say; None for all cores.
    """

    task: Task
    log: Path
    threads: int | None


@dataclass(frozen=True, slots=True)
class Ended:
    """How an attempt ended; the last message of an item's process.

    Attributes:
        how: "interrupted" after `STOP`.
        message: one line.
    """

    how: Literal["done", "failed", "interrupted"]
    message: Message


def pauses_in_place(task: Task) -> bool:
    """Whether a running item halts between two frames and continues there. Workers in other processes do not hear
    of it: their item is stopped, and continues after its finished segments."""
    return not {"workers", "farm"} & task.flags.keys()
