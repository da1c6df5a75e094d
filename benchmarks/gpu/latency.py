"""Measures the latency of the enhance step for live 720p frames.

Each frame has one face. A frame's latency ends when it is corrected. The baseline is the same step on the CPU.
"""

from __future__ import annotations

import argparse
import gc
import time
from typing import Any

from benchmarks.gpu.frames import RATE, Film
from benchmarks.gpu.loop import GpuSetup, on_cpu, stages
from benchmarks.gpu.machine import Bench, quantiles

AIM_P99_MS = 4.0


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--latency-frames", type=int, default=1000, help="latency: frames of each kind")


def measure(bench: Bench, args: argparse.Namespace) -> dict[str, Any]:
    """Measures this part."""
    count = bench.count(args.latency_frames, 4)
    result: dict[str, Any] = {"what": __doc__.splitlines()[0], "aim_p99_ms": AIM_P99_MS, "frames": count}
    film = Film(1280, 720, 1, 250, "yuv420p", 8) if not bench.dry else Film(320, 180, 1, 60, "yuv420p", 2)
    for name in ("rtface-m", "rtface-s")[: bench.count(2, 1)]:
        setup = GpuSetup(bench, name, 16 if not bench.dry else 1)
        try:
            result[name] = {"plan": setup.plan_reason, "on the CPU": {"ms": on_cpu(name, film, bench.count(40, 1))}}
            for how, rate in (("back to back", None), ("paced at 30 fps", RATE if not bench.dry else 1000)):
                step = setup.step()
                ms = _run(step, film, bench.count(50, 1), None) and _run(step, film, count, rate)
                result[name][how] = {"ms": quantiles(ms), "stages_ms": stages(step)}
                bench.save("latency", result)
        finally:
            setup.close()
    return result


def _run(step: Any, film: Film, count: int, rate: int | None) -> list[float]:
    """Measures each frame in milliseconds. With `rate`, frames arrive at that rate."""
    out: list[float] = []
    gc.collect()
    begun = time.perf_counter()
    for n in range(count):
        frame = film.frame(n)
        if rate is not None:
            time.sleep(max(0.0, begun + n / rate - time.perf_counter()))
        start = time.perf_counter()
        done = step.collect(step.submit(frame))
        out.append(1e3 * (time.perf_counter() - start))
        assert done.touched, step._stats.warnings
    return out
