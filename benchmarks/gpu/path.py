"""Measures the GPU enhance step's frame rate and bottleneck.

The frames are 1080p with four given faces. The thread that owns the GPU and the loop's thread are timed by separate
clocks. The baseline is the same step on the CPU, for some frames. `runs` measures tracker and codecs.
"""

from __future__ import annotations

import argparse
import threading
import time
from typing import Any

import numpy as np

from benchmarks.gpu.frames import Film
from benchmarks.gpu.loop import GpuSetup, on_cpu, stages, time_overlapped
from benchmarks.gpu.machine import Bench, quantiles
from rtface.frame import Frame


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--films", default="1,4", help="path: films at a time")


def measure(bench: Bench, args: argparse.Namespace) -> dict[str, Any]:
    """Measures this part."""
    result: dict[str, Any] = {"what": __doc__.splitlines()[0], "faces": 4 if not bench.dry else 1}
    for name in ("rtface-m", "rtface-s")[: bench.count(2, 1)]:
        setup = GpuSetup(bench, name, 16 if not bench.dry else 2)
        try:
            result[name] = {
                "plan": setup.plan_reason,
                "on the CPU": {"ms": on_cpu(name, _film(bench), bench.count(20, 1))},
            }
            for films in map(int, args.films.split(",")):
                result[name][f"{films} at a time"] = _films(bench, setup, min(films, bench.count(99, 2)))
                bench.save("path", result)
        finally:
            setup.close()
    return result


def _film(bench: Bench) -> Film:
    return Film(1920, 1080, 4, 250, "nv12", 8) if not bench.dry else Film(320, 180, 1, 60, "nv12", 3)


def _films(bench: Bench, setup: GpuSetup, films: int) -> dict[str, Any]:
    """Measures the frame rate of all films together, and the host's work."""
    count = bench.count(100, 3)
    scene = _film(bench)
    cpu = {"loop": 0.0, "owner": 0.0}

    def prepare() -> list[list[Frame]]:
        return [[scene.frame(n) for n in range(count)] for _ in range(films)]

    def run(frames: list[list[Frame]]) -> tuple[float, Any]:
        steps = [setup.step() for _ in range(films)]
        errors: list[BaseException] = []
        spent = [0.0] * films

        def go(n: int) -> None:
            begun = time.thread_time()
            try:
                time_overlapped(steps[n], frames[n])
                spent[n] = time.thread_time() - begun
            except BaseException as error:  # noqa: BLE001 - raised below
                errors.append(error)

        threads = [threading.Thread(target=go, args=(n,)) for n in range(films)]
        streams = bench.run(time.thread_time)
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - start
        if errors:
            raise errors[0]
        cpu["owner"] = 1e3 * (bench.run(time.thread_time) - streams) / (films * count)
        cpu["loop"] = 1e3 * max(spent) / count / films  # the loops run in parallel
        return seconds, steps[0]

    run(prepare())
    rates: list[float] = []
    step: Any = None
    for _ in range(bench.count(3, 1)):
        seconds, step = run(prepare())
        rates.append(films * count / seconds)
    whole = 1e3 / float(np.median(rates))
    return {
        "fps": quantiles(rates, 1),
        "ms_a_frame": round(whole, 3),
        "stages_ms_with_waiting": stages(step),
        "host_ms_a_frame": {name: round(ms, 3) for name, ms in cpu.items()},
        "step_bound_by": max(cpu, key=lambda n: cpu[n]) if max(cpu.values()) > 0.7 * whole else "the GPU, or waiting",
    }
