"""How a job scales to many workers: simulated with the rule that workers share segments by, on measured times.

    python -m benchmarks.jobs.simulate FILM... [--hours 3] [--length 25] [--workers 1 8 64 1000]

Every film is enhanced for some seconds by one worker, in segments of a second: that gives the seconds of work for a
second of film, from segment to segment, and the seconds until a worker's first frame. The simulated film draws its
segments from them (seeded). Workers begin together; each is up to a fifth slower or faster than the mean, one in fifty
dies in the middle of its first segment, and its segment is free again after the time of a lost lease. Not simulated:
shared disks and networks, and joining. Figures: seconds to the last segment, also by those of workers that never wait
(`ideal`); the share of all workers' time that they waited (`idle`); seconds from the first worker without work to the
end (`tail`); lead-ins that were processed.
"""

from __future__ import annotations

import argparse
import heapq
import tempfile
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks.common import save
from rtface.jobs.leases import STALE_S
from rtface.jobs.time_left import choose

LEAD_IN_S = 2.25  # one second is corrected, and five are only tracked, at about a quarter of the cost
SPREAD, DYING = 0.2, 50


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of work for a second of film, one for each measured segment, and seconds until a worker's first frame."""

    work: tuple[float, ...]
    start: float


def measured(films: list[Path], engine: str, seconds: float) -> Times:
    """Runs one worker over the beginning of each film."""
    from rtface.config.options import Options
    from rtface.jobs import FilmJob
    from rtface.jobs.plan import JobPlan
    from rtface.jobs.worker import Step, Worker

    work, starts = list[float](), list[float]()
    for film in films:
        with tempfile.TemporaryDirectory() as name:
            job = FilmJob.open(film, Path(name) / "film.mkv", Options(engine=engine, end=seconds), length=Fraction(1))
            if isinstance(job, str):
                print(job)
                continue
            first = list[float]()

            def noted(_: Step, first: list[float] = first) -> None:
                first.append(perf_counter())

            began = perf_counter()
            with Worker(job.folder, on_step=noted) as worker:
                worker.work()
            starts.append(first[0] - began)
            plan = JobPlan.load(job.folder)
            records = [job.folder.read(job.folder.record(number)) for number in sorted(job.folder.finished())]
            # The first segment holds the start, too.
            work += [r["seconds"] / float(plan.seconds(r["segment"])) for r in records[1:]]
    return Times(tuple(work), float(np.median(starts)))


def simulated(workers: int, segments: int, length: float, times: Times, seed: int = 1) -> dict[str, Any]:
    """Figures of one run; see the module."""
    r = np.random.default_rng(seed)
    work = [length * float(w) for w in r.choice(times.work, segments)]
    slow = r.uniform(1 - SPREAD, 1 + SPREAD, workers)
    lead_in = LEAD_IN_S * float(np.mean(times.work))
    finished, leased = set[int](), set[int]()
    busy, lead_ins, first_idle = 0.0, 0, None
    waiting = list[int]()
    events: list[tuple[float, int, str, int]] = [(times.start * float(slow[w]), w, "free", -1) for w in range(workers)]
    heapq.heapify(events)
    dying = {w for w in range(workers) if w % DYING == DYING - 1}
    now = 0.0
    while events and len(finished) < segments:
        now, worker, what, number = heapq.heappop(events)
        last = None
        if what == "done":
            leased.discard(number)
            finished.add(number)
            last = number
        elif what == "lost":
            leased.discard(number)
            for other in waiting:
                heapq.heappush(events, (now, other, "free", -1))
            waiting.clear()
            continue
        following = None if last is None or last + 1 >= segments or last + 1 in finished | leased else last + 1
        chosen = choose(segments, finished, leased) if following is None else following
        if chosen is None:
            first_idle = now if first_idle is None else first_idle
            waiting.append(worker)
            continue
        leased.add(chosen)
        takes = work[chosen] * float(slow[worker])
        if following is None and chosen:
            takes, lead_ins = takes + lead_in * float(slow[worker]), lead_ins + 1
        if worker in dying:
            dying.discard(worker)
            busy += takes / 2
            heapq.heappush(events, (now + takes / 2 + STALE_S, worker, "lost", chosen))
            continue
        busy += takes
        heapq.heappush(events, (now + takes, worker, "done", chosen))
    ideal = sum(work) / float((1.0 / slow).sum())
    return {
        "workers": workers,
        "seconds": round(now, 1),
        "ideal": round(now / ideal, 3),
        "idle": round(max(0.0, 1 - busy / (now * workers)), 3),
        "tail": round(now - first_idle, 1) if first_idle is not None else 0.0,
        "lead_ins": lead_ins,
    }


def main() -> None:
    """Measures, simulates, saves results/jobs_simulation.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("films", nargs="+", type=Path)
    parser.add_argument("--engine", default="rtface-s")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each film that are measured")
    parser.add_argument("--hours", type=float, default=3.0)
    parser.add_argument("--length", type=float, nargs="+", default=[25.0, 5.0], help="seconds of a segment")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8, 64, 1000])
    asked = parser.parse_args()
    times = measured(asked.films, asked.engine, asked.seconds)
    spread = np.percentile(times.work, [5, 50, 95])
    result: dict[str, Any] = {
        "work_s_per_film_s": dict(zip(("p5", "p50", "p95"), spread.round(2), strict=True)),
        "measured": len(times.work),
        "start_s": round(times.start, 2),
        "hours": asked.hours,
    }
    for length in asked.length:
        segments = round(asked.hours * 3600 / length)
        result[f"{segments} segments of {length:g} s"] = [simulated(n, segments, length, times) for n in asked.workers]
    save("jobs_simulation", result)


if __name__ == "__main__":
    main()
