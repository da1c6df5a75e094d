"""An attempt at an item, as the runner and the item's process tell each other."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rtface.errors import Message
from rtface.jobs.folder import JobFolder, folder_of
from rtface.jobs.queue.item import Task

STOP, PAUSE, RESUME = "stop", "pause", "resume"
"""The messages with which a runner asks for a clean end, for a halt between two frames, and to continue."""

# What a run does once OUTPUT has its name.
_AFTER = {"sign", "sidecar", "report"}


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


def ended_before(task: Task) -> Ended | None:
    """How an attempt ended whose end was not recorded; None where it did not write OUTPUT, or what comes after it."""
    if not _wrote_output(task):
        return None
    if task.plan["options"].keys() & _AFTER:  # which may be missing
        return None
    return Ended("done", Message("it was finished before the last runner ended", code="ended_before"))


def _wrote_output(task: Task) -> bool:
    """Whether an attempt that was cut short had finished: it had made sure that OUTPUT was free, and it is there now.
    With ``overwrite`` it is run again, as an older OUTPUT may be there; a job whose plan is there ends itself."""
    output = Path(task.plan["output"])
    return (
        task.began
        and not task.plan["options"].get("overwrite")
        and not task.plan["output"].endswith(("/", os.sep))
        and output.is_file()
        and not JobFolder(folder_of(output)).planned
    )
