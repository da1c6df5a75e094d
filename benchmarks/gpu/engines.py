"""Crops a second of the shipped engines, batches of 1 to 32, against what the GPU's convolutions reach.

The ceiling is measured in the same run: bf16 convolutions, channels last, through cuDNN: one large enough to fill any
GPU, and all of the network's own, one after the other, each shape by itself.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.gpu import flops
from benchmarks.gpu.machine import (
    Bench,
    TorchClock,
    engine_recipe,
    interleaved,
    quantiles,
    ratio,
    repeats_for,
    torch_here,
)
from rtface.device.cuda.face_slots import FaceSlot
from rtface.engine.cuda.batch import Batches
from rtface.engine.cuda.engine import places_of
from rtface.engine.cuda.golden import GoldenBatch, row_of
from rtface.engine.plan import load_golden
from rtface.engine.recipe import Recipe

NAMES = ("rtface-m", "rtface-s")
BATCHES = (1, 2, 4, 8, 16, 32)
AIM = 0.6
"""Of the ceiling at a batch of 16."""


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--engines", default=",".join(NAMES), help="engines: their names, with commas")


def measure(bench: Bench, args: argparse.Namespace) -> dict[str, Any]:
    """All of it; see the module."""
    torch = torch_here()
    clock = TorchClock(torch) if torch else None
    result: dict[str, Any] = {"what": __doc__.splitlines()[0], "aim_of_ceiling": AIM}
    ceiling = _large_convolution(bench, clock) if clock else None
    result["large_convolution_tflops"] = ceiling
    for name in args.engines.split(",")[: bench.count(99, 1)]:
        result[name] = _engine(bench, name if not bench.dry else "rtface-s", clock, ceiling, args)
    return result


def _engine(
    bench: Bench, name: str, clock: TorchClock | None, ceiling: float | None, args: argparse.Namespace
) -> dict[str, Any]:
    sizes = BATCHES if not bench.dry else (1, 2)
    recipe = engine_recipe(name, max(sizes))
    work, convolutions = flops.read(recipe.model_path, recipe.inputs)
    started = time.perf_counter()
    plan, verdict, why = bench.plan(recipe)
    out: dict[str, Any] = {
        "plan": f"{plan.identity.backend} {plan.identity.library} {plan.identity.precision}",
        "why": why,
        "psnr": verdict.psnr,
        "seconds_to_open": round(time.perf_counter() - started, 1),
        "gflop_a_crop": round(work / 1e9, 3),
    }
    runner = Ours(bench, recipe, plan, max(sizes))
    out["graphs"] = len(runner.graphs)
    try:
        for n in sizes:
            subjects: dict[str, Callable[[], float]] = {
                "graphs": lambda n=n: runner.milliseconds(n, graphs=True),
                "no graphs": lambda n=n: runner.milliseconds(n, graphs=False),
            }
            out[str(n)] = _summary(interleaved(subjects, bench.count(20, 1), bench.count(2, 0)), n, work, ceiling)
        if clock is not None:
            out["own_convolutions"] = _own_convolutions(bench, clock, convolutions, 16 if not bench.dry else 1)
    finally:
        runner.close()
    return out


def _summary(times: Mapping[str, list[float]], batch: int, work: int, ceiling: float | None) -> dict[str, Any]:
    """Milliseconds, crops a second, TFLOP/s, and ratios against every baseline."""
    out: dict[str, Any] = {}
    for name, ms in times.items():
        middle = float(np.median(ms))
        out[name] = {
            "ms": quantiles(ms),
            "crops_per_s": round(1e3 * batch / middle, 1),
            "tflops": round(batch * work / middle / 1e9, 2),
        }
        if ceiling:
            out[name]["of_ceiling"] = round(batch * work / middle / 1e9 / ceiling, 4)
    if "graphs" in times:
        out["ratios"] = {name: ratio(ms, times["graphs"]) for name, ms in times.items() if name != "graphs"}
    return out


class Ours:
    """An engine's batches as frames meet them: gather, network, scatter; each row has its own face and memory."""

    def __init__(self, bench: Bench, recipe: Recipe, plan: Any, most: int) -> None:
        self._bench, self._recipe, self._plan = bench, recipe, plan
        bench.run(lambda: self._make(most))

    def _make(self, most: int) -> None:
        streams, recipe = self._bench.streams, self._recipe
        self._batches = Batches(streams, recipe, self._plan, most)
        self._faces = [FaceSlot.reserve(streams.gpu, recipe.input.size) for _ in range(most)]
        self._places = places_of(streams, recipe) if recipe.recurrent else None
        known = [self._places.take() if self._places else None for _ in range(2 * most)]
        self._memories = [*(face.memory for face in self._faces), *(place.memory for place in known if place)]
        self._known = known
        crops, _ = load_golden(recipe)
        pinned = streams.gpu.pin(crops[0].nbytes)
        for n, face in enumerate(self._faces):
            pinned.bytes().view(np.float32)[:] = crops[n % len(crops)].ravel()
            streams.compute.copy(face.memory, pinned, pinned.nbytes)
            self._wait()
        pinned.close()
        first, second = (
            np.concatenate([row_of(face, *more) for face, *more in zip(self._faces, *pair, strict=True)])
            for pair in ((known[:most], known[most:]), (known[most:], known[:most]))
        )
        self._rows = [first, second]
        precision = self._plan.identity.precision
        golden = GoldenBatch(streams, recipe, precision, getattr(recipe.golden.psnr, precision), most, self._places)
        self._batches.warm_up(golden)
        golden.close()
        self._batches.run(self._without_memory(first), [], self._memories).synchronize()  # something to remember
        self.graphs = self._batches.graphs

    @staticmethod
    def _without_memory(rows: np.ndarray) -> np.ndarray:
        rows = rows.copy()
        rows["kept"] = rows["state"] = 0
        return rows

    def _wait(self) -> None:
        event = self._bench.streams.gpu.event()
        self._bench.streams.compute.record(event)
        event.synchronize()

    def milliseconds(self, batch: int, *, graphs: bool) -> float:
        """Of one batch, by the GPU's clock, over some tenth of a second of them."""

        def go(repeats: int) -> float:
            self._batches.graphs = self.graphs if graphs else {}
            turn = iter(range(repeats))
            try:
                return self._bench.milliseconds(
                    lambda stream: self._batches.run(self._rows[next(turn) % 2][:batch], [], self._memories), repeats
                )
            finally:
                self._batches.graphs = self.graphs

        return go(1 if self._bench.dry else repeats_for(go(3), 50.0))

    def close(self) -> None:
        def go() -> None:
            self._wait()
            self._batches.graphs = self.graphs
            self._batches.close()
            del self._known[:]
            for face in self._faces:
                face.memory.close()
            if self._places:
                self._places.close()
            self._plan.close()

        self._bench.run(go)


