"""Measures published restorers on this CPU: OpenVINO in fp32, bf16 and int8 against eager PyTorch and ONNX Runtime.

usage: .venv-train/bin/python -m benchmarks.engines [OFFER …] [--threads 2] [--seconds 60] [--batch 1]

One offer of every architecture that is found here, where none is named. Weights are random: they cost the same time as
the published ones. Every form restores the same crop in turn, so that a busy machine is busy for all of them; the
result is a ratio. int8 is timed only: what it does to the picture depends on weights and on its calibration.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import openvino
import torch

from benchmarks.common import median_ratio, quantiles, save
from benchmarks.published import ROOT, folders
from engines.convert.offers import Offer, read_offer
from engines.convert.whole import export, ports
from rtface.engine.backends.int8 import Calibration, Convolution
from rtface.engine.backends.openvino import quantise

Form = Callable[[dict[str, np.ndarray]], Any]


def offers(names: list[str]) -> list[Offer]:
    """Those that are named, else the first of every architecture."""
    import tomllib

    found: dict[str, Offer] = {}
    for folder in folders():
        entries = tomllib.loads((folder / "offers.toml").read_text())["offers"]
        usable = [entry["name"] for entry in entries if "refused" not in entry]
        for name in usable if names else usable[:1]:
            if not names or name in names:
                found[name] = read_offer(folder, name)
    if missing := set(names) - set(found):
        sys.exit(f"there is no offer {min(missing)} in {', '.join(str(f.relative_to(ROOT)) for f in folders())}")
    return list(found.values())


def work(model: openvino.Model) -> float:
    """GMAC of a model's convolutions and products of matrices, for the shapes that it has."""
    total = 0.0
    for op in model.get_ops():
        kind = op.get_type_name()
        if kind in ("Convolution", "GroupConvolution"):
            weights = op.input(1).get_shape()
            total += np.prod(op.output(0).get_shape()) * np.prod(weights[1 if kind == "Convolution" else 2 :])
        elif kind == "MatMul":
            a = op.input(0).get_shape()
            total += np.prod(op.output(0).get_shape()) * a[-2 if op.get_attributes().get("transpose_a") else -1]
    return float(total) / 1e9


def in_int8(model: openvino.Model) -> int:
    """Makes every convolution of constant weights run in int8, over a range that the crops here hardly leave; how many
    there are."""
    names = []
    for op in model.get_ops():
        if op.get_type_name() == "Convolution":
            source = op.input_value(1).get_node()
            source = source.input_value(0).get_node() if source.get_type_name() == "Convert" else source
            if source.get_type_name() == "Constant":
                names.append(op.get_friendly_name().removesuffix("/WithoutBiases"))
    quantise(model, Calibration("", (), tuple(Convolution(name, -4.0, 4.0) for name in names)))
    return len(names)


def forms(
    offer: Offer, path: Path, module: torch.nn.Module, batch: int, threads: int
) -> tuple[dict[str, Form], dict[str, Any]]:
    """What runs the network, by name; and what it is."""
    core = openvino.Core()
    shapes = {offer.input: [batch, 3, offer.size, offer.size]} | {c: [batch, 1] for c in offer.controls}

    def opened(hint: str, int8: bool = False) -> tuple[Form, openvino.Model, int]:
        model = core.read_model(path)
        model.reshape(shapes)
        count = in_int8(model) if int8 else 0
        compiled = core.compile_model(
            model,
            "CPU",
            {
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_PRECISION_HINT": hint,
                "INFERENCE_NUM_THREADS": threads,
                "ENABLE_CPU_PINNING": False,
            },
        )
        request = compiled.create_infer_request()
        return request.infer, model, count

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def eager(given: dict[str, np.ndarray]) -> Any:
        with torch.no_grad():
            return module(*(torch.from_numpy(v) for v in given.values()))

    found: dict[str, Form] = {"torch eager f32": eager, "onnxruntime f32": lambda given: session.run(None, given)}
    found["openvino f32"], model, _ = opened("f32")
    about: dict[str, Any] = {
        "parameters": sum(p.numel() for p in module.parameters()),
        "gmac": round(work(model) / batch, 1),
        "size": offer.size,
    }
    capabilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if "BF16" in capabilities:
        found["openvino bf16"], *_ = opened("bf16")
    if "INT8" in capabilities:
        rest = "bf16" if "BF16" in capabilities else "f32"
        found["openvino int8"], _, about["int8_convolutions"] = opened(rest, int8=True)
    return found, about


def measure(offer: Offer, seconds: float, batch: int, threads: int) -> dict[str, Any]:
    """All forms of one network, in turn, for about so many seconds."""
    torch.manual_seed(0)
    module = offer.build()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(export(offer, module), str(path))
        runs, about = forms(offer, path, module, batch, threads)
        low, high = offer.range
        crops = np.random.default_rng(1).uniform(low, high, (batch, 3, offer.size, offer.size)).astype(np.float32)
        given = ports(offer, crops, {})
        times: dict[str, list[float]] = {name: [] for name in runs}
        for run in runs.values():
            run(given)
        began = time.monotonic()
        while time.monotonic() - began < seconds or len(times["torch eager f32"]) < 3:
            for name, run in runs.items():
                start = time.perf_counter()
                run(given)
                times[name].append(time.perf_counter() - start)
    base = times["torch eager f32"]
    return {
        **about,
        "rounds": len(base),
        "forms": {
            name: {
                "ms_a_crop": {k: round(v / batch, 2) for k, v in quantiles(spent).items()},
                "times_as_fast_as_eager": median_ratio(base, spent),
            }
            for name, spent in times.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("offers", nargs="*")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--seconds", type=float, default=60, help="for each network")
    parser.add_argument("--batch", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    found: dict[str, Any] = {}
    for offer in offers(asked.offers):
        found[offer.name] = measure(offer, asked.seconds, asked.batch, asked.threads)
        fast = {name: form["times_as_fast_as_eager"]["median"] for name, form in found[offer.name]["forms"].items()}
        print(offer.name, f"{found[offer.name]['gmac']} GMAC", fast, f"load {os.getloadavg()[0]:.1f}", flush=True)
        gc.collect()
    save(
        "engines" if asked.batch == 1 else f"engines_batch{asked.batch}",
        {
            "threads": asked.threads,
            "batch": asked.batch,
            "torch": torch.__version__,
            "onnxruntime": onnxruntime.__version__,
            "load_after": os.getloadavg()[0],
            "networks": found,
        },
    )


if __name__ == "__main__":
    main()
