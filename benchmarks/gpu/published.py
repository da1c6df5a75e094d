"""Published restorers, as rtface runs them, against PyTorch in fp32 and compiled; batches of 1 to 16.

Those that the user added are measured as they are, the others with random weights where PyTorch is here: then the
figures are speeds, and what the golden gate found says how near the plan is to PyTorch, not what it makes of faces.
"""

from __future__ import annotations

import argparse
import copy
import gc
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.gpu import flops
from benchmarks.gpu.engines import Ours
from benchmarks.gpu.machine import Bench, TorchClock, interleaved, quantiles, ratio, repeats_for, torch_here
from benchmarks.gpu.published_engines import Published, find, names
from rtface.engine.plan import GoldenResult, candidates, gate
from rtface.engine.recipe import Recipe
from rtface.engine.recipe_tables import Precision
from rtface.errors import DeviceLost, EngineError, MissingComponent, OutOfDeviceMemory

EAGER, COMPILED = "torch fp32 eager", "torch.compile bf16"
AIMS = {EAGER: 4.0, COMPILED: 1.5}
BATCHES = "1,2,4,8,16"


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--published", default="", help="published: which networks, with commas; all when not given")
    parser.add_argument("--published-batches", default=BATCHES, help="published: batches, with commas")
    parser.add_argument(
        "--published-compile",
        default="1,4",
        help="published: batches that torch.compile is asked for; each takes up to minutes",
    )


def measure(bench: Bench, args: argparse.Namespace) -> dict[str, Any]:
    """See the module. A network that cannot be measured is named with the reason; MissingComponent where none can."""
    wanted = args.published.split(",") if args.published else list(names())[: bench.count(99, 1)]
    sizes = [int(n) for n in args.published_batches.split(",")] if not bench.dry else [1, 2]
    compiled = [int(n) for n in args.published_compile.split(",") if n]
    networks: dict[str, Any] = {}
    for name in wanted:
        try:
            networks[name] = _network(bench, find(bench, name), sizes, compiled)
        except DeviceLost:
            raise
        except (EngineError, MissingComponent, OutOfDeviceMemory) as error:
            networks[name] = {"error": str(error)}
            print(f"{name}: {error}", file=sys.stderr, flush=True)
        gc.collect()
    if all("error" in found for found in networks.values()):
        raise MissingComponent("; ".join(found["error"] for found in networks.values()))
    print("\n".join(table(networks)), flush=True)
    return {"what": __doc__.splitlines()[0], "aims": AIMS, "networks": networks}


def _network(bench: Bench, published: Published, sizes: list[int], compiled: list[int]) -> dict[str, Any]:
    recipe = published.recipe
    sizes = [n for n in sizes if n <= recipe.batch.max]
    work, _ = flops.read(recipe.model_path, recipe.inputs)
    plan, verdicts, why = judged(bench, recipe, take_any=published.random)
    out: dict[str, Any] = {
        "weights": "random" if published.random else "the user's",
        "parameters": recipe.weights.parameters,
        "gflop": round(work / 1e9, 1),
        "plan": f"{plan.identity.backend} {plan.identity.library}",
        "why": why,
        "precision": plan.identity.precision,
        "gate": verdicts,
        "batches": {},
    }
    runner = Ours(bench, recipe, plan, max(sizes))
    torch = torch_here()
    try:
        for n in sizes:
            subjects = {
                "ours": lambda n=n: runner.milliseconds(n, graphs=True),
                "ours without graphs": lambda n=n: runner.milliseconds(n, graphs=False),
            }
            if published.network is not None:
                subjects |= torch_subjects(published, n, TorchClock(torch), compile_too=n in compiled)
            times = interleaved(subjects, bench.count(15, 1), bench.count(2, 0))
            out["batches"][str(n)] = summary(times, n, work)
            del subjects
            if torch is not None:
                gc.collect()
                torch.cuda.empty_cache()
    finally:
        runner.close()
    return out


def summary(times: Mapping[str, list[float]], batch: int, work: int) -> dict[str, Any]:
    """Of each subject's milliseconds: quantiles, crops and operations a second, and how many times as fast ours is."""
    out: dict[str, Any] = {}
    for name, ms in times.items():
        middle = float(np.median(ms))
        out[name] = {
            "ms": quantiles(ms),
            "crops_per_s": round(1e3 * batch / middle, 1),
            "tflops": round(batch * work / middle / 1e9, 1),
        }
    if "ours" in times:
        out["ratios"] = {name: ratio(ms, times["ours"]) for name, ms in times.items() if name != "ours"}
    return out


