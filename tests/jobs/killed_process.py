"""A program that runs a job again and again, each time killed at another step, and prints what the job had by then.

Run as ``python -m tests.jobs.killed_process SOURCE FOLDER STRIDE [stills] [pairs.mkv]``: into a folder that is
there, with a comparison. It forks, so that imports are paid once.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rtface.config.options import Options
from rtface.jobs.folder import JobFolder
from rtface.jobs.job import FilmJob
from rtface.jobs.segment_file import SegmentWriter
from rtface.media.files.workfile import WorkFile
from rtface.media.stills import folder_sink
from rtface.media.stills.folder_sink import FolderSink
from rtface.media.write.film_file import FilmFile
from rtface.pipeline import runtime
from tests.jobs import films
from tests.pipeline.fakes import FakeEngine
from tests.pipeline.run_media import Engines

STEPS = [
    (JobFolder, "write"),
    (JobFolder, "remove"),
    (shutil, "rmtree"),
    (SegmentWriter, "finish"),
    (SegmentWriter, "discard"),
    (FolderSink, "put"),
    (FolderSink, "complete"),
    (folder_sink, "rename_new"),
    (FilmFile, "put"),
    (FilmFile, "complete"),
    (WorkFile, "publish"),
    (FilmFile, "finish"),
]
"""What is counted: before and after each call the process may die."""
MANY = "put", "rename_new"
"""Calls for every frame: of them, and of what they call, only every tenth is counted."""
LENGTH = films.LENGTH * 2 / 5
OUTPUT = "stills" if "stills" in sys.argv else "out.mkv"


def die_at(step: int) -> None:
    """Has this process killed by SIGKILL when it comes to a step."""
    count, quiet = 0, threading.local()

    def counted(call: Callable[..., Any], name: str) -> Callable[..., Any]:
        calls = 0

        def run(*arguments: Any, **more: Any) -> Any:
            nonlocal calls
            calls += 1
            outside = getattr(quiet, "now", False)
            quiet.now = outside or (name in MANY and calls % 10 != 1)
            try:
                tick()
                answer = call(*arguments, **more)
                tick()
                return answer
            finally:
                quiet.now = outside

        return run

    def tick() -> None:
        nonlocal count
        count += not getattr(quiet, "now", False)
        if count == step:
            os.kill(os.getpid(), signal.SIGKILL)

    for owner, name in STEPS:
        setattr(owner, name, counted(getattr(owner, name), name))


def run(source: Path, output: Path) -> None:
    """One call of the job."""
    runtime.EngineSet = lambda *_a, **_k: Engines(FakeEngine())  # type: ignore[assignment,misc]
    pairs = output.with_name("pairs.mkv") if "pairs.mkv" in sys.argv else None
    options = Options(tracker="none", codec="ffv1", compare=pairs)
    job = FilmJob.open(source, output, options, length=LENGTH)
    assert isinstance(job, FilmJob), job
    job.run()


def in_child(call: Callable[[], None]) -> int:
    """The exit status of a forked process that makes a call."""
    child = os.fork()
    if child == 0:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - the parent sees the code
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def main() -> None:
    """Dies at every STRIDE-th step, from the first on, until a call comes through; prints a line for each."""
    source, folder = Path(sys.argv[1]), Path(sys.argv[2])
    os.fsync = lambda _: None  # only a crash of the whole computer loses what was not written to the disk
    for step in range(1, 10_000, int(sys.argv[3])):
        place = folder / str(step)
        place.mkdir()
        output = place / OUTPUT
        if OUTPUT == "stills":
            output.mkdir()
        status = in_child(lambda step=step, output=output: (die_at(step), run(source, output)))
        if status == 0:
            shutil.rmtree(place)
            break
        job = JobFolder(place / f"{OUTPUT}.rtface")
        before = len(job.finished()) if job.segments.is_dir() else 0
        whole = output.exists() and (output.is_file() or any(output.iterdir()))
        again = in_child(lambda output=output: run(source, output)) if not whole or job.planned else 0
        print(
            json.dumps(
                {
                    "step": step,
                    "status": status,
                    "finished": before,
                    "whole": whole,
                    "again": again,
                    "left": sorted(p.name for p in place.iterdir()),
                }
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
