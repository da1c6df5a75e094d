"""Checks each installed TensorRT: build, load, golden gate, capture, and the answers of its graphs.

Checks every precision. If no TensorRT supports the GPU, PyTorch replaces it. Afterwards measures how long a run waits
for a person's weights, whose plan is built at each start, and compares their answers with a CPU's. Results are saved
after each step.
"""

from __future__ import annotations

import argparse
import time
import traceback
from collections.abc import Iterator
from typing import Any

from benchmarks.gpu.machine import Bench, engine_recipe
from rtface.engine.crop_runner import CropRunner
from rtface.engine.cuda.engine import GpuEngine, places_of
from rtface.engine.cuda.golden import GoldenBatch
from rtface.engine.golden import GoldenResult, gate, load_golden, psnr
from rtface.engine.recipe import Recipe, of_person
from rtface.engine.tensorrt.library import installed

CROPS = (1, 2, 3, 5, 8, 16)
"""Numbers of crops in a batch; some leave rows empty."""


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tensorrt-engine", default="rtface-m", help="tensorrt: the engine whose network is compiled")


def measure(bench: Bench, args: argparse.Namespace) -> dict[str, Any]:
    """Measures this part. Raises RuntimeError if no network runs."""
    recipe = engine_recipe(args.tensorrt_engine if not bench.dry else "rtface-s", 16 if not bench.dry else 4)
    result: dict[str, Any] = {"what": __doc__.splitlines()[0], "ways": {}}
    for name, opened in _ways(bench, recipe):
        figures: dict[str, Any] = {}
        result["ways"][name] = figures
        try:
            _judge(bench, recipe, opened, figures)
        except Exception as error:  # noqa: BLE001 - measures the other ways nevertheless
            traceback.print_exc()
            figures["error"] = f"{type(error).__name__}: {error}"
        bench.save("tensorrt", result)
    result["persons"] = {}
    for library in [] if bench.dry or bench.stood_in else installed():
        try:
            result["persons"][library.name] = bench.run(lambda library=library: _person(bench, recipe, library))
        except Exception as error:  # noqa: BLE001 - as above
            traceback.print_exc()
            result["persons"][library.name] = f"{type(error).__name__}: {error}"
        bench.save("tensorrt", result)
    if all("error" in way for way in result["ways"].values()):
        raise RuntimeError(
            "nothing runs networks on this GPU: "
            + "; ".join(f"{name}: {way['error']}" for name, way in result["ways"].items())
        )
    result["in_short"] = "; ".join(
        f"{name}: " + (way["error"] if "error" in way else f"{way['golden_db']} dB, graphs {way['graphs']}")
        for name, way in result["ways"].items()
    )
    return result


def _ways(bench: Bench, recipe: Recipe) -> Iterator[tuple[str, Any]]:
    """Yields each way's name and function. The function opens and judges a plan on the thread that owns the GPU."""
    if bench.dry:
        yield "the tests' own", lambda: (bench.plan(recipe)[0], GoldenResult(100.0, 50.0, 0.0))
        return
    from rtface.engine.tensorrt import open_as
    from rtface.engine.tensorrt.library import choose, precisions

    gpu = bench.streams.gpu
    for library in installed():
        for precision in precisions(gpu.capability):

            def opened(library: Any = library, precision: Any = precision) -> tuple[Any, GoldenResult]:
                def make() -> tuple[Any, GoldenResult]:
                    plan = open_as(recipe, gpu, choose(gpu.capability, (library,), gpu.name), precision)
                    return plan, gate(recipe, plan)

                return bench.run(make)

            yield f"{library.name}, {precision}", opened
    if bench.stood_in:
        for precision in precisions(gpu.capability):
            yield f"PyTorch, {precision}", lambda p=precision: bench.plan(recipe, precision=p)[:2]


def _person(bench: Bench, recipe: Recipe, library: Any) -> dict[str, Any]:
    """Measures a plan with a synthetic person's weights.

    Returns the seconds to open the person's plan and the shared plan. Also returns the PSNR (dB) of the person's answer
    against ONNX Runtime's, with the person's and with the shared weights. The first PSNR has to be higher.
    """
    from rtface.engine.host_engine import HostEngine
    from rtface.engine.learned import read
    from rtface.engine.tensorrt import open_as
    from rtface.engine.tensorrt.library import choose
    from tests.persons.made import ANNA, learnt

    gpu, crop = bench.streams.gpu, load_golden(recipe)[0][:1]
    choice = choose(gpu.capability, (library,), gpu.name)
    personal = of_person(recipe, read(learnt(bench.folder / "anna.person", ANNA)))
    figures: dict[str, Any] = {}

    def time_opening(name: str, recipe: Recipe) -> Any:
        started = time.perf_counter()
        plan = open_as(recipe, gpu, choice, "fp16")
        figures[name] = round(time.perf_counter() - started, 2)
        return plan

    shared, plan = time_opening("everybody_s", recipe), time_opening("person_s", personal)
    answer = CropRunner(personal, plan).restore(crop).pixels
    for opened in (shared, plan):
        opened.close()
    for name, reference in (("own_db", personal), ("everybodys_db", recipe)):
        engine = HostEngine(reference, device="onnx", threads=2)
        figures[name] = round(psnr(answer, engine.submit(crop).result().pixels), 2)
        engine.close()
    return figures


def _judge(bench: Bench, recipe: Recipe, opened: Any, figures: dict[str, Any]) -> None:
    """Opens an engine with one plan. Compares its graphs with golden crops."""
    started = time.perf_counter()
    plan, verdict = opened()
    figures |= {"opened_s": round(time.perf_counter() - started, 2), "golden_db": verdict.psnr, "ms": verdict.ms}
    if not verdict.passed:
        bench.run(plan.close)
        raise RuntimeError(f"{verdict.psnr:.1f} dB against its golden crops, {verdict.required:.1f} needed")
    started = time.perf_counter()
    engine = GpuEngine(bench.streams, recipe, plan, verdict, "for a measurement")
    try:
        batches = engine.batches
        assert batches is not None
        figures |= {
            "warm_up_s": round(time.perf_counter() - started, 2),
            "sizes": list(batches.sizes),
            "graphs": sorted(batches.graphs),
            "ms": engine.ms,
        }

        def compare() -> dict[int, float]:
            places = places_of(bench.streams.gpu, recipe) if recipe.recurrent else None
            golden = GoldenBatch(
                bench.streams, recipe, plan.identity.precision, verdict.required, batches.sizes[-1], places
            )
            try:
                worst: dict[int, float] = {}
                for count in (n for n in CROPS if n <= batches.sizes[-1]):
                    batches.run(golden.rows[:count], [], golden.memories).synchronize()
                    worst[count] = round(golden.worst(count), 2)
                return worst
            finally:
                golden.close()
                if places is not None:
                    places.close()

        figures["worst_db_by_crops"] = worst = bench.run(compare)
        if min(worst.values()) < verdict.required:
            raise RuntimeError(f"a batch gives {min(worst.values()):.1f} dB, {verdict.required:.1f} needed")
    finally:
        engine.close()