def judged(bench: Bench, recipe: Recipe, *, take_any: bool) -> tuple[Any, dict[str, Any], str]:
    """A plan, what the golden gate found about each precision that was tried, and why this backend.

    The plan is the first that passes; with `take_any` the first that can be built: what rounding does to random weights
    decides nothing. Raises EngineError where there is none.
    """
    if bench.dry:
        plan, verdict, why = bench.plan(recipe)
        return plan, {"f32": _told(verdict)}, why
    supported, build, why = backend(bench)
    found: dict[str, Any] = {}
    for precision in candidates(recipe, supported, mixed=True):
        try:
            plan = bench.run(lambda p=precision: build(recipe, p))
        except (OutOfDeviceMemory, DeviceLost):
            raise
        except EngineError as error:
            found[precision] = {"error": str(error)}
            continue
        try:
            verdict = bench.run(lambda plan=plan: gate(recipe, plan))
        except BaseException:
            bench.run(plan.close)
            raise
        found[precision] = _told(verdict)
        if verdict.passed or take_any:
            return plan, found, why
        bench.run(plan.close)
    raise EngineError(f"engine {recipe.name}: no plan of it can be used: {found}")


def _told(verdict: GoldenResult) -> dict[str, Any]:
    return {"psnr": verdict.psnr, "required": verdict.required, "passed": verdict.passed}


def backend(bench: Bench) -> tuple[tuple[Precision, ...], Callable[[Recipe, Precision], Any], str]:
    """TensorRT's precisions, what makes a plan in one of them on the GPU's thread, and why this library."""
    from rtface.engine import tensorrt
    from rtface.engine.tensorrt.library import choose, installed, precisions

    gpu = bench.streams.gpu
    choice = choose(gpu.capability, installed(), gpu.name)
    return precisions(gpu.capability), lambda recipe, p: tensorrt.open_as(recipe, gpu, choice, p), choice.reason


def torch_subjects(
    published: Published, batch: int, clock: TorchClock, *, compile_too: bool
) -> dict[str, Callable[[], float]]:
    """The same network in PyTorch as people run it: eager fp32 without TF32, fp16, bf16, and that compiled."""
    torch, device = clock.torch, clock.device

    def subject(dtype: Any, *, compiled: bool = False) -> Callable[[], float]:
        state: dict[str, Any] = {}

        def prepare() -> None:
            form = torch.channels_last if dtype != torch.float32 else torch.contiguous_format
            made = copy.deepcopy(published.network).to(device, dtype)
            for weights in made.parameters():  # GFPGAN has some of five axes, which have no such form
                if weights.ndim == 4:
                    weights.data = weights.data.contiguous(memory_format=form)
            crops, *constants = published.inputs(batch)
            given = [crops.to(device, dtype).contiguous(memory_format=form), *(c.to(device, dtype) for c in constants)]
            network = torch.compile(made, dynamic=False) if compiled else made
            state["work"] = lambda: network(*given)
            ms = min(clock.milliseconds(state["work"]) for _ in range(3 if device == "cuda" else 1))
            state["repeats"] = repeats_for(ms, 60.0) if device == "cuda" else 1

        def run() -> float:
            with clock.exact():
                if not state:
                    prepare()
                return clock.milliseconds(state["work"], state["repeats"])

        return run

    found = {
        EAGER: subject(torch.float32),
        "torch fp16 eager": subject(torch.float16),
        "torch bf16 channels-last": subject(torch.bfloat16),
    }
    if device == "cuda" and compile_too:
        found[COMPILED] = subject(torch.bfloat16, compiled=True)
    return found


def table(networks: Mapping[str, Any]) -> list[str]:
    """The figures as a table, a line for each network and batch."""
    lines = [
        "| network | plan, dB (least) | batch | ms p50 / p95 / p99 | crops a second | × eager | × compiled |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, found in networks.items():
        if "error" in found:
            lines.append(f"| {name} | {found['error']} | | | | | |")
            continue
        verdict = found["gate"][found["precision"]]
        plan = (
            f"{found['precision']}, {verdict['psnr']:.1f} ({verdict['required']:.1f})"
            + ", refused" * (not verdict["passed"])
            + ", random weights" * (found["weights"] == "random")
        )
        for batch, figures in found["batches"].items():
            if "ours" not in figures:
                continue
            ms, ratios = figures["ours"]["ms"], figures.get("ratios", {})
            times = (
                f"{ratios[k]['median']:.2f} ({ratios[k]['min']:.2f})" if k in ratios else "" for k in (EAGER, COMPILED)
            )
            lines.append(
                f"| {name} | {plan} | {batch} | {ms['p50']:.2f} / {ms['p95']:.2f} / {ms['p99']:.2f} | "
                f"{figures['ours']['crops_per_s']:.1f} | {' | '.join(times)} |"
            )
    return lines
