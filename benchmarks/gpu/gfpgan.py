"""A network of GFPGAN v1.4's shape, in fp16 with exceptions as rtface runs it, against PyTorch in fp32 and compiled.

Random weights: only speed is measured, and that the answers are PyTorch's (the golden gate of a recipe made for it).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu import flops
from benchmarks.gpu.engines import Ours
from benchmarks.gpu.machine import Bench, TorchClock, interleaved, quantiles, ratio, repeats_for, torch_here
from rtface.engine.recipe import Recipe, load_recipe
from rtface.errors import MissingComponent

AIM_EAGER, AIM_COMPILED = 4.0, 1.5
_RECIPE = """
name = "portrait"
version = "1"
summary = "a network of GFPGAN's shape with random weights"
kind = "restorer"
[licence]
code = "Apache-2.0"
weights = "Apache-2.0"
commercial_use = true
data = "none"
[weights]
file = "model.onnx"
bytes = {bytes}
sha256 = "{sha256}"
parameters = {parameters}
[input]
name = "picture"
size = {side}
layout = "NCHW"
range = [-1, 1]
colour = "rgb"
[output]
name = "restored"
range = [-1, 1]
[alignment]
template = "ffhq"
[batch]
min = 1
opt = 1
max = {most}
[precision]
default = "bf16"
fallback = "f32"
fp32_nodes = {exceptions}
[golden]
file = "golden.npz"
[golden.psnr]
f32 = 60.0
fp16 = 35.0
bf16 = 25.0
"""


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--portrait-batches", default="1,4", help="gfpgan: batches, with commas")


def measure(bench: Bench, args: argparse.Namespace) -> dict[str, Any]:
    """See the module. Raises MissingComponent without PyTorch."""
    torch = torch_here()
    if torch is None:
        raise MissingComponent("this part needs PyTorch")
    sizes = [int(n) for n in args.portrait_batches.split(",")] if not bench.dry else [1]
    network, recipe = make(bench, torch, max(sizes))
    work, _ = flops.read(recipe.model_path, recipe.inputs)
    plan, verdict, why = bench.plan(recipe, precision=None if bench.dry else "fp16")
    result: dict[str, Any] = {
        "what": __doc__.splitlines()[0], "aims": {"torch fp32 eager": AIM_EAGER, "torch.compile bf16": AIM_COMPILED},
        "parameters": recipe.weights.parameters, "gflop": round(work / 1e9, 1), "why": why, "psnr": verdict.psnr,
        "plan": f"{plan.identity.backend} {plan.identity.library} {plan.identity.precision}"}
    runner, clock = Ours(bench, recipe, plan, max(sizes)), TorchClock(torch)
    try:
        for n in sizes:
            subjects = {"ours": lambda n=n: runner.milliseconds(n, graphs=True),
                        "ours without graphs": lambda n=n: runner.milliseconds(n, graphs=False),
                        **_torch_subjects(network, n, recipe.input.size, clock)}
            times = interleaved(subjects, bench.count(15, 1), bench.count(2, 0))
            result[str(n)] = {name: {"ms": quantiles(ms), "tflops": round(n * work / float(np.median(ms)) / 1e9, 1)}
                              for name, ms in times.items()}
            result[str(n)]["ratios"] = {name: ratio(ms, times["ours"]) for name, ms in times.items() if name != "ours"}
    finally:
        runner.close()
    return result


def make(bench: Bench, torch: Any, most: int) -> tuple[Any, Recipe]:
    """The network, and an engine's folder with it: exported to ONNX, with goldens of PyTorch's."""
    from benchmarks.gpu.portrait_network import PortraitNetwork
    side = bench.count(512, 64)
    torch.manual_seed(0)
    network = PortraitNetwork(side, 1.0 if not bench.dry else 1 / 32).eval()
    folder = bench.folder / "portrait"
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    crops = rng.integers(0, 256, (2, side // 16, side // 16, 3)).astype(np.uint8).repeat(16, 1).repeat(16, 2)
    clock = TorchClock(torch)
    network = network.to(clock.device)
    with clock.exact():
        given = torch.from_numpy(crops.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1).to(clock.device)
        answers = network(given)
        # The last step of random weights goes anywhere: brought to the range of pictures.
        for rgb in (network.first_rgb, *network.rgb):
            rgb.conv.weight.data *= 0.3 / float(answers.std())
        answers = ((network(given) + 1) / 2).clamp(0, 1).float().cpu().numpy()
    np.savez(folder / "golden.npz", crops=crops, restored=answers)
    _export(torch, network, given[:1], folder / "model.onnx")
    data = (folder / "model.onnx").read_bytes()
    (folder / "recipe.toml").write_text(_RECIPE.format(
        exceptions=json.dumps(_exceptions(folder / "model.onnx")), bytes=len(data), side=side, most=most,
        sha256=hashlib.sha256(data).hexdigest(), parameters=sum(p.numel() for p in network.parameters())))
    return network, load_recipe(folder / "recipe.toml")


def _exceptions(path: Path) -> list[str]:
    """The nodes that bring channels to unit length: sums of squares and their roots, which half precision does not
    hold."""
    import onnx
    return [node.name for node in onnx.load(str(path)).graph.node if node.op_type in ("MatMul", "Sqrt", "Reciprocal")]


def _export(torch: Any, network: Any, given: Any, path: Path) -> None:
    """One file with all weights in it, its batch left open."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, (given,), str(path), input_names=["picture"], output_names=["restored"],
                          dynamic_axes={"picture": {0: "n"}, "restored": {0: "n"}}, opset_version=18, dynamo=False)


def _torch_subjects(network: Any, batch: int, side: int, clock: TorchClock) -> dict[str, Callable[[], float]]:
    """The same network in PyTorch as people run it: eager fp32 without TF32, bf16, and that compiled."""
    import copy
    torch, device = clock.torch, clock.device

    def subject(dtype: Any, *, compiled: bool = False) -> Callable[[], float]:
        state: dict[str, Any] = {}

        def run() -> float:
            with clock.exact():
                if not state:
                    form = torch.channels_last if dtype != torch.float32 else torch.contiguous_format
                    made = copy.deepcopy(network).to(device, dtype).to(memory_format=form)
                    state["network"] = torch.compile(made, dynamic=False) if compiled else made
                    x = torch.rand(batch, 3, side, side, device=device).to(dtype) * 2 - 1
                    state["x"] = x.contiguous(memory_format=form)
                    ms = min(clock.milliseconds(lambda: state["network"](state["x"])) for _ in range(
                        3 if device == "cuda" else 1))
                    state["repeats"] = repeats_for(ms, 60.0) if device == "cuda" else 1
                return clock.milliseconds(lambda: state["network"](state["x"]), state["repeats"])
        return run

    found = {"torch fp32 eager": subject(torch.float32), "torch fp16 eager": subject(torch.float16),
             "torch bf16 channels-last": subject(torch.bfloat16)}
    if device == "cuda":
        found["torch.compile bf16"] = subject(torch.bfloat16, compiled=True)
    return found
