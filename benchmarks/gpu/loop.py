"""Runs the enhance step on a GPU, and watches its streams."""

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

STREAMS = ("up", "compute", "finish", "down")
AHEAD = 2
"""Frames on the GPU while the next one is prepared, as in `rtface.pipeline.runtime`."""


class One:
    """An engine for every face."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.described = (engine.name, engine.device)

    def pick(self, *_: Any) -> Any:
        return self._engine

    def named(self, name: str) -> Any:
        return self._engine


class Marked:
    """A stream that records two events around each piece of work. A piece begins with a wait, or at the previous event,
    and ends with the user's next event. All other calls are forwarded to the stream."""

    def __init__(self, gpu: Any, stream: Any) -> None:
        self._gpu, self._stream = gpu, stream
        self._begin: Any = None
        self.spans: list[tuple[Any, Any]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _mark(self) -> Any:
        event = self._gpu.event(timed=True)
        self._stream.record(event)
        return event

    def _work(self) -> None:
        if self._begin is None:
            self._begin = self._mark()

    def copy(self, *args: Any, **more: Any) -> None:
        self._work()
        self._stream.copy(*args, **more)

    def launch(self, *args: Any, **more: Any) -> None:
        self._work()
        self._stream.launch(*args, **more)

    def call(self, *args: Any, **more: Any) -> None:
        self._work()
        self._stream.call(*args, **more)

    def replay(self, *args: Any, **more: Any) -> None:
        self._work()
        self._stream.replay(*args, **more)

    def _end(self) -> None:
        if self._begin is not None:
            self.spans.append((self._begin, self._mark()))
            self._begin = None

    def wait(self, event: Any) -> None:
        self._end()
        self._stream.wait(event)

    def record(self, event: Any) -> None:
        self._end()
        self._stream.record(event)


class Loop:
    """A device, an engine, and an enhance step that uses them.

    Args:
        bench: session that provides the GPU.
        engine: name of the engine.
        most: maximum crops per run of the engine.
    """

    def __init__(self, bench: Bench, engine: str, most: int) -> None:
        recipe = engine_recipe(engine if not bench.dry else "rtface-s", most)
        plan, verdict, why = bench.plan(recipe)
        self._bench = bench
        self.engine = GpuEngine(bench.streams, recipe, plan, verdict, why)
        self.plan = self.engine.reason
        self.device = CudaDevice(bench.streams)

    def step(self) -> FilmEnhancer:
        """Creates an enhance step that has no state of faces yet."""
        return FilmEnhancer(
            Runtime(self.device, One(self.engine), ahead=AHEAD), Options(max_faces=16), Stats(), analysis=False
        )

    def close(self) -> None:
        self._bench.settle()
        self.device.close()
        self.engine.close()


class Watch:
    """Marks the work of all streams while it is entered.

    Attributes:
        spans: by stream, the begin and end of each piece of work, in milliseconds from the first mark; set at exit.
        seconds: time between entry and exit.
    """

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self.spans: dict[str, list[tuple[float, float]]] = {}
        self.seconds = 0.0

    def __enter__(self) -> Watch:
        self._bench.settle()
        streams = self._bench.streams

        def mark() -> None:
            self._first = streams.gpu.event(timed=True)
            streams.compute.record(self._first)
            self._first.synchronize()
            self._marked = {name: Marked(streams.gpu, getattr(streams, name)) for name in STREAMS}
            for name, stream in self._marked.items():
                setattr(streams, name, stream)

        self._bench.run(mark)
        self._started = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        streams = self._bench.streams
        self._bench.settle()
        self.seconds = time.perf_counter() - self._started

        def unmark() -> None:
            for name, stream in self._marked.items():
                setattr(streams, name, stream._stream)
                first = self._first.event
                self.spans[name] = [(float(b.event - first), float(e.event - first)) for b, e in stream.spans]

        self._bench.run(unmark)

    def _times(self, *names: str) -> list[tuple[float, float]]:
        return merged([span for name in names for span in self.spans[name]])

    def busy(self, *names: str) -> float:
        """Returns the share of time with any of these streams busy."""
        return _length(self._times(*names)) / 1e3 / self.seconds

    def overlap(self) -> float:
        """Returns the share of copying time during which the GPU also computed."""
        copies = self._times("up", "down")
        total = _length(copies)
        return _length(common(copies, self._times("compute", "finish"))) / total if total else 0.0


Spans = Sequence[tuple[float, float]]


def merged(spans: Spans) -> list[tuple[float, float]]:
    """Sorts spans and merges overlapping ones."""
    out: list[tuple[float, float]] = []
    for begin, end in sorted(spans):
        if out and begin <= out[-1][1]:
            out[-1] = out[-1][0], max(out[-1][1], end)
        else:
            out.append((begin, end))
    return out


def common(a: Spans, b: Spans) -> list[tuple[float, float]]:
    """Intersects two lists of sorted spans. Spans of one list must not overlap."""
    out: list[tuple[float, float]] = []
    i = j = 0
    while i < len(a) and j < len(b):
        begin, end = max(a[i][0], b[j][0]), min(a[i][1], b[j][1])
        if begin < end:
            out.append((begin, end))
        if a[i][1] < b[j][1]:
            i += 1
        else:
            j += 1
    return out


def _length(spans: Spans) -> float:
    return float(sum(end - begin for begin, end in spans))


def overlapped(step: FilmEnhancer, frames: Sequence[Frame]) -> float:
    """Measures the seconds for all frames, overlapped as in a run."""
    start = time.perf_counter()
    done = sum(frame.touched for frame in step(frames))  # type: ignore[union-attr]
    seconds = time.perf_counter() - start
    assert done == len(frames), f"{len(frames) - done} of {len(frames)} frames were let through: {step._stats.warnings}"
    return seconds


def serial(step: FilmEnhancer, frames: Sequence[Frame]) -> float:
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
        step = FilmEnhancer(Runtime(CpuDevice(), One(loaded)), Options(max_faces=16), Stats(), analysis=False)
        serial(step, [film.frame(0)])
        return quantiles([1e3 * serial(step, [film.frame(n)]) for n in range(1, count + 1)])
    finally:
        loaded.close()


def stages(step: FilmEnhancer) -> dict[str, float]:
    """Returns the host's milliseconds per frame in each stage."""
    histograms = step._stats.stages
    count = histograms["added"].count if "added" in histograms else 1
    return {name: round(1e3 * histogram.total / count, 4) for name, histogram in sorted(histograms.items())}
