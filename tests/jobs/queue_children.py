"""Stand-ins for the process of an item, for `rtface.jobs.queue.runner.Runner(target=...)`.

The name of INPUT says what happens: "ok", "fail", "crash", "slow" (until it is asked to stop), "deaf" (never stops),
"hold" (until the file INPUT is gone), "meet" (until three were begun).
Each start and end is a line of ``events`` in the folder of OUTPUT, which tells whether two ran at the same time.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtface.concurrency.child_main import ParentProcess
from rtface.errors import Interrupted, Message
from rtface.jobs.queue import item_process
from rtface.jobs.queue.item import STOP, Ended, ItemProgress, Start
from rtface.pipeline.progress import Progress

if TYPE_CHECKING:
    from rtface.frame import Frame

TARGET = "tests.jobs.queue_children:run_item"
ENDLESS = "tests.jobs.queue_children:run_endless_film"


def item_plan(source: object, output: object, **options: object) -> dict[str, Any]:
    """The plan of an item, as the queue keeps it."""
    outputs = {"film": str(output), **({"report": str(options["report"])} if "report" in options else {})}
    return {"input": str(source), "output": str(output), "options": options, "outputs": outputs}


def events_of(start: Start) -> Path:
    return Path(start.task.plan["output"]).parent / "events"


def note(start: Start, what: str) -> None:
    number = os.open(events_of(start), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(number, f"{what} {start.task.id} {start.threads}\n".encode())
    os.close(number)


def run_item(parent: ParentProcess, start: Start) -> None:
    """Does what the name of the input says."""
    source = Path(start.task.plan["input"])
    name = source.stem
    note(start, "begin")
    parent.send(ItemProgress(0.5, 12, 24.0, 3.0))
    if name == "crash":
        os.abort()
    if name == "hold":  # until its file is removed
        while source.exists() and not parent.gone:
            time.sleep(0.02)
    if name in ("slow", "deaf"):
        while (message := parent.receive()) != STOP:
            note(start, str(message))
        if name == "deaf":
            time.sleep(600)
        note(start, "stop")
        parent.send(Ended("interrupted", Message("stopped")))
        return
    while name == "meet" and events_of(start).read_text().count("begin") < 3:
        time.sleep(0.02)
    note(start, "end")
    parent.send(Ended("failed", Message("the film is bad")) if name == "fail" else Ended("done", Message("24 frames")))


def run_endless_film(parent: ParentProcess, start: Start) -> None:
    """The real process of an item, with a film without end: each frame is an event, and a stop leaves a part of it."""

    def run_film(source: Path, output: str, *args: object, progress: Any, stop: Any, **more: object) -> None:
        frames = 0
        while not stop.is_set():
            frames += 1
            note(start, "frame")
            progress(Progress(frames, 0.01 * frames, 1000.0, 100.0, 1))
            time.sleep(0.01)
        part = Path(output).with_suffix(".partial.mp4")
        part.touch()
        end = Interrupted("interrupted; continue with --start 0:00:01")
        end.partial = str(part)
        raise end

    item_process.run_film = run_film  # type: ignore[assignment]
    item_process.run_item(parent, start)


@dataclass
class Slow:
    """A stage that makes every frame slow as long as a file is there."""

    api = 1
    file: str = ""

    def __call__(self, frame: Frame) -> Frame:
        if Path(self.file).exists():
            time.sleep(0.05)
        return frame
