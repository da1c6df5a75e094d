"""Compares the tracker's networks on a GPU, in batches, with the CPU.

The crops show one portrait at several places, sizes and angles. A batch's time includes its copies to the GPU and back.
"""

from __future__ import annotations

import argparse
import hashlib
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.gpu.frames import portrait
from benchmarks.gpu.machine import Bench, engine_recipe, quantiles
from rtface.device.cuda.gpu import aligned
from rtface.engine.recipe import Recipe
from rtface.engine.recipe_tables import Port, Precisions

INPUT = "crop"
SIZES = (1, 2, 4, 8)
NETWORKS: dict[str, tuple[str, int, str, dict[str, Any]]] = {
    "mesh": ("face_landmarks_detector.tflite", 256, "NHWC", {"divisor": 255.0}),
    "detector": ("face_detection_yunet_2023mar.onnx", 384, "NCHW", {"bgr": True}),
}
"""File, side of a crop, and further arguments of `rtface.tracking.network.TrackerNetwork`, by name."""
Answers = Sequence[np.ndarray]


@dataclass(frozen=True)
class _TrackerRecipe(Recipe):
    """Describes a network of the tracker like an engine. `ports`: shapes of all outputs."""

    ports: dict[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def outputs(self) -> dict[str, tuple[int, ...]]:
        return self.ports


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tracker-rounds", type=int, default=300, help="tracker: runs of each batch size")


def measure(bench: Bench, args: argparse.Namespace) -> dict[str, Any]:
    """Measures this part. Raises RuntimeError if a network runs in no precision."""
    # Other parts, which also load this module, need neither OpenVINO nor onnx.
    from engines.convert.tracker import to_onnx
    from rtface.tracking import models
    from rtface.tracking.detector import Detector
    from rtface.tracking.facemesh import FaceMesh
    from rtface.tracking.network import TrackerNetwork

    result: dict[str, Any] = {"what": __doc__.splitlines()[0]}
    short: list[str] = []
    for name, (file, size, layout, more) in NETWORKS.items():
        crops, error = crops_for(name), _mesh_error if name == "mesh" else _detector_error
        exact = TrackerNetwork(file, size, 1, layout=layout, **more)
        answers = [[output.copy() for output in exact(crop)] for crop in crops]
        usual = FaceMesh() if name == "mesh" else Detector()
        result[name] = figures = {"on the CPU": _on_cpu(usual.network, crops, bench.count(30, 1))}
        recipe = recipe_of(bench.folder, name, to_onnx(models.path(file), size, layout, **more))
        for precision in ("f32", "fp16"):
            try:
                figures[precision] = bench.run(
                    lambda r=recipe, p=precision, c=crops, a=answers, e=error: _on_gpu(
                        bench, r, p, c, bench.count(args.tracker_rounds, 2), lambda rows: e(a, rows)
                    )
                )
                ms = [figures[where]["4"]["ms"]["p50"] for where in (precision, "on the CPU")]
                short.append(f"{name}, 4 crops, {precision}: {ms[0]} ms, CPU {ms[1]}, {figures[precision]['px']} px")
            except Exception as failure:  # noqa: BLE001 - measures the other precision nevertheless
                traceback.print_exc()
                figures[precision] = {"error": f"{type(failure).__name__}: {failure}"}
            bench.save("tracker", result)
        if all("error" in figures[precision] for precision in ("f32", "fp16")):
            raise RuntimeError(f"the {name} does not run on this GPU: {figures['f32']['error']}")
    result["in_short"] = "; ".join(short)
    return result


def crops_for(name: str) -> list[np.ndarray]:
    """Returns uint8 crops of a portrait for a network's largest batch."""
    from rtface.tracking.facemesh import Region

    size, side = NETWORKS[name][1], 150.0 if name == "mesh" else 420.0
    regions = [Region(228 + 2 * k, 130 - k, side * (1 + 0.03 * k), 0.06 * (k - 4)) for k in range(SIZES[-1])]
    return [cv2.warpAffine(portrait(), region.matrix(size), (size, size)) for region in regions]


def recipe_of(folder: Path, name: str, model: Any) -> Recipe:
    """Saves a network's ONNX, and describes it like an engine."""
    data, base = model.SerializeToString(), engine_recipe("rtface-s", SIZES[-1])
    file, digest = f"{name}.onnx", hashlib.sha256(data).hexdigest()
    (folder / file).write_bytes(data)
    changed = {
        "name": f"tracker-{name}",
        "digest": digest,
        "folder": folder,
        "weights": replace(base.weights, file=file, sha256=digest, bytes=len(data)),
        "input": Port(INPUT, NETWORKS[name][1]),
        "memory": None,
        "precision": Precisions(),
        "ports": {o.name: tuple(d.dim_value for d in o.type.tensor_type.shape.dim[1:]) for o in model.graph.output},
    }
    return _TrackerRecipe(**{f.name: getattr(base, f.name) for f in fields(base)} | changed)


def _plan(bench: Bench, recipe: Recipe, precision: Any) -> Any:
    """Opens a plan on the thread that owns the GPU. No golden crops judge it, because its error is measured."""
    gpu = bench.streams.gpu
    if bench.dry:
        from tests.device.cuda.gpu_rig import FakePlan

        return FakePlan(recipe, gpu, max_batch=SIZES[-1])
    if bench.stood_in:
        from tests.gpu.torch_plan import TorchPlan

        return TorchPlan(recipe, gpu, precision)
    from rtface.engine.tensorrt import open_as
    from rtface.engine.tensorrt.library import choose, installed

    return open_as(recipe, gpu, choose(gpu.capability, installed(), gpu.name), precision)


def _on_gpu(
    bench: Bench,
    recipe: Recipe,
    precision: str,
    crops: Sequence[np.ndarray],
    rounds: int,
    error: Callable[[list[Answers]], float],
) -> dict[str, Any]:
    """Measures a network in one precision: milliseconds by batch size, and its error in pixels of a crop."""
    gpu, stream = bench.streams.gpu, bench.streams.compute
    started, plan = time.perf_counter(), _plan(bench, recipe, precision)
    figures: dict[str, Any] = {"opened_s": round(time.perf_counter() - started, 2), "px": 0.0, "graphs": []}
    nbytes = {name: 4 * SIZES[-1] * int(np.prod(shape)) for name, (_, shape) in plan.ports.items()}
    memory = {name: gpu.allocate(aligned(size)) for name, size in nbytes.items()}
    pinned = {name: gpu.pin(aligned(size)) for name, size in nbytes.items()}
    done, reads = gpu.event(), [memory[INPUT]]
    writes = [memory[name] for name in recipe.outputs] + ([plan.scratch] if plan.scratch else [])

    def enqueue(n: int) -> None:
        stream.call(lambda handle: plan.enqueue(handle, n), reads=reads, writes=writes)

    def run(n: int, graph: Any) -> float:
        begun = time.perf_counter()
        stream.copy(memory[INPUT], pinned[INPUT], nbytes[INPUT] * n // SIZES[-1])
        if graph is None:
            enqueue(n)
        else:
            stream.replay(graph, reads=reads, writes=writes)
        for name in recipe.outputs:
            stream.copy(pinned[name], memory[name], nbytes[name] * n // SIZES[-1])
        stream.record(done)
        done.synchronize()
        return 1e3 * (time.perf_counter() - begun)

    try:
        plan.bind(memory, SIZES)
        rows = np.stack(crops).transpose(0, 3, 1, 2).astype(np.float32) / 255
        pinned[INPUT].bytes()[: rows.nbytes] = rows.reshape(-1).view(np.uint8)
        for n in SIZES:
            run(n, None)  # compiles this size, as capturing requires
            graph = stream.capture(partial(enqueue, n)) if plan.capturable(stream.handle, n) else None
            figures["graphs"] += [] if graph is None else [n]
            run(n, graph)
            figures[str(n)] = {"ms": quantiles([run(n, graph) for _ in range(rounds)])}
            outputs = [pinned[name].bytes()[: nbytes[name]].view(np.float32) for name in recipe.outputs]
            arrays = [o.reshape(SIZES[-1], *shape) for o, shape in zip(outputs, recipe.outputs.values(), strict=True)]
            figures["px"] = round(max(figures["px"], error([[array[k] for array in arrays] for k in range(n)])), 4)
    finally:
        plan.close()
        for block in (*memory.values(), *pinned.values()):
            block.close()
    return figures


def _on_cpu(network: Any, crops: Sequence[np.ndarray], rounds: int) -> dict[str, Any]:
    """Measures the tracker's usual way, one crop after another: milliseconds by number of crops."""

    def run(n: int) -> float:
        begun = time.perf_counter()
        for crop in crops[:n]:
            network(crop)
        return 1e3 * (time.perf_counter() - begun)

    return {str(n): {"ms": quantiles([run(n) for _ in range(rounds)])} for n in SIZES}


def _mesh_error(exact: Sequence[Answers], rows: Sequence[Answers]) -> float:
    """Returns the largest distance of a point from the CPU's."""
    apart = [(a[0].reshape(478, 3) - b[0].reshape(478, 3))[:, :2] for a, b in zip(exact, rows, strict=False)]
    return float(np.linalg.norm(apart, axis=2).max())


def _detector_error(exact: Sequence[Answers], rows: Sequence[Answers]) -> float:
    """Returns the largest distance of a landmark from the CPU's.

    Compares the cell that the CPU rates highest.
    """
    worst = 0.0
    for a, b in zip(exact, rows, strict=False):
        scores = [(a[i] * a[i + 3]).reshape(-1) for i in range(3)]
        level = int(np.argmax([score.max() for score in scores]))
        cell = int(scores[level].argmax())
        points = [one[9 + level].reshape(-1, 5, 2)[cell] * 8 * 2**level for one in (a, b)]
        worst = max(worst, float(np.linalg.norm(points[0] - points[1], axis=1).max()))
    return worst
