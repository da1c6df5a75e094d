"""Has the segments of a job made that are missing: in this process, in others of this machine, or by a farm."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from rtface.errors import Interrupted
from rtface.jobs.folder import JobFolder
from rtface.jobs.hand_out import HandOut
from rtface.jobs.local_workers import LocalWorkers, count_workers
from rtface.jobs.plan import JobPlan
from rtface.jobs.progress import JobProgress
from rtface.jobs.worker import Worker
from rtface.pipeline.runtime import BuildProgress

if TYPE_CHECKING:
    from rtface.jobs.farms import Workers

# Seconds between two looks at the wish to stop while workers say nothing.
_LOOK_S = 0.5


def make_segments(
    folder: JobFolder,
    plan: JobPlan,
    workers: int | str,
    farm: str | None,
    threads: int | None,
    show: JobProgress,
    *,
    stop: threading.Event,
    building: BuildProgress | None,
    notify: Callable[[str], object],
) -> None:
    """Works until no segment is missing.

    Args:
        folder, plan: of the job.
        workers, farm, stop, building, notify: as of `rtface.jobs.job.FilmJob.run`.
        threads: CPU threads of all workers here, None for all cores.
        show: is told where the workers are.

    Raises:
        Interrupted: `stop` was set.
        RtfaceError: what a worker raised.
    """
    if farm is not None:
        from rtface.jobs.farms import farm_of

        others: Workers = farm_of(farm)(folder, plan, farm, notify)
    elif (count := count_workers(workers, plan)) > 1:
        others = LocalWorkers(folder, plan, count, threads)
    else:
        with Worker(
            folder, plan, threads=threads, stop=stop, on_step=lambda step: show([step]), building=building
        ) as worker:
            worker.work(partial(HandOut(folder, len(plan)).take, ""))
        return
    try:
        while others.wait(_LOOK_S):
            if stop.is_set():
                raise Interrupted
            show(others.steps.values())
    finally:
        others.end()
