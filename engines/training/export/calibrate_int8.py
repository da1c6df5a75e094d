"""Measures int8 ranges: ``python -m training.export.calibrate_int8 --engine rtface-s --pairs runs/pairs``.

Runs the exported network on training crops in fp32 and writes ``int8.json`` next to it: for each convolution, an input
range that contains 99.99 % of the values of every crop. Outliers are clipped, because a range that includes them would
be coarser. Golden crops within these ranges test int8 on users' machines. Pairs come from ``data.film_pairs``, without
held-out people. Repeat this after every export: the file contains the hash of its weights, and only works with them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov

from rtface.engine.backends.openvino import read_network
from rtface.engine.crop_runner import CropRunner, FaceMemory, shrunk
from rtface.engine.recipe import Recipe, load_recipe
from rtface.protocols import Restored
from training.crop_space import F32, planes, whole
from training.data.shards import Pairs
from training.export.recipe_text import FLOAT_LAYERS

QUANTILE = 0.9999
"""Quantile of a crop's values that bounds the range."""

SHARP_STEP = 8
"""Step between crops that are also processed undegraded, because sharp faces cause larger values."""

SHARP_SHARE = 0.8
"""Share of undegraded crops whose range must be included."""

MAX_CLIPPED = 0.005
"""Maximum clipped share of any convolution's input for golden crops that test int8."""


def show_inputs(model: Any, exact: tuple[str, ...]) -> tuple[list[str], list[int]]:
    """Adds the inputs of convolutions to a network's outputs. Skips convolutions whose names contain one of ``exact``.
    Returns the names of the convolutions, and for each name the index of the output with the input."""
    convolutions = [op for op in model.get_ordered_ops() if op.get_type_name() == "Convolution"]
    names = [op.get_friendly_name().removesuffix("/WithoutBiases") for op in convolutions]
    quantised = [i for i, name in enumerate(names) if not any(part in name for part in exact)]
    sources = [convolutions[i].input_value(0) for i in quantised]
    keys = [(s.get_node().get_friendly_name(), s.get_index()) for s in sources]
    # Convolutions with the same input share one output, which may exist already.
    model.add_outputs([sources[keys.index(k)] for k in dict.fromkeys(keys)])
    outputs = [result.input_value(0) for result in model.get_results()]
    places = {(s.get_node().get_friendly_name(), s.get_index()): i for i, s in enumerate(outputs)}
    return [names[i] for i in quantised], [places[k] for k in keys]


class Probe:
    """A network that also outputs the inputs of its quantised convolutions."""

    def __init__(self, folder: Path) -> None:
        self.recipe = load_recipe(folder / "recipe.toml")
        model: Any = read_network(self.recipe, "f32")
        # Convolutions in ``FLOAT_LAYERS`` take almost no time, so they are not quantised.
        self.names, self.output_indices = show_inputs(model, FLOAT_LAYERS)
        self.request: Any = (
            ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}).create_infer_request()
        )

    def run(self, inputs: Mapping[str, F32], outputs: Mapping[str, F32]) -> None:
        """Runs the network. The interface is that of rtface's plans."""
        self.request.infer(dict(inputs))
        for name, value in outputs.items():
            value[:] = self.request.get_tensor(name).data

    def __call__(self, crop: F32, following: F32 | None = None) -> Iterator[list[F32]]:
        """Yields convolution inputs in the order of ``names``. The crop is float32 3×S×S.

        The inputs are views, valid until the next step. A network with memory also processes ``following`` (default:
        the same crop) with the memory of the first crop.
        """
        memory: Restored[F32] | None = None
        steps = (crop,) if not self.recipe.recurrent else (crop, crop if following is None else following)
        plan: Any = self
        restorer = CropRunner(self.recipe, plan)
        for step_crop in steps:
            if self.recipe.recurrent:
                # In a run, the memory of a first frame is empty (zeros). It has no effect, so the ranges ignore it.
                memory = memory or Restored(step_crop[None], [simulated_memory(self.recipe, step_crop)])
                memory = restorer.restore(step_crop[None], memory)
            else:
                restorer.restore(step_crop[None])
            yield [self.request.get_output_tensor(i).data for i in self.output_indices]


