"""Films as jobs: the flags of ``rtface run``, and the commands ``work``, ``segment`` and ``status``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rtface.cli.command import Json, command
from rtface.cli.console import Console, SteadyStatus, print_json, print_table, print_text
from rtface.cli.signals import StopRequest
from rtface.errors import UsageError, message_of
from rtface.util.parse import format_clock
from rtface.util.text import counted

if TYPE_CHECKING:
    from rtface.jobs import JobStatus
    from rtface.jobs.folder import JobFolder as Job

BUSY, REFUSED = 3, 4
"""Exit codes of ``rtface segment``: another worker has the segment; this machine may not take part."""

_Folder = Annotated[
    Path,
    typer.Argument(metavar="JOB", show_default=False, help=("Folder of a job: OUTPUT.rtface, or what --job named.")),
]


TrustPlan = Annotated[bool, typer.Option("--trust-plan", help=("Work on a plan of another user, without being asked."))]
Workers = Annotated[
    str | None,
    typer.Option(
        metavar="N|auto",
        show_default="1",
        help=("Processes that work on a film at the same time; 0 only plans it, for 'rtface work' on other machines."),
    ),
]
JobFolder = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        show_default="OUTPUT.rtface",
        help=("Keep what is finished of a film in this folder until all of it is."),
    ),
]
Restart = Annotated[
    bool, typer.Option("--restart", help=("Begin a film again, instead of continuing where the last run of it ended."))
]
FarmAddress = Annotated[
    str | None,
    typer.Option(
        metavar="dask://HOST:PORT",
        help=("Let the workers of a Dask cluster make a film; they see its folder and the INPUT under the same path."),
    ),
]


@command()
def work(
    folder: _Folder,
    threads: Annotated[
        int | None, typer.Option(min=1, max=1024, show_default="all cores", help=("CPU threads."))
    ] = None,
    *,
    trust_plan: TrustPlan = False,
    console: Console,
    stop: StopRequest,
) -> None:
    """Take part in a job, from any machine that sees its folder and its film. Ends when no segment is free."""
    from rtface.jobs.worker import Worker

    place, total = _agreed(folder, trust_plan, console)
    show = SteadyStatus(console)
    with Worker(
        place,
        threads=threads,
        stop=stop.event,
        building=console.building,
        on_step=lambda step: show(
            f"segment {step.segment} of {total}: {step.seconds:.0f} s, {step.frames} frames here"
        ),
    ) as worker:
        complete = worker.work()
    done = counted(len(worker.done), "segment was", "segments were")
    rest = (
        "all segments of the job are finished; the command that planned it joins them"
        if complete
        else "others are at work on the rest"
    )
    console.log(f"{done} made here; {rest}")


@command()
def segment(
    folder: _Folder,
    number: Annotated[int, typer.Argument(metavar="N", show_default=False, help="The segment, from 0 on.")],
    threads: Annotated[
        int | None, typer.Option(min=1, max=1024, show_default="all cores", help=("CPU threads."))
    ] = None,
    *,
    trust_plan: TrustPlan = False,
    console: Console,
    stop: StopRequest,
) -> None:
    """Make one segment of a job, for render farms. Exit codes: 0 it is finished, 1 failed, 2 wrong usage, 3 another
    worker has it, 4 this installation differs from the one that planned the job."""
    from rtface.jobs.worker import Outcome, WorkerRefused, do_segment

    place, _ = _agreed(folder, trust_plan, console)
    try:
        outcome = do_segment(place, number, threads=threads, stop=stop.event, wait=True)
    except WorkerRefused as error:
        console.log(message_of(error), "error")
        raise typer.Exit(REFUSED) from None
    console.log(f"segment {number}: {outcome.value}")
    if outcome is Outcome.BUSY:
        raise typer.Exit(BUSY)


@command()
def status(folder: _Folder, *, json: Json = False) -> None:
    """Show what is finished of a job, who works on it, and the time left."""
    from rtface.jobs.folder import JobFolder
    from rtface.jobs.status import read_status

    found = read_status(JobFolder(folder))
    if json:
        print_json(found.to_dict())
        return
    print_text(*_lines(found))
    if found.workers:
        print_table(
            [
                ("worker", "host", "segment", "done", "speed"),
                *(
                    (
                        w.id,
                        w.host,
                        "" if w.segment is None else str(w.segment),
                        f"{w.seconds:.0f} s",
                        "" if w.speed is None else f"{w.speed:.2f}x",
                    )
                    for w in found.workers
                ),
            ]
        )
    for worker in found.silent:
        print_text(f"{worker.id} ({worker.host}): not heard of for {format_clock(worker.silent_s)}")


def _agreed(folder: Path, trusted: bool, console: Console) -> tuple[Job, int]:
    """The folder of a job and the number of its segments, once the user agreed to a plan of somebody else: it can name
    any file that the user may read, and a stage that runs code."""
    from rtface.jobs.folder import JobFolder
    from rtface.jobs.plan import JobPlan

    place = JobFolder(folder)
    plan, sha256, own = JobPlan.look(place)
    if not own:
        agree(f"{folder}: another user planned this job", plan.source, plan.target, plan.options, trusted, console)
        place.agreed = sha256
    return place, len(plan)


def agree(
    what: str, input: object, output: object, options: Mapping[str, Any], trusted: bool, console: Console
) -> None:
    """Shows a plan of another user, and asks whether to work on it. UsageError where that is not `trusted`, and no one
    can be asked, or says no."""
    for line in (
        what,
        f"INPUT: {input}",
        f"OUTPUT: {output}",
        *(f"--{key.replace('_', '-')}: {value}" for key, value in options.items()),
    ):
        console.log(line)
    interactive = sys.stdin.isatty() and sys.stderr.isatty()
    try:
        if not trusted and not (interactive and typer.confirm("rtface: do you want to work on it?", err=True)):
            raise UsageError("{why}; give --trust-plan to work on it", code="trust_plan", why=what)
    except typer.Abort:  # Ctrl-C, or the end of what can be typed
        raise KeyboardInterrupt from None


def _lines(found: JobStatus) -> list[str]:
    share = found.done_s / found.duration_s if found.duration_s else 1.0
    times = dict.fromkeys(map(format_clock, found.time_left_range_s or ()))  # one, where both are the same second
    left = f", {' to '.join(times)} left" if times else ""
    return [
        f"{found.input} -> {found.output}",
        f"{found.state}: {found.finished} of {found.segments} segments, {share:.0%}{left}",
    ]
