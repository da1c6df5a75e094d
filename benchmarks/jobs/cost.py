"""Processor time of a job against that of a run in one piece: planning, work, join; and with several workers.

    python -m benchmarks.jobs.cost FILM [--engine rtface-s] [--workers 1 2 4] [--length 25]

Each is a process by itself, measured with its children by getrusage, so that other work on the machine counts little.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from time import perf_counter, process_time


def measured(call: Callable[[], object]) -> dict[str, float]:
    """CPU and wall seconds, and peak memory, of a call in a forked process and its children."""
    began = perf_counter()
    child = os.fork()
    if child == 0:
        try:
            call()
        except BaseException as error:  # noqa: BLE001
            print(error, file=sys.stderr)
            os._exit(1)
        os._exit(0)
    _, status, used = os.wait4(child, 0)
    assert status == 0
    return {
        "cpu_s": round(used.ru_utime + used.ru_stime, 2),
        "wall_s": round(perf_counter() - began, 2),
        "peak_mb": round(used.ru_maxrss / 1024, 1),
    }


def main() -> None:
    """Measures, and prints JSON."""
    from rtface.config.options import Options

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("film", type=Path)
    parser.add_argument("--engine", default="rtface-s")
    parser.add_argument("--tracker", default="auto")
    parser.add_argument("--workers", type=int, nargs="+", default=[1])
    parser.add_argument("--length", default="25")
    asked = parser.parse_args()
    options = Options(engine=asked.engine, tracker=asked.tracker, overwrite=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def one_piece() -> None:
            from rtface.pipeline.film import run_file

            run_file(asked.film, folder / "one.mp4", options)

        def job(workers: int) -> None:
            from rtface.jobs.job import FilmJob

            began = process_time()
            made = FilmJob.open(asked.film, folder / "job.mp4", options, length=Fraction(asked.length))
            assert isinstance(made, FilmJob), made
            planned = process_time() - began
            report = made.run(workers=workers)
            print(
                json.dumps(
                    {"planning_cpu_s": round(planned, 3), "segments": len(made.plan), "frames": report.frames_out}
                ),
                flush=True,
            )

        print(json.dumps({"one piece": measured(one_piece)}), flush=True)
        for workers in asked.workers:
            print(json.dumps({f"{workers} workers": measured(lambda workers=workers: job(workers))}), flush=True)


if __name__ == "__main__":
    main()