def _convolution(bench: Bench, clock: TorchClock, conv: flops.Convolution, batch: int) -> float:
    """Milliseconds of one convolution in bf16, channels last."""
    torch, device = clock.torch, clock.device
    with clock.exact():
        x = torch.randn(batch, conv.channels, conv.height, conv.width, device=device, dtype=torch.bfloat16)
        w = torch.randn(conv.out, conv.channels // conv.groups, *conv.kernel, device=device, dtype=torch.bfloat16)
        x, w = (t.contiguous(memory_format=torch.channels_last) for t in (x, w))

        def work() -> Any:
            return torch.nn.functional.conv2d(x, w, None, conv.stride, conv.pad, 1, conv.groups)

        clock.milliseconds(work, 3 if device == "cuda" else 1)
        repeats = repeats_for(clock.milliseconds(work), 20.0) if device == "cuda" else 1
        return float(np.median([clock.milliseconds(work, repeats) for _ in range(bench.count(5, 1))]))


def _large_convolution(bench: Bench, clock: TorchClock) -> float:
    """TFLOP/s of the best of some 3×3 convolutions that fill a GPU."""
    best = 0.0
    shapes = [(256, 128, 64), (512, 64, 64), (1024, 32, 64)] if not bench.dry else [(16, 16, 1)]
    for channels, side, batch in shapes:
        conv = flops.Convolution(
            channels, channels, (3, 3), (1, 1), 1, side, side, (1, 1), 2 * side * side * channels * channels * 9
        )
        best = max(best, batch * conv.flops / _convolution(bench, clock, conv, batch) / 1e9)
    return round(best, 2)


def _own_convolutions(
    bench: Bench, clock: TorchClock, convolutions: Mapping[flops.Convolution, int], batch: int
) -> dict[str, Any]:
    """What the network's own convolutions take one after the other, and the largest share of them by itself."""
    chosen = sorted(convolutions.items(), key=lambda item: -item[0].flops * item[1])[: bench.count(999, 2)]
    total_ms, total = 0.0, 0
    typical = 0.0
    for n, (conv, times) in enumerate(chosen):
        ms = _convolution(bench, clock, conv, batch)
        total_ms += times * ms
        total += times * batch * conv.flops
        if n == 0:
            typical = batch * conv.flops / ms / 1e9
    return {
        "batch": batch,
        "ms": round(total_ms, 4),
        "tflops": round(total / total_ms / 1e9, 2),
        "largest_share_tflops": round(typical, 2),
    }
