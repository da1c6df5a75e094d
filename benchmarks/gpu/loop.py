"""Runs the enhance step on a GPU or the CPU."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from benchmarks.gpu.frames import Film
from benchmarks.gpu.machine import Bench, engine_recipe, quantiles
from rtface.config.options import Options
from rtface.device.cuda.device import CudaDevice
from rtface.engine.cuda.engine import GpuEngine
from rtface.enhance.film import FilmEnhancer
from rtface.frame import Frame
from rtface.protocols import Runtime
from rtface.stats import Stats

AHEAD = 2
"""Frames on the GPU while the next one is prepared, as in `rtface.pipeline.runtime`."""


class SingleEngine:
    """Uses the same engine for every face."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.described = (engine.name, engine.device)

    def pick(self, *_: Any) -> Any:
        return self._engine

    def named(self, name: str) -> Any:
        return self._engine


class GpuSetup:
    """A device, an engine, and an enhance step that uses them.

    Args:
        bench: session that provides the GPU.
        engine: name of the engine.
        max_crops: maximum number of crops per run of the engine.
    """

    def __init__(self, bench: Bench, engine: str, max_crops: int) -> None:
        recipe = engine_recipe(engine if not bench.dry else "rtface-s", max_crops)
        plan, verdict, why = bench.plan(recipe)
        self._bench = bench
        self.engine = GpuEngine(bench.streams, recipe, plan, verdict, why)
        self.plan_reason = self.engine.reason
        self.device = CudaDevice(bench.streams)

    def step(self) -> FilmEnhancer:
        """Creates an enhance step that has no state of faces yet."""
        return FilmEnhancer(
            Runtime(self.device, SingleEngine(self.engine), ahead=AHEAD), Options(max_faces=16), Stats(), analysis=False
        )

    def close(self) -> None:
        self._bench.settle()
        self.device.close()
        self.engine.close()


def time_overlapped(step: FilmEnhancer, frames: Sequence[Frame]) -> float:
    """Measures the seconds for all frames, overlapped as in a run."""
    start = time.perf_counter()
    done = sum(frame.touched for frame in step(frames))  # type: ignore[union-attr]
    seconds = time.perf_counter() - start
    assert done == len(frames), f"{len(frames) - done} of {len(frames)} frames uncorrected: {step._stats.warnings}"
    return seconds


def time_serial(step: FilmEnhancer, frames: Sequence[Frame]) -> float:
    """Measures the seconds for all frames, one after another."""
    start = time.perf_counter()
    for frame in frames:
        assert step.collect(step.submit(frame)).touched, step._stats.warnings
    return time.perf_counter() - start


def on_cpu(engine: str, film: Film, count: int) -> dict[str, float]:
    """Measures the step on the CPU: milliseconds per frame, with ONNX Runtime in fp32 on all cores."""
    from rtface.device.cpu.device import CpuDevice
    from rtface.engine.host_engine import HostEngine
    from rtface.engine.recipe import find_recipes, load_recipe

    loaded = HostEngine(load_recipe(find_recipes()[engine]), device="onnx")
    try:
        step = FilmEnhancer(Runtime(CpuDevice(), SingleEngine(loaded)), Options(max_faces=16), Stats(), analysis=False)
        time_serial(step, [film.frame(0)])
        return quantiles([1e3 * time_serial(step, [film.frame(n)]) for n in range(1, count + 1)])
    finally:
        loaded.close()


def stages(step: FilmEnhancer) -> dict[str, float]:
    """Returns the host's milliseconds per frame in each stage."""
    histograms = step._stats.stages
    count = histograms["added"].count if "added" in histograms else 1
    return {name: round(1e3 * histogram.total / count, 4) for name, histogram in sorted(histograms.items())}
