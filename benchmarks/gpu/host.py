"""Measures the host's work on a 1080p frame without GPU time.

The work is the enhance step. Its GPU is simulated: every call returns immediately and does nothing. So the figures are
the CPU time of the loop's thread and of the thread that owns the GPU, without trackers, codecs and analysis.
"""

from __future__ import annotations

import argparse
import gc
import time
from itertools import count
from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks.gpu.frames import Film
from benchmarks.gpu.loop import AHEAD, One, stages
from benchmarks.gpu.machine import Bench, engine_recipe, quantiles
from rtface.config.options import Options
from rtface.device.cuda.device import CudaDevice
from rtface.device.cuda.stream_thread import StreamThread
from rtface.engine.cuda import engine as gpu_engine
from rtface.engine.golden import GoldenResult
from rtface.engine.plan import PlanIdentity
from rtface.enhance.film import FilmEnhancer
from rtface.protocols import Runtime
from rtface.stats import Stats

AIM_MS = {1: 2.0, 4: 4.0}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host-frames", type=int, default=60, help="host: frames of each round")


class _Memory:
    """Memory of the instant GPU. Pinned memory contains values between 0.3 and 0.7, which lead to typical decisions."""

    _next = count(1 << 40, 1 << 32)

    def __init__(self, nbytes: int, pinned: bool) -> None:
        self.nbytes, self.address = nbytes, next(self._next)
        if pinned:
            values = np.random.default_rng(0).uniform(0.3, 0.7, -(-nbytes // 4)).astype(np.float32)
            self._bytes = values.view(np.uint8)[:nbytes]

    def bytes(self) -> np.ndarray:
        return self._bytes

    def close(self) -> None:
        """Does nothing: there is no GPU memory."""


class InstantGpu:
    """A GPU (`gpu.Gpu`) that does nothing and takes no time. The class also replaces streams, events and graphs."""

    name, ordinal, capability, driver, handle = "instant GPU", 0, (9, 0), "13.0", 0

    def allocate(self, nbytes: int) -> _Memory:
        return _Memory(nbytes, False)

    def pin(self, nbytes: int) -> _Memory:
        return _Memory(nbytes, True)

    def stream(self, priority: int = 0) -> InstantGpu:
        return self

    def event(self, *, timed: bool = False) -> InstantGpu:
        return self

    def free_bytes(self) -> int:
        return 1 << 40

    def capture(self, build: Any) -> InstantGpu:
        return self

    def _nothing(self, *_: object, **__: object) -> None:
        pass

    enter = close = copy = launch = call = record = wait = replay = synchronize = _nothing


class _Plan:
    """A network that returns no answers."""

    scratch = None

    def __init__(self, recipe: Any) -> None:
        self.max_batch = recipe.batch.max
        self.identity = PlanIdentity.of(recipe, "none", "1", "instant GPU", "f32")
        self.ports = {name: (np.dtype(np.float32), shape) for name, shape in (recipe.inputs | recipe.outputs).items()}

    def bind(self, buffers: Any, sizes: Any) -> None:
        pass

    def capturable(self, handle: int, batch: int) -> bool:
        return True

    def close(self) -> None:
        pass


class _Golden:
    """Golden crops that every answer equals."""

    def __init__(self, streams: Any, recipe: Any, precision: Any, required: float, crops: int, places: Any) -> None:
        from rtface.device.cuda.batch import ROW

        self.rows, self.memories, self.required = np.zeros(crops, ROW), list[Any](), required

    def worst(self, crops: int) -> float:
        return 200.0

    def close(self) -> None:
        pass


def measure(bench: Bench, args: argparse.Namespace) -> dict[str, Any]:
    """Measures this part."""
    frames = bench.count(args.host_frames, 4)
    result: dict[str, Any] = {"what": __doc__.splitlines()[0], "aim_ms": AIM_MS}
    for faces in AIM_MS:
        result[f"{faces} faces"] = {name: _measure(bench, faces, name, frames) for name in ("rtface-s", "rtface-m")}
    return result


def opened(engine: str) -> tuple[Any, Any, Any]:
    """Opens stream thread, device and engine on an instant GPU."""
    recipe = engine_recipe(engine, 16)
    streams = StreamThread(InstantGpu)  # type: ignore[arg-type]
    real, gpu_engine.GoldenBatch = gpu_engine.GoldenBatch, _Golden  # type: ignore[misc,assignment]
    try:
        loaded = gpu_engine.GpuEngine(streams, recipe, _Plan(recipe), GoldenResult(100.0, 50.0, 0.0), "")
    finally:
        gpu_engine.GoldenBatch = real  # type: ignore[misc]
    return streams, CudaDevice(streams), loaded


def _measure(bench: Bench, faces: int, engine: str, frames: int) -> dict[str, Any]:
    streams, device, loaded = opened(engine)
    film = Film(1920, 1080, faces, 250) if not bench.dry else Film(320, 180, faces, 60, length=2)
    rounds: dict[str, list[float]] = {"loop": [], "owner": []}
    step: Any = SimpleNamespace()
    for n in range(bench.count(6, 2)):
        step = FilmEnhancer(Runtime(device, One(loaded), ahead=AHEAD), Options(max_faces=16), Stats(), analysis=False)
        pictures = [film.frame(k) for k in range(frames)]
        gc.collect()
        owner, begun = streams.run(time.thread_time).result(), time.thread_time()
        done = sum(frame.touched for frame in step(iter(pictures)))
        spent = time.thread_time() - begun
        assert done == frames, step._stats.warnings
        if n:
            rounds["loop"].append(1e3 * spent / frames)
            rounds["owner"].append(1e3 * (streams.run(time.thread_time).result() - owner) / frames)
    figures = {"processor_ms_a_frame": {name: quantiles(ms) for name, ms in rounds.items()}, "stages_ms": stages(step)}
    loaded.close()
    device.close()
    streams.close()
    return figures
