"""Ranges for int8: ``python -m engines.native.calibrate --engine rtface-s --pairs runs/pairs``.

Runs training crops through the exported network in fp32, looks at the input of every convolution, and writes
``int8.json`` beside the network: for each the range that holds 99.99 % of the values of every crop (the few beyond it
are clipped; the range of all would be coarser for the rest). The goldens that these ranges hold are the ones that
judge int8 on a user's machine. Pairs come from ``films``, which never films the people set aside unless told so.
Repeat it after every export: the file names the weights that it belongs to, and is not used with others.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov

from .data import Pairs
from .restorers import MAPS
from .space import F32, U8, roi

INSIDE = 0.9999
"""Share of a crop's values that its range holds."""

CLIPPED = 0.005
"""Goldens of which more than this share of any convolution's input is clipped do not judge int8."""


class Probe:
    """A network that also gives the input of each of its convolutions."""

    def __init__(self, path: Path) -> None:
        core: Any = ov.Core()
        model: Any = core.read_model(str(path))
        self.size = int(model.inputs[0].get_partial_shape()[2].get_length())
        picture = [1, 3, self.size, self.size]
        self.state = [int(d.get_length()) for port in model.inputs if port.get_any_name() == "state"
                      for d in list(port.get_partial_shape())[1:]]  # fmt: skip
        self.remembers = len(model.inputs) > 1
        shapes = {"crop": picture}
        if self.remembers:
            shapes |= {"still": picture, "moved": picture, "known": [1, 2, *MAPS]}
        if self.state:
            shapes["state"] = [1, *self.state]
        model.reshape(shapes)
        found = [op for op in model.get_ordered_ops() if op.get_type_name() == "Convolution"]
        self.names = [op.get_friendly_name().removesuffix("/WithoutBiases") for op in found]
        sources = [op.input_value(0) for op in found]
        keys = [(s.get_node().get_friendly_name(), s.get_index()) for s in sources]
        # Convolutions that share an input share an output of the probe, and one may read what is an output already.
        model.add_outputs([sources[keys.index(k)] for k in dict.fromkeys(keys)])
        shown = [result.input_value(0) for result in model.get_results()]
        places = {(s.get_node().get_friendly_name(), s.get_index()): i for i, s in enumerate(shown)}
        self.which = [places[k] for k in keys]
        self.request: Any = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}).create_infer_request()

    def __call__(self, crop: F32, following: F32 | None = None) -> Iterator[list[F32]]:
        """float32 1×3×S×S, 0..1 → the input of every convolution, in the order of ``names``; views until the next.

        A network with memory is also shown ``following`` (else the same again), knowing what it made of the first.
        """
        if not self.remembers:
            self.request.infer({"crop": crop})
            yield [self.request.get_output_tensor(i).data for i in self.which]
            return
        inputs = {"still": crop, "moved": crop}
        if self.state:
            inputs["state"] = np.zeros((1, *self.state), np.float32)
        for known, shown in ((0.0, crop), (1.0, crop if following is None else following)):
            self.request.infer({"crop": shown, **inputs, "known": np.full((1, 2, *MAPS), known, np.float32)})
            yield [self.request.get_output_tensor(i).data for i in self.which]
            restored = np.array(self.request.get_tensor("restored").data)
            inputs = {"still": restored, "moved": restored}
            if self.state:
                inputs["state"] = np.array(self.request.get_tensor("next").data)


def whole(part: U8, size: int) -> F32:
    """A pair's region of interest (uint8 h×w×3) in a crop that is black elsewhere: the networks see no more of it."""
    x, y, w, h = roi(size)
    crop = np.zeros((1, 3, size, size), np.float32)
    crop[0, :, y : y + h, x : x + w] = part.transpose(2, 0, 1).astype(np.float32) / 255
    return crop


def bounds(values: F32) -> tuple[float, float]:
    """The range that holds ``INSIDE`` of the values on either side."""
    flat = values.ravel()
    low, high = int((1 - INSIDE) * (flat.size - 1)), int(np.ceil(INSIDE * (flat.size - 1)))
    ordered: npt.NDArray[np.float32] = np.partition(flat, (low, high))
    return float(ordered[low]), float(ordered[high])


def calibrate(folder: Path, pairs: Path, count: int, seed: int) -> dict[str, Any]:
    """What ``int8.json`` holds, for the engine in ``folder``."""
    probe = Probe(folder / "model.onnx")
    data = Pairs(pairs, probe.size)
    numbers = np.random.default_rng(seed).choice(len(data.index), count, replace=False)
    ranges = np.zeros((len(probe.names), 2))  # zero is inside: convolutions pad with it
    for number in numbers:
        for inputs in probe(whole(data.get(int(number))[1], probe.size)):
            for row, values in zip(ranges, inputs, strict=True):
                low, high = bounds(values)
                row[:] = min(row[0], low), max(row[1], high)
    held: list[int] = []
    goldens = np.load(folder / "golden.npz")
    for number, golden in enumerate(goldens["crops"]):
        steps = [golden, goldens["next_crops"][number]] if probe.remembers else [golden]
        steps = [np.ascontiguousarray(s.transpose(2, 0, 1)[None], np.float32) / 255 for s in steps]
        worst = max(float(np.mean((v < low) | (v > high)))
                    for inputs in probe(*steps) for v, (low, high) in zip(inputs, ranges, strict=True))  # fmt: skip
        print(f"golden {number}: {worst:.2%} clipped where most is")
        if worst <= CLIPPED:
            held.append(number)
    return {
        "weights": hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest(),
        "crops": held,
        "convolutions": [
            {"name": name, "low": round(float(low), 5), "high": round(float(high), 5)}
            for name, (low, high) in zip(probe.names, ranges, strict=True)
        ],
    }


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--engine", choices=("rtface-s", "rtface-m"), required=True)
    p.add_argument("--pairs", type=Path, required=True, help="training pairs; never those of the people set aside")
    p.add_argument("--count", type=int, default=96, help="how many of them")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--out", type=Path, help="the engine's folder (default: the one in the package)")
    a = p.parse_args()
    folder = a.out or Path(__file__).parents[2] / "rtface" / "models" / a.engine
    found = calibrate(folder, a.pairs, a.count, a.seed)
    rows = ",\n  ".join(json.dumps(c) for c in found.pop("convolutions"))
    head = json.dumps(found)[1:-1]
    (folder / "int8.json").write_text(f'{{{head},\n "convolutions": [\n  {rows}]}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