def simulated_memory(recipe: Recipe, crop: F32) -> FaceMemory:
    """Returns a memory as if this crop had been the previous frame."""
    picture = shrunk(crop, recipe.region, recipe.shrink)
    state = np.zeros(recipe.memory.shape, np.float32) if recipe.memory and recipe.memory.shape else None
    return FaceMemory(picture, state)


def bounds(values: F32) -> tuple[float, float]:
    """Returns the range of values between the quantiles 1 - ``QUANTILE`` and ``QUANTILE``."""
    flat = values.ravel()
    low, high = int((1 - QUANTILE) * (flat.size - 1)), int(np.ceil(QUANTILE * (flat.size - 1)))
    ordered: npt.NDArray[np.float32] = np.partition(flat, (low, high))
    return float(ordered[low]), float(ordered[high])


def calibrate(folder: Path, pairs: Path, count: int, seed: int) -> dict[str, Any]:
    """Measures the content of ``int8.json`` for the engine in ``folder``."""
    probe = Probe(folder)
    data = Pairs(pairs, probe.recipe.input.size)
    numbers = np.random.default_rng(seed).choice(len(data.index), count, replace=False)
    ranges = np.zeros((len(probe.names), 2))  # includes zero, because convolutions pad with zeros
    sharp: list[list[tuple[float, float]]] = []
    for place, number in enumerate(numbers):
        truth, seen = data.get(int(number))
        for inputs in probe(planes(whole(seen, probe.recipe.input.size))):
            for row, values in zip(ranges, inputs, strict=True):
                low, high = bounds(values)
                row[:] = min(row[0], low), max(row[1], high)
        if place % SHARP_STEP == 0:
            sharp += [[bounds(v) for v in inputs] for inputs in probe(planes(whole(truth, probe.recipe.input.size)))]
    # The most extreme sharp crops are excluded. They would make the ranges several times as wide, and thus coarser.
    low, high = np.quantile(sharp, 1 - SHARP_SHARE, 0)[:, 0], np.quantile(sharp, SHARP_SHARE, 0)[:, 1]
    ranges[:, 0], ranges[:, 1] = np.minimum(ranges[:, 0], low), np.maximum(ranges[:, 1], high)
    test_crops: list[int] = []
    goldens = np.load(folder / "golden.npz")
    for number, golden in enumerate(goldens["crops"]):
        steps = [golden, goldens["next_crops"][number]] if probe.recipe.recurrent else [golden]
        steps = [planes(s) for s in steps]
        worst = max(float(np.mean((v < low) | (v > high)))
                    for inputs in probe(*steps) for v, (low, high) in zip(inputs, ranges, strict=True))  # fmt: skip
        print(f"golden {number}: {worst:.2%} clipped in the worst convolution")
        if worst <= MAX_CLIPPED:
            test_crops.append(number)
    return {
        "weights": hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest(),
        "crops": test_crops,
        "convolutions": [
            {"name": name, "low": round(float(low), 5), "high": round(float(high), 5)}
            for name, (low, high) in zip(probe.names, ranges, strict=True)
        ],
    }


def write(path: Path, calibration: dict[str, Any]) -> None:
    """Writes a calibration as JSON, with one line for each convolution."""
    rows = ",\n  ".join(json.dumps(c) for c in calibration.pop("convolutions"))
    path.write_text(f'{{{json.dumps(calibration)[1:-1]},\n "convolutions": [\n  {rows}]}}\n', encoding="utf-8")


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--engine", required=True)
    p.add_argument("--pairs", type=Path, required=True, help="training pairs, never those of held-out people")
    p.add_argument("--count", type=int, default=96, help="number of pairs")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--out", type=Path, help="folder of the engine (default: the shipped engine)")
    a = p.parse_args()
    folder = a.out or Path(__file__).parents[2] / "shipped" / a.engine
    write(folder / "int8.json", calibrate(folder, a.pairs, a.count, a.seed))


if __name__ == "__main__":
    main()
